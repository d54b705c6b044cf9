// The session protocol as C++ values: what a client process and the arbiter say to each other.
// proto/rtswap/v1/arbiter.proto is the same vocabulary on the wire (csrc/rpc/codec_client.cc and
// codec_arbiter.cc convert); the embedded arbiter passes these structs as they are.
// docs/protocol.md tells the story.
//
// Units: `_bytes`; `_ns` = CLOCK_MONOTONIC for instants, plain ns for durations. Memory is counted
// in chunks. Ids of arenas, tasks and jobs are chosen by the client, unique within its session and
// never reused.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "csrc/base/result.h"

namespace rtswap::protocol {

// Raised when old peers could misread new messages. Additions that old peers may ignore keep it.
inline constexpr uint32_t kVersion = 2;

using SessionId = uint64_t;  // given by the arbiter; never reused within one arbiter life
using ArenaId = uint32_t;
using TaskId = uint32_t;
using JobId = uint64_t;
using ChunkId = uint32_t;  // index in the bank of one device, 0 .. chunk_count - 1

// No deadline: best-effort work, and residents outside jobs.
inline constexpr int64_t kNoDeadline_ns = INT64_MAX;

// ------------------------------------------------------------------------- client to arbiter

// What a client still holds when it comes back after a lost link.
struct HeldArena {
  ArenaId arena = 0;
  uint32_t device = 0;  // index into Welcome::devices of the lost session
  std::string device_uuid;
  uint32_t chunks = 0;            // size of the arena
  std::vector<ChunkId> resident;  // chunk under position 0, 1, ...: the resident prefix
};

// First message of a session. A client that resumes names its old session; it then opens its
// arenas (`held`) in this message and its tasks by OpenTask as usual.
struct Hello {
  uint32_t protocol_version = kVersion;
  std::string process_name;  // for people: "camera", shown as name@pid
  std::string library_version;
  int64_t pid = 0;                // as the client sees it; identity comes from peer credentials
  SessionId resumed_session = 0;  // 0: a new client
  std::vector<HeldArena> held;
};

// Facts about one device as this client measured them, once, before its first arena there.
struct DeviceReport {
  uint32_t device = 0;
  uint64_t static_bytes = 0;  // context, torch's own pool, workspaces: memory beside the bank
  uint64_t restore_bytes_per_s = 0;  // host to device, the worst seen; 0: unknown
  uint64_t evict_bytes_per_s = 0;    // device to host
};

struct OpenArena {
  ArenaId arena = 0;
  uint32_t device = 0;
  uint32_t chunks = 0;          // whole size
  uint32_t mutable_chunks = 0;  // of these, written back at eviction
};

// The arena grew: positions from the old size on are new, not resident, and their bytes are in host
// memory. Sent outside its jobs; its tasks are tested again (refused: the old size stays).
struct ResizeArena {
  ArenaId arena = 0;
  uint32_t chunks = 0;
  uint32_t mutable_chunks = 0;
};

struct CloseArena {
  ArenaId arena = 0;  // its chunks are unmapped already; the arbiter takes them back
};

// Of a task, larger is more: who keeps a promise when not all can be kept, and the order of work
// that has none. What clients and task files take lies within this and its negative; an arbiter
// only compares.
inline constexpr int32_t kMostImportance = 1000;

enum class LatePolicy : uint8_t { drop, run };
enum class OnRefusal : uint8_t { refuse, best_effort };

// A stretch of a job's execution that needs no more than the arena's first `chunks`.
struct LayerNeed {
  uint32_t chunks = 0;       // > 0, not less than that of the layer before
  int64_t execution_ns = 0;  // > 0
  bool operator==(const LayerNeed&) const = default;
};

// Timing of a task. `period_ns` is the minimum distance of releases; 0: aperiodic, best effort.
struct Timing {
  int64_t period_ns = 0;
  int64_t deadline_ns = 0;  // relative; 0 < deadline <= period
  int64_t wcet_ns = 0;      // execution alone on the device, all memory resident; 0: not known yet
  // In order of execution, wcet_ns together. A client that gives them can start a job on a prefix
  // of its arena and wait for each further chunk. Empty: a job starts with all its memory there.
  std::vector<LayerNeed> layers = {};
};

struct OpenTask {
  TaskId task = 0;
  ArenaId arena = 0;
  std::string name;
  Timing timing;
  bool resident = false;  // never evicted once restored
  LatePolicy late = LatePolicy::drop;
  OnRefusal on_refusal = OnRefusal::refuse;
  // A task that spans devices: its memory on others, one arena on each. Its jobs get all of their
  // devices at one instant or none, start when all arenas are resident, and end on all with one
  // JobDone. It is never promised anything.
  std::vector<ArenaId> further_arenas = {};
  int32_t importance = 0;
};

// New timing for an open task: re-tested; when refused the old timing stays.
struct UpdateTask {
  TaskId task = 0;
  Timing timing;
};

struct PauseTask {
  TaskId task = 0;  // its share of the test is freed; releases are refused until ResumeTask
};
struct ResumeTask {
  TaskId task = 0;  // re-tested like a new task
};
struct CloseTask {
  TaskId task = 0;
};

// A job asks for memory and the GPU.
struct Release {
  JobId job = 0;
  TaskId task = 0;
  int64_t release_ns = 0;  // nominal release: the deadline counts from here
  // Absolute; kNoDeadline_ns: best effort. What the client counts with; the arbiter takes the
  // deadline of the timing in force. Neither instant is negative.
  int64_t deadline_ns = 0;
};

// The client no longer wants the job (time-out, Ctrl-C). Answered by Dropped, or crosses a Run,
// in which case the client ends the job at once with JobDone.
struct CancelJob {
  JobId job = 0;
};

// All device work of the job has completed.
struct JobDone {
  JobId job = 0;
  int64_t execution_ns = 0;  // from when its owner went on, less waits for chunks
};

// Chunks of a Grant have landed: the arena's first `landed_chunks` positions hold their bytes.
struct Restored {
  ArenaId arena = 0;
  uint32_t landed_chunks = 0;
};

// Answer to Revoke: everything from position `resident_chunks` on is unmapped.
struct Evicted {
  ArenaId arena = 0;
  uint32_t resident_chunks = 0;
  uint64_t written_back_bytes = 0;
};

// A restore failed at the driver; the arena keeps its first `resident_chunks` positions and has
// unmapped the rest. The chunks are the arbiter's again.
struct RestoreFailed {
  ArenaId arena = 0;
  uint32_t resident_chunks = 0;
  Error error;
};

struct Goodbye {};

using ClientMessage = std::variant<Hello, DeviceReport, OpenArena, ResizeArena, CloseArena,
                                   OpenTask, UpdateTask, PauseTask, ResumeTask, CloseTask, Release,
                                   CancelJob, JobDone, Restored, Evicted, RestoreFailed, Goodbye>;

// ------------------------------------------------------------------------- arbiter to client

struct DeviceDescription {
  std::string uuid;
  std::string name;
  bool simulated = false;
  uint64_t total_bytes = 0;
  std::string bank_id;  // changes when the chunks are new ones
  uint64_t chunk_bytes = 0;
  uint32_t chunk_count = 0;
  uint64_t simulated_bytes_per_s = 0;  // link bandwidth of the simulated device
};

struct Welcome {
  uint32_t protocol_version = kVersion;
  std::string arbiter_version;
  SessionId session = 0;
  uint64_t epoch = 0;  // one arbiter life; messages of another are discarded
  std::vector<DeviceDescription> devices;
  uint32_t wait_for_tasks = 0;  // > 0: jobs() clocks start at Begin
};

enum class TaskState : uint8_t { loading, warming, admitted, best_effort, refused, paused };
const char* to_string(TaskState state) noexcept;

// Where a task stands now; sent after OpenTask, UpdateTask, ResumeTask, and whenever it changes.
struct Verdict {
  TaskId task = 0;
  TaskState state = TaskState::loading;
  bool request_refused = false;  // the last OpenTask/UpdateTask/ResumeTask was refused
  Error reason;                  // when refused or best effort: why, and what would fit
  Timing timing;                 // in force (a task file of the daemon may override the client's)
  bool resident = false;
  LatePolicy late = LatePolicy::drop;
  int64_t response_bound_ns = 0;  // promised worst response; 0: nothing is promised
  int64_t block_ns = 0;           // GPU time the test charges for one job
  // Each job restores in the background before it takes the GPU, and that takes `lead_ns` if
  // nothing comes in between. Otherwise (direct) it restores while it has the GPU.
  bool staged = false;
  int64_t lead_ns = 0;
  // How many requests about this task (OpenTask, UpdateTask, PauseTask, ResumeTask, and ResizeArena
  // of its arena) it takes account of: what tells an answer from a change that crossed the request.
  uint32_t requests_answered = 0;
  int32_t importance = 0;  // in force, as the timing
  // Of an admitted task: why its bound does not hold until its device is next idle. Empty: it does.
  std::string suspended;
};

// These chunks are yours: map chunks[i] at position first_position + i and restore it.
struct Grant {
  ArenaId arena = 0;
  uint32_t first_position = 0;
  std::vector<ChunkId> chunks;
};

// Evict positions keep_chunks.. from the tail, then answer Evicted. Grants sent earlier come first.
struct Revoke {
  ArenaId arena = 0;
  uint32_t keep_chunks = 0;
};

// The GPU is this job's. It starts when the arena's first `first_chunks` have landed (0: all of it;
// others are only sent for tasks with layers) and each Revoke so far was answered, and ends with
// JobDone, after its last Restored.
struct Run {
  JobId job = 0;
  uint32_t first_chunks = 0;
};

// The job will not run; or, after Run, gets no more memory than it has. Then JobDone answers, as
// soon as the job has ended.
struct Dropped {
  JobId job = 0;
  Error reason;  // job_dropped, closed, out_of_memory, ...
};

// Common start instant of all clocks (Welcome::wait_for_tasks).
struct Begin {
  int64_t start_ns = 0;
};

// The session ends because of `error`; nothing of the client's data is touched.
struct Fault {
  Error error;
};

using ArbiterMessage = std::variant<Welcome, Verdict, Grant, Revoke, Run, Dropped, Begin, Fault>;

}  // namespace rtswap::protocol
