// Jobs: from release to done.
#include <algorithm>

#include "csrc/arbiter/state.h"
#include "csrc/base/check.h"

namespace rtswap::arbiter {
namespace {

// More jobs of one process that have not ended are no program's intent.
constexpr size_t kMostJobs = 10'000;

// By so much a job may come before its turn; more would not fit into a clock.
constexpr int64_t kMostAhead_ns = INT64_MAX / 4;

// So many overruns in a row, and the declared cost is not a slip but wrong.
constexpr uint32_t kMostOverruns = 3;

}  // namespace

void Arbiter::State::on(Session& session, const protocol::Release& message) {
  Task* task = find_task(session, message.task);
  if (task == nullptr) return;
  if (session.jobs.count(message.job) != 0 || session.forgiven.count(message.job) != 0) {
    violate(session, ErrorCode::protocol_violation,
            "job " + std::to_string(message.job) + " was released twice");
    return;
  }
  if (message.release_ns < 0 || message.deadline_ns < 0) {
    violate(session, ErrorCode::protocol_violation,
            "job " + std::to_string(message.job) + " has an instant before the clock began");
    return;
  }
  if (session.jobs.size() >= kMostJobs) {
    violate(session, ErrorCode::protocol_violation,
            std::to_string(kMostJobs) + " jobs of the process have not ended");
    return;
  }
  auto owned = std::make_unique<Job>();
  Job& job = *owned;
  job.id = message.job;
  job.task = task;
  job.index = task->released++;
  job.sequence = ++last_sequence_;
  // A nominal release in the future would let the job start before the test thinks it exists.
  job.release_ns = std::min(message.release_ns, now_ns_);
  job.eligible_ns = job.release_ns;
  job.deadline_ns = message.deadline_ns;
  job.order_ns = message.deadline_ns;
  std::string detail;
  const bool clocked = task->timing.period_ns > 0 && message.deadline_ns != kNoDeadline_ns &&
                       task->state != TaskState::refused;  // maybe for that timing
  if (clocked) {
    // The promise holds for releases at least one period apart, and for the deadline of the timing.
    // An earlier release is moved, never promoted.
    if (task->last_release_ns != kNever_ns &&
        job.eligible_ns < task->last_release_ns + task->timing.period_ns) {
      job.eligible_ns = task->last_release_ns + task->timing.period_ns;
      detail = "released less than a period after the one before: counts from " +
               std::to_string(job.eligible_ns);
      if (job.eligible_ns - now_ns_ > kMostAhead_ns) {
        violate(session, ErrorCode::protocol_violation,
                "job " + std::to_string(message.job) + " is released years before its turn");
        return;
      }
    }
    job.deadline_ns = job.eligible_ns + task->timing.deadline_ns;
    set_order(job);
  }
  session.jobs[job.id] = std::move(owned);
  device_of(*task->arena).waiting.push_back(&job);
  add_parts(job);
  trace(Trace::Kind::released, job, detail);
  if (task->state == TaskState::refused || task->state == TaskState::paused) {
    drop(job, Error{ErrorCode::job_dropped,
                    "task \"" + task->name + "\" is " +
                        (task->state == TaskState::paused ? "paused: call its resume() first"
                                                          : "refused: " + task->reason.message)});
  }
}

// A stamp may be older than a release is allowed to travel: such a job has less time left, but may
// not take that from others. It competes with the deadline that the test gives it, whatever the
// client says: counted from when it was seen, and a period after the one before, unless the device
// has been idle since that came.
void Arbiter::State::set_order(Job& job) {
  const Task& task = *job.task;
  Device& device = device_of(*task.arena);
  if (idle(device)) note_idle(device);
  job.order_ns =
      std::max(job.eligible_ns, now_ns_ - config_.round_trip_ns) + task.timing.deadline_ns;
  if (keeps_distance(task)) {
    job.order_ns = std::max(job.order_ns, task.last_order_ns + task.timing.period_ns);
  }
  note_order(job);
}

bool Arbiter::State::keeps_distance(const Task& task) const {
  return task.last_order_ns != kNever_ns &&
         device_of(*task.arena).last_idle_ns <= task.last_seen_ns;
}

// Promised jobs that wait through an idle instant have come early, and none before them competes
// any more: each has the deadline that it would have had without them.
void Arbiter::State::note_idle(Device& device) {
  device.last_idle_ns = now_ns_;
  for (Job* job : device.waiting) {
    if (promised(*job)) job->order_ns = job->deadline_ns;
  }
}

void Arbiter::State::note_order(const Job& job) {
  Task& task = *job.task;
  task.last_release_ns = job.eligible_ns;
  task.last_order_ns = job.order_ns;
  task.last_seen_ns = now_ns_;
}

void Arbiter::State::on(Session& session, const protocol::CancelJob& message) {
  const auto it = session.jobs.find(message.job);
  // Otherwise it crossed a Run or a Dropped: the client answers the one and is content with the
  // other.
  if (it != session.jobs.end() && it->second->state == Job::State::waiting) {
    drop(*it->second, Error{ErrorCode::interrupted, "the client cancelled the job"});
  }
}

void Arbiter::State::on(Session& session, const protocol::JobDone& message) {
  const auto it = session.jobs.find(message.job);
  if (it == session.jobs.end() && session.forgiven.erase(message.job) != 0) return;
  if (it == session.jobs.end() || message.execution_ns < 0 ||
      (it->second->state == Job::State::waiting)) {
    violate(session, ErrorCode::protocol_violation,
            "job " + std::to_string(message.job) + " is reported done and was not running");
    return;
  }
  finish(*it->second, message);
}

void Arbiter::State::finish(Job& job, const protocol::JobDone& message) {
  Task& task = *job.task;
  const bool late = job.deadline_ns != kNoDeadline_ns && now_ns_ > job.deadline_ns;
  const std::vector<Job*> parts = parts_of(job);
  for (const Job* part : parts) {
    trace(Trace::Kind::run_end, *part,
          job.state == Job::State::lost ? "answered after it was given up" : "");
  }
  const bool begun =
      std::all_of(parts.begin(), parts.end(), [](const Job* part) { return part->begun; });
  bool once_too_often = false;
  if (!begun || job.abandoned) {
    ++task.dropped;  // cancelled while its memory came in, or failed because it did not
  } else {
    task.response_max_ns = std::max(task.response_max_ns, now_ns_ - job.release_ns);
    late ? ++task.missed : ++task.met;
    if (late) trace(Trace::Kind::missed, job, "");
    once_too_often = count_overrun(task, job, message.execution_ns);
  }
  for (const Job* part : parts) part->task->arena->last_used_ns = now_ns_;
  erase(job);  // suspends promises, this one included, if that is due
  if (once_too_often) end_by_overruns(task, message.execution_ns);
}

// True when the promise of its task has to end.
bool Arbiter::State::count_overrun(Task& task, const Job& job, int64_t execution_ns) {
  // Jobs outside the clock (warm-up, reading) are as long as they are.
  if (task.timing.wcet_ns == 0 || job.deadline_ns == kNoDeadline_ns) return false;
  if (execution_ns <= task.timing.wcet_ns) {
    task.overruns_in_a_row = 0;
    return false;
  }
  ++task.overruns;
  trace(Trace::Kind::overrun, job,
        "took " + std::to_string(execution_ns) + " ns, declared " +
            std::to_string(task.timing.wcet_ns));
  // What fits into the block, which is all that promises count on, took nothing from anybody.
  const bool fits = now_ns_ - job.held_ns <= job.block_ns;
  task.overruns_in_a_row = fits ? 0 : task.overruns_in_a_row + 1;
  return task.overruns_in_a_row >= kMostOverruns && task.state == TaskState::admitted && edf();
}

void Arbiter::State::end_by_overruns(Task& task, int64_t execution_ns) {
  leave(task);
  task.state = TaskState::best_effort;
  task.reason = Error{ErrorCode::admission_refused,
                      std::to_string(kMostOverruns) + " jobs in a row of \"" + task.name +
                          "\" took longer than its declared cost, and had the GPU for longer than "
                          "its block (the last one " +
                          std::to_string(execution_ns) + " ns, declared " +
                          std::to_string(task.timing.wcet_ns) +
                          " ns): it runs as best effort; update it with a larger cost"};
  send_verdict(task, false, task.reason);
}

void Arbiter::State::drop(Job& part, const Error& reason) {
  Job& job = *part.lead;
  Task& task = *job.task;
  ++task.dropped;
  trace(Trace::Kind::dropped, job, reason.message);
  send(*task.session, protocol::Dropped{job.id, reason});
  if (job.run_sent) task.session->forgiven.insert(job.id);
  erase(job);
}

// The client knows sooner what has landed.
bool Arbiter::State::may_have_begun(const Job& job) const {
  const std::vector<Job*> parts = parts_of(job);
  return job.lead->run_sent && std::all_of(parts.begin(), parts.end(), [this](const Job* part) {
           const Arena& arena = *part->task->arena;
           return device_of(arena).ledger.held(arena.key) >= part->first_chunks;
         });
}

// A holder whose memory cannot be had. If its body has begun, the device stays its own until it has
// ended. One that spans devices begins with all its memory, and lacks none from then on.
void Arbiter::State::give_up(Job& job, const Error& reason) {
  if (job.spans() || !may_have_begun(job)) {
    drop(job, reason);
    return;
  }
  job.abandoned = true;
  trace(Trace::Kind::dropped, job, reason.message);
  send(*job.task->session, protocol::Dropped{job.id, reason});
}

// With all of its parts.
void Arbiter::State::erase(Job& job) {
  for (Job* part : parts_of(job)) {
    Arena& arena = *part->task->arena;
    Device& device = device_of(arena);
    if (device.stage == part) device.stage = nullptr;
    switch (part->state) {
      case Job::State::waiting:
        std::erase(device.waiting, part);
        break;
      case Job::State::holding:
        RTSWAP_CHECK(device.holder == part, "a job holds the device that another holds");
        device.holder = nullptr;
        note_hold(device, *part);
        break;
      case Job::State::lost:
        RTSWAP_CHECK(arena.lost_jobs > 0, "a lost job that its arena does not know");
        --arena.lost_jobs;
        break;
    }
  }
  settle_others(job);
  job.task->session->jobs.erase(job.id);
}

void Arbiter::State::drop_waiting(const Task& task, const Error& reason) {
  std::vector<Job*> jobs;
  for (Job* job : device_of(*task.arena).waiting) {
    if (job->task == &task) jobs.push_back(job);
  }
  for (Job* job : jobs) drop(*job, reason);
}

}  // namespace rtswap::arbiter
