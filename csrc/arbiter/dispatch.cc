// Who runs next.
#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "csrc/arbiter/state.h"
#include "csrc/base/check.h"

namespace rtswap::arbiter {

void Arbiter::State::settle_all() {
  for (Device& device : devices_) expire(device);
  if (recovering()) return;
  for (Device& device : devices_) device.settle_due = true;
  // What spans devices changes others on the way, each time by a job that starts or ends.
  for (bool settled = true; settled;) {
    settled = false;
    for (Device& device : devices_) {
      if (!std::exchange(device.settle_due, false)) continue;
      settle(device);
      settled = true;
    }
  }
}

void Arbiter::State::expire(Device& device) {
  expire_silent(device);
  expire_lead(device);
  expire_holder(device);
  if (edf()) expire_waiting(device);
}

void Arbiter::State::settle(Device& device) {
  bool again = true;
  while (again) {
    reconsider(device);
    give_stage(device);
    if (device.holder == nullptr && !take_next(device)) break;
    again = !feed_holder(device);
  }
  if (edf()) prefetch(device);
  device.ledger.check_counts();
  if (device.holder != nullptr && device.holder->begun) {
    const Job& job = *device.holder;
    const Arena& arena = *job.task->arena;
    const uint32_t needed = job.complete ? arena.chunks : job.first_chunks;
    RTSWAP_CHECK(device.ledger.held(arena.key) >= needed && arena.revokes.empty(),
                 "memory of the running job was given away");
  }
}

// What waited for this instant.
void Arbiter::State::reconsider(Device& device) {
  if (idle(device)) {
    note_idle(device);
    device.longest_best_effort_ns = 0;
  }
  if (device.shedding) return;
  resume_promises_when_idle(device);
  do {  // a review may itself end the wait, by a plan that is there already
    if (device.decision_waits && !plan_comes_in(device)) {
      device.decision_waits = false;
      device.review_due = true;
    }
    if (device.review_due && idle(device)) review(device);
    while (std::exchange(device.promote_due, false)) promote(device);
  } while (device.decision_waits && !plan_comes_in(device));
}

bool Arbiter::State::promised(const Job& job) const {
  return job.task->state == TaskState::admitted && job.deadline_ns != kNoDeadline_ns &&
         !job.demoted;
}

std::vector<Job*> Arbiter::State::in_order(const Device& device) const {
  std::vector<Job*> jobs;
  for (Job* job : device.waiting) {
    if (job->task->state == TaskState::loading) continue;
    if (!edf() || job->eligible_ns <= now_ns_) jobs.push_back(job);
  }
  std::sort(jobs.begin(), jobs.end(), [this](const Job* a, const Job* b) {
    if (!edf()) return a->sequence < b->sequence;
    const bool a_promised = promised(*a);
    const bool b_promised = promised(*b);
    if (a_promised != b_promised) return a_promised;
    if (!a_promised) {  // one order for all devices: those that span several wait for each other
      return std::tie(b->task->importance, a->sequence) <
             std::tie(a->task->importance, b->sequence);
    }
    if (staged(*a) != staged(*b)) return staged(*b);
    return std::tie(a->order_ns, a->sequence) < std::tie(b->order_ns, b->sequence);
  });
  return jobs;
}

bool Arbiter::State::take_next(Device& device) {
  if (device.waiting.empty() || strays_delay_blocks(device)) return false;
  for (Job* job : in_order(device)) {
    if (!may_start(device, *job) || !feasible(device, *job->task->arena, job->task->arena->chunks))
      continue;
    if (job->spans()) {
      std::map<const Job*, Turn> known;
      const Turn turn = turn_of(*job, known);
      if (turn == Turn::not_yet) continue;
      if (turn == Turn::soon) return false;  // all that is behind it is best effort, too
    }
    for (Job* part : parts_of(*job)) hand_over(device_of(*part->task->arena), *part);
    settle_others(*job);
    return true;
  }
  return false;
}

// How long it may hold the device. Warm-up and reading outside jobs are as long as they are.
bool Arbiter::State::length_known(const Job& job) const {
  const Task& task = *job.task;
  return task.timing.wcet_ns > 0 &&
         !(task.state == TaskState::admitted && job.deadline_ns == kNoDeadline_ns);
}

// Best-effort work must not take away what the test has promised to others.
bool Arbiter::State::may_start(const Device& device, const Job& job) const {
  if (!edf()) return true;
  if (staged(job)) return staged_may_start(device, job);
  if (promised(job)) return earliest_start(device, job) <= now_ns_;
  if (staged_work_waits(device)) return false;
  // Warm-up and reading outside jobs are what promises are made from; they cannot wait for a gap of
  // a length that nobody knows.
  if (!length_known(job)) return true;
  const int64_t block_ns = hold_of(*job.task);
  if (block_ns <= device.best_effort_block_ns) return true;
  // Otherwise only where no admitted task can be released before it ends, nor has been already: a
  // job that came early waits until it competes.
  if (std::any_of(device.waiting.begin(), device.waiting.end(),
                  [this](const Job* other) { return promised(*other); })) {
    return false;
  }
  return std::all_of(device.tasks.begin(), device.tasks.end(), [&](const Task* other) {
    return other->state != TaskState::admitted ||
           (other->last_release_ns != kNever_ns &&
            block_ns <= other->last_release_ns + other->timing.period_ns - now_ns_);
  });
}

void Arbiter::State::hand_over(Device& device, Job& job) {
  std::erase(device.waiting, &job);
  device.holder = &job;
  job.state = Job::State::holding;
  job.held_ns = now_ns_;
  job.progress_ns = now_ns_;
  const Task& task = *job.task;
  if (task.timing.wcet_ns > 0) job.block_ns = promised(job) ? task.block_ns : hold_of(task);
  if (!promised(job)) {
    device.longest_best_effort_ns = std::max(device.longest_best_effort_ns, job.block_ns);
  }
  task.arena->last_used_ns = now_ns_;
  trace(Trace::Kind::granted_gpu, job, "");
  suspend_for_unknown_length(device);
}

// What has landed tells how far the holder is.
void Arbiter::State::note_progress(Device& device) {
  Job& job = *device.holder;
  const Arena& arena = *job.task->arena;
  if (!job.lead->run_sent) return;
  if (!job.begun && arena.landed_chunks >= job.first_chunks && arena.revokes.empty()) {
    job.begun = true;
    job.progress_ns = now_ns_;
    trace_begin(job);
  }
  if (!job.complete && arena.landed_chunks == arena.chunks && arena.revokes.empty()) {
    job.complete = true;
    job.progress_ns = now_ns_;
  }
}

}  // namespace rtswap::arbiter
