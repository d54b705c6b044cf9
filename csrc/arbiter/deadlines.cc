// What happens because time passes: late jobs, clients that do not answer, and the timer.
#include <algorithm>
#include <cstdio>

#include "csrc/arbiter/state.h"

namespace rtswap::arbiter {
namespace {

// A job may exceed its declared cost so many times before it counts as hung.
constexpr int64_t kHangFactor = 10;

// Last instant at which a job can start and still meet its deadline.
int64_t latest_start(const Job& job) {
  return job.deadline_ns == kNoDeadline_ns || job.demoted
             ? kNoDeadline_ns
             : job.deadline_ns - job.task->timing.wcet_ns;
}

std::string in_ms(int64_t duration_ns) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f ms", static_cast<double>(duration_ns) * 1e-6);
  return text;
}

}  // namespace

void Arbiter::State::expire_waiting(Device& device) {
  std::vector<Job*> late;
  for (Job* job : device.waiting) {
    // The deadlines of a task that is loading are set when it is in.
    if (job->task->state != TaskState::loading && now_ns_ > latest_start(*job)) late.push_back(job);
  }
  // They are no longer among those who wait when that job ends.
  const bool promised_work_waited =
      std::any_of(late.begin(), late.end(), [this](const Job* job) { return promised(*job); });
  if (promised_work_waited && device.holder != nullptr) note_hold(device, *device.holder);
  for (Job* job : late) {
    if (job->task->late == protocol::LatePolicy::run) {
      job->demoted = true;
      continue;
    }
    const Task& task = *job->task;
    const std::string which = "job " + std::to_string(job->index) + " of \"" + task.name + "\" ";
    const std::string why = task.timing.wcet_ns > task.timing.deadline_ns
                                ? "could not meet its deadline: that is " +
                                      in_ms(task.timing.deadline_ns) + ", and the declared cost " +
                                      in_ms(task.timing.wcet_ns)
                                : "could no longer meet its deadline: it still waited " +
                                      in_ms(now_ns_ - job->release_ns) + " after its release";
    drop(*job, Error{ErrorCode::job_dropped,
                     which + why + ". Jobs of tasks with late=\"run\" run nevertheless"});
  }
}

void Arbiter::State::expire_silent(Device& device) {
  for (Arena* arena : device.arenas) {
    if (arena->silent) continue;
    int64_t oldest_ns = kNoDeadline_ns;
    if (!arena->revokes.empty()) oldest_ns = arena->revokes.front().sent_ns;
    if (!arena->grants.empty()) oldest_ns = std::min(oldest_ns, arena->grants.front().sent_ns);
    if (device.ledger.has_detached(arena->key)) oldest_ns = std::min(oldest_ns, arena->detached_ns);
    if (oldest_ns == kNoDeadline_ns || now_ns_ - oldest_ns < config_.hang_timeout_ns) continue;
    arena->silent = true;
    trace(Trace::Kind::evict_end, *arena, 0,
          "the client has not answered in time: its memory is not counted on");
    // Who holds the device may have waited for that memory, and has not hung for it.
    if (device.holder != nullptr && device.holder->task->arena != arena) {
      device.holder->progress_ns = now_ns_;
    }
  }
}

// The stage goes to others when the client of its holder does not answer.
void Arbiter::State::expire_lead(Device& device) {
  Job* job = device.stage;
  if (job == nullptr || job->state != Job::State::waiting || !job->task->arena->silent) return;
  drop(*job, Error{ErrorCode::timed_out, "the client did not restore the memory it was granted"});
}

int64_t Arbiter::State::hang_limit(const Task& task) const {
  return std::max(config_.hang_timeout_ns, task.timing.wcet_ns * kHangFactor);
}

// The device goes to others; the memory stays with the job, which may still be at work.
void Arbiter::State::expire_holder(Device& device) {
  Job* job = device.holder;
  if (job == nullptr) return;
  const Arena& arena = *job->task->arena;
  const bool runs = may_have_begun(*job) || arena.session->phase != Session::Phase::active;
  const bool stuck = runs && now_ns_ - last_progress_ns(*job) >= hang_limit(*job->task);
  if (!stuck && (job->begun || !arena.silent)) return;
  const Error reason{ErrorCode::timed_out, "the client did not restore the memory it was granted"};
  if (!may_have_begun(*job)) {
    drop(*job, reason);
    return;
  }
  const std::vector<Job*> parts = parts_of(*job);
  const bool complete =
      std::all_of(parts.begin(), parts.end(), [](const Job* part) { return part->complete; });
  if (!complete && !job->abandoned) {  // nothing more comes, should it wait for that
    send(*job->task->session, protocol::Dropped{job->id, reason});
  }
  for (Job* part : parts) {
    trace(Trace::Kind::run_end, *part, "hung: the device goes to others, its memory stays its own");
    part->state = Job::State::lost;
    ++part->task->arena->lost_jobs;
    Device& its = device_of(*part->task->arena);
    its.holder = nullptr;
    if (its.stage == part) its.stage = nullptr;
    suspend(its, part,
            "a job of \"" + part->task->full_name + "\" hangs and may still use the GPU");
  }
}

void Arbiter::State::set_timer() {
  int64_t next_ns = kNoDeadline_ns;
  const auto at = [&](int64_t instant_ns) {
    if (instant_ns > now_ns_) next_ns = std::min(next_ns, instant_ns);
  };
  for (const Device& device : devices_) {
    if (device.shedding) next_ns = now_ns_;  // goes on once no message waits
    for (const Job* job : device.waiting) {
      if (!edf()) break;
      at(earliest_start(device, *job));
      const int64_t last_ns = latest_start(*job);
      if (last_ns == kNoDeadline_ns || job->task->state == TaskState::loading) continue;
      next_ns = std::min(next_ns, std::max(last_ns + 1, now_ns_));  // late: expires at once
    }
    for (const Arena* arena : device.arenas) {
      at(arena->rest_until_ns);
      if (arena->silent) continue;
      if (!arena->revokes.empty()) at(arena->revokes.front().sent_ns + config_.hang_timeout_ns);
      if (!arena->grants.empty()) at(arena->grants.front().sent_ns + config_.hang_timeout_ns);
      if (device.ledger.has_detached(arena->key)) at(arena->detached_ns + config_.hang_timeout_ns);
    }
    if (const Job* holder = device.holder)
      at(last_progress_ns(*holder) + hang_limit(*holder->task));
  }
  if (next_ns == timer_ns_ && timer_ns_ > now_ns_) return;
  if (next_ns == kNoDeadline_ns && timer_ns_ == kNoDeadline_ns) return;
  timer_ns_ = next_ns;
  effects_.emplace_back(SetTimer{next_ns});
}

void Arbiter::State::on(const TimerFired&) {
  // The caller's timer is spent, whatever it was set to.
  timer_ns_ = kNoDeadline_ns;
  shed_some();
}

}  // namespace rtswap::arbiter
