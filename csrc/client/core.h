// The state behind session.h, shared by the handles of session, tasks and jobs. One mutex guards
// all of it; nothing that blocks on the device or the arbiter happens under it.
//
//   core.cc       beginning and end          dispatch.cc   what arbiter and engines say
//   devices.cc    devices                    reconnect.cc  after a lost link
//   arenas.cc     arenas                     tasks.cc      tasks
//   jobs.cc       jobs, from the request     job_ends.cc   their ends
//
// Order of locks: the mutex of Core is taken inside calls of links and engines to it, and calls of
// Core to link.send() and engine commands are made under it; neither of these calls back.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "csrc/client/arbiter_source.h"
#include "csrc/client/device.h"
#include "csrc/client/fork_guard.h"
#include "csrc/client/records.h"
#include "csrc/client/session.h"
#include "csrc/protocol/link.h"

namespace rtswap::client {

using TaskPtr = std::shared_ptr<TaskRecord>;
using JobPtr = std::shared_ptr<JobRecord>;

class Core final : private protocol::LinkReceiver, private engine::EngineListener {
 public:
  Core(std::unique_ptr<ArbiterSource> source, ConnectOptions options);
  ~Core() override;
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  // Asked before anything else by every handle.
  bool in_child() const noexcept { return fork_guard_.in_child(); }

  // The methods of Session, Task and Job, which say what they mean.
  Status open(const Interrupted& interrupted);
  Status close();
  bool embedded() const noexcept { return !source_->can_reconnect(); }
  bool connected() const;
  std::string arbiter_name() const;
  const std::vector<protocol::DeviceDescription>& devices() const { return descriptions_; }
  Result<uint32_t> find_device(const std::string& uuid) const;
  std::optional<int64_t> common_start_ns() const;
  Result<arbiter::Snapshot> snapshot(int64_t limit_ns);

  Status use_device(uint32_t device, const Interrupted& interrupted);
  Result<engine::ArenaId> open_arena(uint32_t device, const std::string& label);
  Result<engine::Segment> add_segment(engine::ArenaId arena, engine::Kind kind, uint64_t bytes);
  Status publish_arena(engine::ArenaId arena, int64_t limit_ns);
  Status discard_growth(engine::ArenaId arena);
  Status keep_scratch(engine::ArenaId arena, driver::Address segment_address,
                      std::span<const engine::ByteRange> bytes);
  Status keep_addresses(engine::ArenaId arena, driver::Address segment_address);
  Status save_arena(engine::ArenaId arena);
  Status close_arena(engine::ArenaId arena);
  Result<engine::ArenaStats> arena_stats(engine::ArenaId arena) const;

  Result<TaskPtr> open_task(engine::ArenaId arena, TaskOptions options);
  Verdict verdict(const TaskRecord& task) const;
  Result<Verdict> wait_verdict(const TaskPtr& task, int64_t limit_ns);
  Result<Verdict> update(const TaskPtr& task, const Timing& timing, int64_t limit_ns);
  Status pause(const TaskPtr& task);
  Result<Verdict> resume(const TaskPtr& task, int64_t limit_ns);
  Status close_task(const TaskPtr& task);

  Result<JobPtr> release(const TaskPtr& task, int64_t release_ns, bool exclusive, Start start);
  Result<bool> wait(const JobPtr& job, int64_t limit_ns);
  Result<uint32_t> wait_for_chunks(const JobPtr& job, uint32_t chunks, int64_t limit_ns);
  Result<int> ready_descriptor(const JobPtr& job);
  // Of a started job as well: then as end() on the default stream, which its owner left to us.
  void cancel(const JobPtr& job);
  // Streams by arena of the task; none: the default stream of its device.
  Status end(const JobPtr& job, std::span<const std::vector<driver::StreamHandle>> streams);
  Result<std::unique_ptr<QueuedWork>> queued_work(
      const JobPtr& job, std::span<const std::vector<driver::StreamHandle>> streams);
  JobInfo info(const JobRecord& job) const;

 private:
  static constexpr uint32_t kNoDevice = UINT32_MAX;

  enum class Phase : uint8_t {
    connecting,  // waits for Welcome, the first or a later one
    connected,
    lost,   // between two attempts to reconnect
    ended,  // closed, or ended by the arbiter: for good
  };

  // --- dispatch.cc: called by link and engines; take the mutex ---
  void on_message(protocol::ArbiterMessage message) override;
  void on_lost(const Error& error) override;
  void on_restored(engine::ArenaId arena, uint32_t landed_chunks) override;
  void on_evicted(engine::ArenaId arena, uint32_t resident_chunks,
                  uint64_t written_back_bytes) override;
  void on_restore_failed(engine::ArenaId arena, uint32_t resident_chunks,
                         const Error& error) override;
  void on_evict_failed(engine::ArenaId arena, uint32_t resident_chunks,
                       const Error& error) override;
  void answer_eviction(engine::ArenaId arena, uint32_t resident_chunks,
                       uint64_t written_back_bytes);

  // --- the rest: REQUIRES the mutex unless said otherwise ---
  void on(const protocol::Welcome& message);
  void on(const protocol::Verdict& message);
  void on(const protocol::Grant& message);
  void on(const protocol::Revoke& message);
  void on(const protocol::Run& message);
  void on(const protocol::Dropped& message);
  void on(const protocol::Begin& message);
  void on(const protocol::Fault& message);
  // Which device of this Welcome is which of ours; ends the session when the memory is another.
  void match_devices(const protocol::Welcome& message);
  // Nothing of a closing arena is mapped any more: others wait for its memory, not for what its
  // process does with the bytes.
  void give_memory_back(engine::ArenaId id);
  void settle_resize(ArenaRecord& arena, const Verdict& verdict);
  void forget_landed(ArenaRecord& arena);

  // A device in use that the arbiter has not got any more since it was started again: what this
  // process had there has ended, for good, and the arbiter knows nothing of it.
  bool gone(uint32_t device) const;
  Error gone_error(uint32_t device) const;
  // The first such device among those of the task.
  std::optional<uint32_t> gone_device(const TaskRecord& task) const;
  // Everything there goes back to the host images, so that nothing is lost with the memory.
  void evict_all(uint32_t device);

  // The error of every call when the session is not connected; empty: it is.
  std::optional<Error> unusable() const;
  // Holds the mutex, and at its end lets the arbiter take in what was said: on this thread, where
  // it is in this process.
  class Turn {
   public:
    explicit Turn(Core& core) : Turn(core, std::unique_lock(core.mutex_)) {}
    Turn(Core& core, std::unique_lock<std::mutex> lock) : core_(core), lock_(std::move(lock)) {}
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    Core& core_;
    std::unique_lock<std::mutex> lock_;
  };

  // To an arbiter that is connected; what is not sent is made up for when the session resumes.
  void send(protocol::ClientMessage message);
  // What an engine or a job did. Also sent between Hello and the end of resuming: the arbiter may
  // ask at once. REQUIRES a Turn, or a message of the arbiter that this answers.
  void answer(protocol::ClientMessage message);
  // The session is over for good: everybody who waits is told, nothing is sent any more.
  void end_for_good(const Error& error);
  void fail_waiting_jobs(const Error& error);
  // Wakes whoever waits for the job: it waits no longer.
  static void announce(JobRecord& job);
  void fail_job(JobRecord& job, const Error& error);
  // The same, and the arbiter is told. REQUIRES: waiting or ready.
  void withdraw(const JobPtr& job, const Error& error);
  // Why the context of a device of these arenas is lost; empty: it is not known to be.
  std::optional<Error> loss_of(const std::vector<engine::ArenaId>& arenas) const;
  // What jobs on devices with a lost context wait for does not come any more.
  void fail_jobs_of_lost_devices();
  // What the job starts with is there, on all of its devices.
  bool can_start(const JobRecord& job) const;
  // All of its memory is.
  bool wholly_resident(const JobRecord& job) const;
  void count_restored(JobRecord& job) const;
  // More of the arena has landed, or less is there: jobs that have what they start with are ready,
  // those that wait for chunks look again, and those that only waited for the end are done.
  void arena_changed(const ArenaRecord& arena);
  // Why no more chunks come for this job; empty: they may.
  std::optional<Error> no_more_chunks(const JobRecord& job, uint32_t chunks) const;
  // Jobs that wait for chunks look again.
  void wake_running_jobs();
  // Takes the mutex.
  void watch_for_answer(const JobRecord& job, int64_t limit_ns);
  void finish(const JobPtr& job, int64_t ended_ns);
  // Reports a job whose memory its owner has left: once nothing of it lands any more.
  void settle(const JobPtr& job);
  void report_done(const JobPtr& job);
  bool has_running_jobs() const;

  ArenaRecord* find_arena(engine::ArenaId id);
  // REQUIRES: it is open.
  const ArenaRecord& arena_at(engine::ArenaId id) const { return arenas_.at(id); }
  TaskRecord* find_task(protocol::TaskId id);
  // The arena, when it and the session can be used.
  Result<ArenaRecord*> open_arena_of(engine::ArenaId id);
  Status check_task(const TaskRecord& task) const;
  // Takes the mutex.
  Result<std::shared_ptr<Device>> device_of(engine::ArenaId id) const;
  // Takes the arena out of use, for good. Its device is returned.
  Result<std::shared_ptr<Device>> retire(engine::ArenaId id);
  void send_open_arena(const ArenaRecord& arena);
  void request_resize(ArenaRecord& arena);
  bool has_jobs(engine::ArenaId id) const;
  void report_device(uint32_t index);
  // What this process uses beside the bank of a device: what was announced, and the guard.
  uint64_t static_bytes_on(const protocol::DeviceDescription& device) const;
  void send_open_task(TaskRecord& task);
  Result<Verdict> wait_answer(std::unique_lock<std::mutex>& lock, const TaskPtr& task,
                              int64_t limit_ns);
  static Result<Verdict> refusal_as_error(Result<Verdict> answer);

  // Takes `link` into use, says Hello and waits for the answer. Takes the mutex; blocks.
  Status greet(const std::shared_ptr<protocol::Link>& link, protocol::Hello hello,
               const Interrupted& interrupted);
  // Blocks, without the mutex.
  Result<std::shared_ptr<Device>> make_device(const protocol::DeviceDescription& description,
                                              std::shared_ptr<driver::Driver> driver,
                                              std::shared_ptr<const bank::Bank> bank);
  void reconnect_until_ended();
  Status try_to_resume();
  Result<protocol::Hello> describe_holdings();
  Status offer_banks(protocol::Link& link, const Interrupted& interrupted);
  void reopen(const protocol::Hello& hello);
  void release_link();
  void close_everything(std::unique_lock<std::mutex>& lock);

  const ForkGuard fork_guard_;
  const std::unique_ptr<ArbiterSource> source_;  // outlives links, devices
  ConnectOptions options_;
  std::vector<protocol::DeviceDescription> descriptions_;  // constant once open() has returned

  // One device is prepared at a time. Taken before mutex_, and never with Python's GIL: its holder
  // asks whether it is interrupted.
  std::mutex device_mutex_;

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  Phase phase_ = Phase::connecting;
  Error reason_;  // of lost and ended
  bool closing_ = false;
  bool closed_ = false;
  std::shared_ptr<protocol::Link> link_;
  bool link_up_ = false;
  std::optional<protocol::Welcome> welcome_;  // the last one
  protocol::SessionId session_ = 0;           // as it was last told
  std::vector<uint32_t> remote_indices_;      // of descriptions_[i] there; kNoDevice: not there
  std::optional<int64_t> begin_ns_;

  std::vector<std::shared_ptr<Device>> devices_;  // by index; empty: not used
  std::vector<LinkSpeed> speeds_;
  std::map<engine::ArenaId, ArenaRecord> arenas_;
  std::map<protocol::TaskId, TaskPtr> tasks_;
  std::map<protocol::JobId, JobPtr> jobs_;  // that the arbiter may still speak of
  engine::ArenaId last_arena_ = 0;
  protocol::TaskId last_task_ = 0;
  protocol::JobId last_job_ = 0;

  std::thread reconnector_;
};

// Waits on `changed` until `done()`; false when the limit (ns; < 0: none) ended first.
template <class Done>
bool wait_limited(std::condition_variable& changed, std::unique_lock<std::mutex>& lock,
                  int64_t limit_ns, Done done) {
  // Beyond any wait that somebody means, and short enough not to overflow the clock.
  constexpr int64_t kForever_ns = int64_t{366} * 24 * 3600 * 1'000'000'000;
  if (limit_ns < 0 || limit_ns > kForever_ns) {
    changed.wait(lock, done);
    return true;
  }
  return changed.wait_for(lock, std::chrono::nanoseconds(limit_ns), done);
}

// Connects through any source: what Session::connect does once it has chosen one, and the seam for
// tests.
Result<std::shared_ptr<Session>> connect_through(std::unique_ptr<ArbiterSource> source,
                                                 ConnectOptions options);

}  // namespace rtswap::client
