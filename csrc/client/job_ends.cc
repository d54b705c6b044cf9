// How jobs end: on the device, by cancellation, or with what they waited for.
#include <algorithm>
#include <utility>

#include "csrc/base/clock.h"
#include "csrc/client/core.h"
#include "csrc/client/queued_work.h"

namespace rtswap::client {
namespace {

using State = JobRecord::State;

}  // namespace

void Core::fail_job(JobRecord& job, const Error& error) {
  if (job.state == State::over) return;
  job.state = State::over;
  job.error = error;
  announce(job);
}

void Core::fail_waiting_jobs(const Error& error) {
  std::erase_if(jobs_, [&](const auto& entry) {
    if (entry.second->runs()) return false;
    // A settling one is over for its owner; only the arbiter was still to hear of it.
    if (entry.second->state != State::settling) fail_job(*entry.second, error);
    return true;
  });
  wake_running_jobs();
}

bool Core::has_running_jobs() const {
  return std::any_of(jobs_.begin(), jobs_.end(),
                     [](const auto& entry) { return entry.second->runs(); });
}

void Core::cancel(const JobPtr& job) {
  std::unique_lock lock(mutex_);
  if (job->state == State::started) {
    lock.unlock();
    (void)end(job, {});
  } else if (job->state == State::waiting || job->state == State::ready) {
    // No turn for the others: every handle cancels at its end, and most jobs are over by then.
    const Turn turn(*this, std::move(lock));
    withdraw(job, {ErrorCode::interrupted, "the job was cancelled"});
  }
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
    if (job->runs()) {
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

}  // namespace rtswap::client
