// Jobs.
#include <sys/eventfd.h>

#include <algorithm>
#include <utility>

#include "csrc/base/clock.h"
#include "csrc/client/core.h"

namespace rtswap::client {
namespace {

using State = JobRecord::State;

bool runs(const JobRecord& job) {
  return job.state == State::started || job.state == State::ending;
}

void announce(JobRecord& job) {
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

Result<JobPtr> Core::release(const TaskPtr& task, int64_t release_ns, bool exclusive) {
  const std::lock_guard lock(mutex_);
  RTSWAP_TRY(check_task(*task));
  auto job = std::make_shared<JobRecord>();
  RTSWAP_ASSIGN(const engine::ArenaStats stats,
                devices_[task->device]->engine().stats(task->arena));
  job->id = ++last_job_;
  job->task = task->id;
  job->arena = task->arena;
  job->requested_ns = monotonic_now_ns();
  job->restored_before_bytes = stats.restored_bytes;
  job->info.index = task->released++;
  job->info.release_ns = release_ns != 0 ? release_ns : job->requested_ns;
  job->info.deadline_ns =
      exclusive ? protocol::kNoDeadline_ns : next_deadline(*task, job->info.release_ns);
  jobs_[job->id] = job;
  send(protocol::Release{job->id, task->id, job->info.release_ns, job->info.deadline_ns});
  return job;
}

void Core::make_ready(const ArenaRecord& arena) {
  if (!arena.resident()) return;
  for (const auto& [id, job] : jobs_) {
    if (job->arena != arena.id || job->state != State::waiting || !job->granted) continue;
    job->state = State::ready;
    job->info.started_ns = monotonic_now_ns();
    announce(*job);
  }
}

Result<bool> Core::wait(const JobPtr& job, int64_t limit_ns) {
  std::unique_lock lock(mutex_);
  const bool in_time =
      wait_limited(job->changed, lock, limit_ns, [&] { return job->state != State::waiting; });
  if (!in_time) return false;
  if (job->error) return fail(*job->error);
  if (job->state != State::ready) return true;
  job->state = State::started;
  engine::Engine& engine = devices_[find_arena(job->arena)->device]->engine();
  engine.mark_used(job->arena);
  job->info.waited_ns = job->info.started_ns - job->requested_ns;
  if (const auto stats = engine.stats(job->arena)) {
    job->info.restored_bytes = stats->restored_bytes - job->restored_before_bytes;
  }
  return true;
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
    fail_job(*entry.second, error);
    return true;
  });
}

bool Core::has_running_jobs() const {
  return std::any_of(jobs_.begin(), jobs_.end(),
                     [](const auto& entry) { return runs(*entry.second); });
}

void Core::cancel(const JobPtr& job) {
  {
    const std::lock_guard lock(mutex_);
    if (job->state == State::over || job->state == State::ending) return;
    if (job->state != State::started) {
      const bool granted = job->granted;
      fail_job(*job, {ErrorCode::interrupted, "the job was cancelled"});
      if (granted || phase_ != Phase::connected) {
        send(protocol::JobDone{job->id, 0});
        jobs_.erase(job->id);
        changed_.notify_all();
      } else {
        send(protocol::CancelJob{job->id});  // remembered until Dropped or Run answers
      }
      return;
    }
  }
  (void)end(job, {});
}

Status Core::end(const JobPtr& job, std::span<const driver::StreamHandle> streams) {
  std::shared_ptr<Device> device;
  {
    const std::lock_guard lock(mutex_);
    if (job->error) return fail(*job->error);
    if (job->state != State::started) {
      return fail(ErrorCode::invalid_argument, "only a job that has started, and once, can end");
    }
    job->state = State::ending;
    device = devices_[find_arena(job->arena)->device];
  }
  return device->complete(streams, [&](int64_t completed_ns) {
    const std::lock_guard lock(mutex_);
    finish(*job, completed_ns);
  });
}

void Core::finish(JobRecord& job, int64_t ended_ns) {
  job.state = State::over;
  job.info.ended_ns = ended_ns;
  // Nothing that the arbiter still knows of after a lost link: resuming waits for running jobs.
  send(protocol::JobDone{job.id, ended_ns - job.info.started_ns});
  jobs_.erase(job.id);
  changed_.notify_all();
}

JobInfo Core::info(const JobRecord& job) const {
  const std::lock_guard lock(mutex_);
  return job.info;
}

}  // namespace rtswap::client
