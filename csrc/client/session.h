// This process's side of a session: one connection to an arbiter (daemon or embedded), the engines
// of the devices in use, and the tasks and jobs of the process. The Python binding sits directly on
// this header; it adds tensors, nothing else.
//
// A lost link: running jobs go on and end normally, waiting jobs fail with `daemon_unavailable`,
// memory and data stay; the session reconnects by itself (a new attempt every 200 ms), reports what
// it holds, hands descriptors back when asked and opens its tasks again.
// Fork: in a child of fork() every call returns `closed`; the child never touches the parent's
// link, threads or memory.
//
// Threads: every method may be called from any thread. Methods marked "blocks" wait for the arbiter
// or the device: callers release the GIL. Time limits are durations in ns; < 0: no limit.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "csrc/arbiter/arbiter.h"
#include "csrc/base/interrupted.h"
#include "csrc/base/result.h"
#include "csrc/driver/driver.h"
#include "csrc/engine/engine.h"
#include "csrc/protocol/messages.h"

namespace rtswap::client {

using protocol::LatePolicy;
using protocol::OnRefusal;
using protocol::TaskState;
using protocol::Timing;
using protocol::Verdict;

// The arbiter inside this process, with a bank of its own.
struct EmbeddedOptions {
  std::string device_uuid;       // empty: the only CUDA device (several: an error that lists them)
  uint64_t budget_bytes = 0;     // 0: 80 % of what is free now
  uint64_t chunk_bytes = 0;      // 0: bank::default_chunk_bytes(budget)
  uint64_t simulated_bytes = 0;  // > 0: a simulated device with a bank of this size instead of CUDA
  uint64_t simulated_bytes_per_s = 0;  // its link bandwidth; 0: the simulated driver's default
};

enum class ArbiterChoice : uint8_t {
  automatic,  // a daemon where a socket exists (a refusing socket is an error), else embedded
  daemon,
  embedded,
};

struct ConnectOptions {
  ArbiterChoice choice = ArbiterChoice::automatic;
  std::string socket_path;  // empty: RTSWAP_SOCKET, else the default places
  EmbeddedOptions embedded;
  std::string process_name;  // empty: the executable's name
  std::string library_version;
  std::string grpc_library;   // path of librtswap_grpc.so
  uint64_t static_bytes = 0;  // memory beside the bank this process will use on each device
  bool verify = false;        // engine::EngineOptions::verify
  bool guard = false;         // a chunk of NaN on each device in use: engine/guard.h
  std::function<void(uint32_t done, uint32_t total)> progress;  // making or importing chunks
  Interrupted interrupted = {};  // asked while connect() waits for a daemon
};

struct TaskOptions {
  std::string name;
  Timing timing;
  bool resident = false;
  LatePolicy late = LatePolicy::drop;
  OnRefusal on_refusal = OnRefusal::refuse;
  int32_t importance = 0;  // within protocol::kMostImportance and its negative
  // A task that spans devices: its memory on others, one arena on each, all published. Its jobs get
  // all of their devices at one instant, and start when all of their memory is there.
  std::vector<engine::ArenaId> further_arenas = {};
};

// What must be there when a job starts.
enum class Start : uint8_t {
  prefix,  // as much as the arbiter says: its owner waits for the rest by wait_for_chunks()
  whole,   // all memory of its arena
};

// Everything one job can tell. Instants are CLOCK_MONOTONIC ns; 0: has not happened.
struct JobInfo {
  uint64_t index = 0;  // of this task, from 0
  int64_t release_ns = 0;
  int64_t deadline_ns = 0;  // kNoDeadline_ns: none
  int64_t started_ns = 0;   // granted, with the memory it starts with there
  int64_t ended_ns = 0;     // its device work had completed
  int64_t waited_ns = 0;    // from the request to started
  // From when its owner's thread went on to the end, less waits for chunks; what its cost is about.
  // The wake-up before it is a part of the round trip that promises charge to every job.
  int64_t execution_ns = 0;
  uint64_t restored_bytes = 0;   // for this job, since its request; so far, until it has ended
  uint32_t first_chunks = 0;     // of its arenas that were there when it started
  uint32_t arena_chunks = 0;     // of all that there are; both 0 before the start
  int64_t chunks_waited_ns = 0;  // since then, in wait_for_chunks
};

// The work that was queued on some streams when Job::queued_work() was called.
class QueuedWork {
 public:
  virtual ~QueuedWork() = default;

  // Whether all of it has completed. Does not block, and leaves stream captures of the calling
  // thread and of others alone. `device_lost`.
  virtual Result<bool> completed() = 0;
};

class Job {
 public:
  virtual ~Job() = default;  // a job that is neither ended nor cancelled is cancelled

  // Waits up to `limit_ns` for the grant and for the memory to start with. true: started; false:
  // still waiting. Errors end the job: job_dropped, daemon_unavailable, closed, out_of_memory.
  // Blocks.
  virtual Result<bool> wait(int64_t limit_ns) = 0;

  // Of a started job: waits up to `limit_ns` until the arena's first `chunks` have landed and
  // returns how many have; fewer: still waiting. What has landed stays until end(). An error says
  // that the rest does not come any more (the arbiter gave the job up, the link was lost before the
  // memory was granted, the session was closed); the job can only be ended then. Blocks. From any
  // thread.
  virtual Result<uint32_t> wait_for_chunks(uint32_t chunks, int64_t limit_ns) = 0;

  // A descriptor that polls readable once wait(0) would not return false. The job's own.
  // `descriptor_limit`.
  virtual Result<int> ready_descriptor() = 0;

  // Gives up waiting. When the grant has crossed it on the wire it is returned at once. Idempotent.
  virtual void cancel() = 0;

  // Ends a started job: waits until the work queued so far on `streams` has completed. Blocks. The
  // grant is returned then, also when waiting fails (`device_lost`); of an arena that is still
  // being restored, once that is done, which is not waited for.
  virtual Status end(std::span<const driver::StreamHandle> streams) = 0;

  // The same for a task that spans devices: the streams of each arena's device, in the order of its
  // arenas.
  virtual Status end_on_all(std::span<const std::vector<driver::StreamHandle>> streams) = 0;

  // For owners that must not block in end(): the work queued so far, on streams as in end_on_all().
  // The job goes on until it is ended.
  virtual Result<std::unique_ptr<QueuedWork>> queued_work(
      std::span<const std::vector<driver::StreamHandle>> streams) = 0;

  virtual JobInfo info() const = 0;
};

class Task {
 public:
  virtual ~Task() = default;

  virtual const std::string& name() const = 0;
  virtual Verdict verdict() const = 0;

  // Waits for the arbiter's answer to the last request (open, update, resume). Blocks; timed_out.
  virtual Result<Verdict> wait_verdict(int64_t limit_ns) = 0;

  // Re-tested by the arbiter; on refusal the old timing stays and the error is its reason. Blocks.
  virtual Result<Verdict> update(const Timing& timing, int64_t limit_ns) = 0;
  virtual Status pause() = 0;
  virtual Result<Verdict> resume(int64_t limit_ns) = 0;

  // Requests a job released at `release_ns` (CLOCK_MONOTONIC; 0: now). `exclusive`: no deadline,
  // best effort, whatever the task: warm-up and reading outside jobs. `job_dropped`: it is paused.
  virtual Result<std::shared_ptr<Job>> release(int64_t release_ns, bool exclusive, Start start) = 0;

  // Ends the task; waiting jobs fail with `closed`. REQUIRES: no job of it is started. Idempotent.
  virtual Status close() = 0;
};

class Session {
 public:
  // Connects, waits for Welcome, makes the bank. Blocks; `interrupted`.
  static Result<std::shared_ptr<Session>> connect(ConnectOptions options);

  virtual ~Session() = default;

  virtual bool embedded() const = 0;
  virtual bool connected() const = 0;
  // For people: "rtswapd 0.1.0 at /run/...sock" or "the arbiter embedded in this process".
  virtual std::string arbiter_name() const = 0;
  virtual const std::vector<protocol::DeviceDescription>& devices() const = 0;

  // Index of a device by UUID; `unknown_device` names the ones there are.
  virtual Result<uint32_t> find_device(const std::string& uuid) const = 0;

  // Prepares a device of this session for use: driver, bank import, engine, and one measurement of
  // the link, which is reported to the arbiter. `static_memory` when static_bytes and the guard do
  // not fit beside the bank, `out_of_memory` when there is no room for the guard. Idempotent; done
  // by open_arena as well. Blocks; `interrupted` while it waits for a daemon.
  virtual Status use_device(uint32_t device, const Interrupted& interrupted = {}) = 0;

  // An arena for one or several tasks. Segments are added (outside jobs), their images filled by
  // the caller, then publish_arena makes the arbiter know the new size: the first one at once, a
  // larger one once the tasks of the arena have passed with it. Blocks; `timed_out`: not answered
  // yet, call again. Refused: the old size stays in force.
  virtual Result<engine::ArenaId> open_arena(uint32_t device, const std::string& label) = 0;
  virtual Result<engine::Segment> add_segment(engine::ArenaId arena, engine::Kind kind,
                                              uint64_t bytes) = 0;
  virtual Status publish_arena(engine::ArenaId arena, int64_t limit_ns) = 0;
  // Takes segments that were added since the last size in force out again, with their images.
  virtual Status discard_growth(engine::ArenaId arena) = 0;
  // Of a scratch segment, which chunks keep their contents; see Engine::keep_scratch(). Called
  // within a job of the arena, before its end. Blocks while host memory is made.
  virtual Status keep_scratch(engine::ArenaId arena, driver::Address segment_address,
                              std::span<const engine::ByteRange> bytes) = 0;
  // Of a segment, never to be used again by this process; see Engine::keep_addresses().
  virtual Status keep_addresses(engine::ArenaId arena, driver::Address segment_address) = 0;
  // Brings every byte that only the device has to the host images. Needs neither a grant nor a link
  // to the arbiter; the arena can only be closed afterwards. REQUIRES: its tasks are closed.
  // Blocks.
  virtual Status save_arena(engine::ArenaId arena) = 0;
  // REQUIRES: its tasks are closed. Blocks until unmapped.
  virtual Status close_arena(engine::ArenaId arena) = 0;
  virtual Result<engine::ArenaStats> arena_stats(engine::ArenaId arena) const = 0;

  // `duplicate_name` when this process has a task of that name.
  virtual Result<std::shared_ptr<Task>> open_task(engine::ArenaId arena, TaskOptions options) = 0;

  // The arbiter's view of everything (all processes). Blocks for one round trip; timed_out.
  virtual Result<arbiter::Snapshot> snapshot(int64_t limit_ns) = 0;

  // Common start of all clocks: the instant once it is known, 0 while tasks are still awaited, and
  // nullopt when the arbiter does not hold tasks back.
  virtual std::optional<int64_t> common_start_ns() const = 0;

  // Ends all tasks, says goodbye, frees everything. Blocks. Idempotent.
  virtual Status close() = 0;
};

}  // namespace rtswap::client
