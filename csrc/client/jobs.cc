// Jobs, from the request on.
#include <sys/eventfd.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "csrc/base/clock.h"
#include "csrc/base/units.h"
#include "csrc/client/core.h"

namespace rtswap::client {
namespace {

using State = JobRecord::State;

// The answer of a daemon with nothing else to do comes within this time of the request.
constexpr int64_t kWatch_ns = 300_us;

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

void Core::announce(JobRecord& job) {
  job.announced.store(true, std::memory_order_release);
  job.changed.notify_all();
  if (job.ready_fd) (void)eventfd_write(job.ready_fd.get(), 1);
}

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
    if (job->runs()) job->changed.notify_all();
  }
}

Result<int> Core::ready_descriptor(const JobPtr& job) {
  const std::lock_guard lock(mutex_);
  if (!job->ready_fd) {
    const bool ready = job->state != State::waiting;
    job->ready_fd.reset(eventfd(ready ? 1 : 0, EFD_CLOEXEC | EFD_NONBLOCK));
  }
  if (job->ready_fd) return job->ready_fd.get();
  return fail(ErrorCode::descriptor_limit,
              "this process may not open more files, and waiting for a job without a thread takes "
              "one: raise the limit (ulimit -n)");
}

JobInfo Core::info(const JobRecord& job) const {
  const std::lock_guard lock(mutex_);
  return job.info;
}

}  // namespace rtswap::client
