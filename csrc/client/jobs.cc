// Jobs.
#include <sys/eventfd.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "csrc/base/clock.h"
#include "csrc/base/units.h"
#include "csrc/client/core.h"
#include "csrc/client/queued_work.h"

namespace rtswap::client {
namespace {

using State = JobRecord::State;

// The answer of a daemon with nothing else to do comes within this time of the request.
constexpr int64_t kWatch_ns = 300_us;

bool runs(const JobRecord& job) {
  return job.state == State::started || job.state == State::ending;
}

void announce(JobRecord& job) {
  job.announced.store(true, std::memory_order_release);
  job.changed.notify_all();
  if (job.ready_fd) (void)eventfd_write(job.ready_fd.get(), 1);
}

// The arbiter's own rule: the deadline of a release that comes early counts from one period after
// the release before.
int64_t next_deadline(TaskRecord& task, int64_t release_ns) {
  const Timing& timing = task.verdict.timing;
  if (timing.period_ns <= 0) return protocol::kNoDeadline_ns;
  if (task.counted_from_ns != INT64_MIN) {
    release_ns = std::max(release_ns, task.counted_from_ns + timing.period_ns);
  }
  if (timing.deadline_ns > protocol::kNoDeadline_ns - release_ns) return protocol::kNoDeadline_ns;
  task.counted_from_ns = release_ns;
  return release_ns + timing.deadline_ns;
}

}  // namespace

void Core::count_restored(JobRecord& job) const {
  uint64_t restored_bytes = 0;
  for (const engine::ArenaId id : job.arenas) {
    const auto stats = devices_[arena_at(id).device]->engine().stats(id);
    if (!stats) return;
    restored_bytes += stats->restored_bytes;
  }
  job.info.restored_bytes = restored_bytes - job.restored_before_bytes;
}

bool Core::wholly_resident(const JobRecord& job) const {
  return std::all_of(job.arenas.begin(), job.arenas.end(),
                     [this](engine::ArenaId id) { return arena_at(id).resident(0); });
}

bool Core::can_start(const JobRecord& job) const {
  if (!job.granted) return false;
  if (job.start == Start::whole || job.arenas.size() > 1) return wholly_resident(job);
  return arena_at(job.arenas.front()).resident(job.first_chunks);
}

Result<JobPtr> Core::release(const TaskPtr& task, int64_t release_ns, bool exclusive, Start start) {
  const Turn turn(*this);
  RTSWAP_TRY(check_task(*task));
  if (task->verdict.state == protocol::TaskState::paused) {
    return fail(
        ErrorCode::job_dropped,
        "task \"" + task->options.name + "\" is paused and gets no jobs: call its resume() first");
  }
  if (const auto loss = loss_of(task->arenas)) return fail(*loss);
  auto job = std::make_shared<JobRecord>();
  for (const engine::ArenaId id : task->arenas) {
    RTSWAP_ASSIGN(const engine::ArenaStats stats,
                  devices_[arena_at(id).device]->engine().stats(id));
    job->restored_before_bytes += stats.restored_bytes;
  }
  job->id = ++last_job_;
  job->task = task->id;
  job->arenas = task->arenas;
  job->start = start;
  job->requested_ns = monotonic_now_ns();
  job->info.index = task->released++;
  job->info.release_ns = release_ns != 0 ? release_ns : job->requested_ns;
  job->info.deadline_ns =
      exclusive ? protocol::kNoDeadline_ns : next_deadline(*task, job->info.release_ns);
  jobs_[job->id] = job;
  answer(protocol::Release{job->id, task->id, job->info.release_ns, job->info.deadline_ns});
  return job;
}

void Core::arena_changed(const ArenaRecord& arena) {
  std::vector<JobPtr> settled;
  for (const auto& [id, job] : jobs_) {
    if (!uses(*job, arena.id)) continue;
    if (job->state == State::waiting) {
      if (!can_start(*job)) continue;
      job->state = State::ready;
      job->info.started_ns = monotonic_now_ns();
      announce(*job);
    } else if (job->state == State::started) {
      job->changed.notify_all();
    } else if (job->state == State::settling && wholly_resident(*job)) {
      settled.push_back(job);
    }
  }
  for (const JobPtr& job : settled) report_done(job);
}

// Looks for an answer for a moment before sleeping: a thread that sleeps wakes up some 50 us after
// it, a good part of what a grant takes.
void Core::watch_for_answer(const JobRecord& job, int64_t limit_ns) {
  int64_t give_up_ns = job.requested_ns + kWatch_ns;
  if (limit_ns >= 0) {
    give_up_ns = std::min(give_up_ns, monotonic_now_ns() + std::min(limit_ns, kWatch_ns));
  }
  std::unique_lock lock(mutex_);
  const std::shared_ptr<protocol::Link> link = link_;
  lock.unlock();
  while (!job.announced.load(std::memory_order_acquire) && monotonic_now_ns() < give_up_ns) {
    if (link) link->poll();
    std::this_thread::yield();
  }
}

Result<bool> Core::wait(const JobPtr& job, int64_t limit_ns) {
  watch_for_answer(*job, limit_ns);
  std::unique_lock lock(mutex_);
  const bool in_time =
      wait_limited(job->changed, lock, limit_ns, [&] { return job->state != State::waiting; });
  if (!in_time) return false;
  if (job->error) return fail(*job->error);
  if (job->state != State::ready) return true;
  job->state = State::started;
  job->woken_ns = monotonic_now_ns();
  job->info.waited_ns = job->info.started_ns - job->requested_ns;
  for (const engine::ArenaId id : job->arenas) {
    const ArenaRecord& arena = arena_at(id);
    devices_[arena.device]->engine().mark_used(id);
    job->info.first_chunks += arena.landed;
    job->info.arena_chunks += arena.published->chunks;
  }
  count_restored(*job);
  return true;
}

std::optional<Error> Core::no_more_chunks(const JobRecord& job, uint32_t chunks) const {
  if (job.given_up) return job.given_up;
  const auto arena = arenas_.find(job.arenas.front());
  if (job.state != State::started || closing_ || arena == arenas_.end()) {
    return Error{ErrorCode::closed, "the job was ended while it waited for its memory"};
  }
  // What was granted before the link was lost still lands.
  if (phase_ != Phase::connected && arena->second.next_position < chunks) return unusable();
  return std::nullopt;
}

Result<uint32_t> Core::wait_for_chunks(const JobPtr& job, uint32_t chunks, int64_t limit_ns) {
  std::unique_lock lock(mutex_);
  if (job->error) return fail(*job->error);
  if (job->state != State::started) {
    return fail(ErrorCode::invalid_argument, "only a job that has started can wait for its memory");
  }
  if (chunks > job->info.arena_chunks) {
    return fail(ErrorCode::invalid_argument, "the arena has " +
                                                 std::to_string(job->info.arena_chunks) +
                                                 " chunks, not " + std::to_string(chunks));
  }
  if (job->arenas.size() > 1) return job->info.arena_chunks;  // all of it, since the start
  const engine::ArenaId id = job->arenas.front();
  if (const uint32_t now = find_arena(id)->landed; now >= chunks) return now;
  const int64_t since_ns = monotonic_now_ns();
  uint32_t landed = 0;
  std::optional<Error> hopeless;
  wait_limited(job->changed, lock, limit_ns, [&] {
    const ArenaRecord* const arena = find_arena(id);
    landed = arena == nullptr ? 0 : arena->landed;
    hopeless = landed < chunks ? no_more_chunks(*job, chunks) : std::nullopt;
    return landed >= chunks || hopeless.has_value();
  });
  job->info.chunks_waited_ns += monotonic_now_ns() - since_ns;
  if (hopeless) return fail(*hopeless);
  return landed;
}

void Core::wake_running_jobs() {
  for (const auto& [id, job] : jobs_) {
    if (runs(*job)) job->changed.notify_all();
  }
}

int Core::ready_descriptor(const JobPtr& job) {
  const std::lock_guard lock(mutex_);
  if (!job->ready_fd) {
    const bool ready = job->state != State::waiting;
    job->ready_fd.reset(eventfd(ready ? 1 : 0, EFD_CLOEXEC | EFD_NONBLOCK));
  }
  return job->ready_fd.get();
}

void Core::fail_job(JobRecord& job, const Error& error) {
  if (job.state == State::over) return;
  job.state = State::over;
  job.error = error;
  announce(job);
}

void Core::fail_waiting_jobs(const Error& error) {
  std::erase_if(jobs_, [&](const auto& entry) {
    if (runs(*entry.second)) return false;
    // A settling one is over for its owner; only the arbiter was still to hear of it.
    if (entry.second->state != State::settling) fail_job(*entry.second, error);
    return true;
  });
  wake_running_jobs();
}

bool Core::has_running_jobs() const {
  return std::any_of(jobs_.begin(), jobs_.end(),
                     [](const auto& entry) { return runs(*entry.second); });
}

void Core::cancel(const JobPtr& job) {
  {
    const Turn turn(*this);
    if (job->state == State::over || job->state == State::ending || job->state == State::settling) {
      return;
    }
    if (job->state != State::started) {
      withdraw(job, {ErrorCode::interrupted, "the job was cancelled"});
      return;
    }
  }
  (void)end(job, {});
}

void Core::withdraw(const JobPtr& job, const Error& error) {
  const bool ready = job->state == State::ready;
  fail_job(*job, error);
  if (ready) {
    settle(job);
  } else if (job->granted || phase_ != Phase::connected) {
    report_done(job);
  } else {
    answer(protocol::CancelJob{job->id});  // remembered until Dropped or Run answers
  }
}

std::optional<Error> Core::loss_of(const std::vector<engine::ArenaId>& arenas) const {
  for (const engine::ArenaId id : arenas) {
    if (auto loss = devices_[arena_at(id).device]->loss()) return loss;
  }
  return std::nullopt;
}

void Core::fail_jobs_of_lost_devices() {
  std::vector<JobPtr> jobs;  // some are taken out of the table on the way
  for (const auto& [id, job] : jobs_) jobs.push_back(job);
  for (const JobPtr& job : jobs) {
    if (job->state == State::over) continue;  // its arenas may be closed by now
    const auto loss = loss_of(job->arenas);
    if (!loss) continue;
    if (!job->given_up) job->given_up = *loss;
    if (runs(*job)) {
      job->changed.notify_all();
    } else if (job->state == State::settling) {
      report_done(job);
    } else {
      withdraw(job, *loss);
    }
  }
}

Status Core::end(const JobPtr& job, std::span<const std::vector<driver::StreamHandle>> streams) {
  std::vector<std::shared_ptr<Device>> devices;
  {
    const std::lock_guard lock(mutex_);
    if (job->error) return fail(*job->error);
    if (job->state != State::started) {
      return fail(ErrorCode::invalid_argument, "only a job that has started, and once, can end");
    }
    job->state = State::ending;
    job->changed.notify_all();  // whoever waits for chunks of it
    for (const engine::ArenaId id : job->arenas) devices.push_back(devices_[arena_at(id).device]);
  }
  Status first_failure;
  for (size_t i = 0; i < devices.size(); ++i) {
    Status status = devices[i]->complete(
        i < streams.size() ? std::span(streams[i]) : std::span<const driver::StreamHandle>());
    if (first_failure && !status) first_failure = std::move(status);
  }
  const Turn turn(*this);
  finish(job, monotonic_now_ns());
  if (!first_failure) fail_jobs_of_lost_devices();
  return first_failure;
}

Result<std::unique_ptr<QueuedWork>> Core::queued_work(
    const JobPtr& job, std::span<const std::vector<driver::StreamHandle>> streams) {
  std::vector<std::shared_ptr<Device>> devices;
  {
    const std::lock_guard lock(mutex_);
    if (job->error) return fail(*job->error);
    if (job->state != State::started) {
      return fail(ErrorCode::invalid_argument, "only a job that has started has work queued");
    }
    for (const engine::ArenaId id : job->arenas) devices.push_back(devices_[arena_at(id).device]);
  }
  auto work = std::make_unique<MarkedWork>();
  for (size_t i = 0; i < devices.size(); ++i) {
    RTSWAP_TRY(work->add(devices[i], i < streams.size() ? std::span(streams[i])
                                                        : std::span<const driver::StreamHandle>()));
  }
  return work;
}

void Core::finish(const JobPtr& job, int64_t ended_ns) {
  job->info.ended_ns = ended_ns;
  count_restored(*job);
  // The time spent waiting for chunks is not execution. On a GPU work queued before such a wait may
  // have run during it; then this tells less than the whole, never more.
  job->info.execution_ns =
      std::max<int64_t>(0, ended_ns - job->woken_ns - job->info.chunks_waited_ns);
  settle(job);
}

void Core::settle(const JobPtr& job) {
  // Nothing more lands for a job that the arbiter gave up, or does not know of after a lost link.
  if (wholly_resident(*job) || job->given_up || phase_ != Phase::connected) {
    report_done(job);
    return;
  }
  job->state = State::settling;
  changed_.notify_all();
}

void Core::report_done(const JobPtr& job) {
  job->state = State::over;
  if (phase_ == Phase::connected) answer(protocol::JobDone{job->id, job->info.execution_ns});
  jobs_.erase(job->id);
  changed_.notify_all();
}

JobInfo Core::info(const JobRecord& job) const {
  const std::lock_guard lock(mutex_);
  return job.info;
}

}  // namespace rtswap::client
