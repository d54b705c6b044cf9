// When what promises rest on does not hold: until when the bounds of all are suspended
// (docs/scheduling.md, "Overload and overruns"). Whose promises end is shedding.cc.
#include <algorithm>

#include "csrc/arbiter/state.h"

namespace rtswap::arbiter {
namespace {

std::string in_us(int64_t duration_ns) {
  return std::to_string((duration_ns + 500) / 1000) + " us";
}

std::string in_mb(uint64_t bytes_per_s) {
  return std::to_string(bytes_per_s / 1'000'000) + " MB/s";
}

// It hangs, the device was given to others, and nobody knows what it still does there.
bool has_lost_job(const Arena* arena) { return arena->lost_jobs > 0; }

}  // namespace

Arbiter::State::Bandwidth Arbiter::State::bandwidth_of(const Device& device) {
  const uint64_t evict_bytes_per_s = device.evict_bytes_per_s;  // 0: not measured
  return {device.restore_bytes_per_s,
          evict_bytes_per_s != 0 ? evict_bytes_per_s : device.restore_bytes_per_s};
}

// A faster link makes promises easier to keep, which counts from the next idle instant on.
void Arbiter::State::note_bandwidth(Device& device, const Bandwidth& before) {
  device.review_due = true;
  const Bandwidth now = bandwidth_of(device);
  std::string why;
  const auto compare = [&why](const char* does, uint64_t now_bytes_per_s,
                              uint64_t before_bytes_per_s) {
    if (!why.empty() || now_bytes_per_s >= before_bytes_per_s) return;
    why = std::string("the link was measured to ") + does + " " + in_mb(now_bytes_per_s) +
          ", and " + in_mb(before_bytes_per_s) + " had been counted on";
  };
  compare("restore", now.restore_bytes_per_s, before.restore_bytes_per_s);
  compare("evict", now.evict_bytes_per_s, before.evict_bytes_per_s);
  if (why.empty()) return;
  // What has been copied since the device was last idle may have taken longer than was charged.
  suspend(device, nullptr, why);
  shed(device, why);
  suspend(device, nullptr, why);  // an idle one, too, while it is not known who keeps a promise
}

// Until the device is next idle and no promise is in question. `because_of`: nullptr if no job is
// to blame.
void Arbiter::State::suspend(Device& device, const Job* because_of, const std::string& why) {
  const bool promised_to_any =
      std::any_of(device.tasks.begin(), device.tasks.end(),
                  [](const Task* task) { return task->state == TaskState::admitted; });
  if (!edf() || !device.suspended.empty() || !promised_to_any || may_resume(device)) return;
  device.suspended = why;
  ++device.suspensions;
  if (because_of != nullptr) {
    trace(Trace::Kind::suspended, *because_of, why);
  } else {
    trace(Trace::Kind::suspended, device, why);
  }
  tell_of_suspension(device);
}

// What uses the GPU for nobody knows how long.
void Arbiter::State::suspend_for_unknown_length(Device& device) {
  const Job* holder = device.holder;
  // One that began so is as long as it is, whatever its task has become since.
  if (holder != nullptr &&
      (holder->block_ns == 0 || (!promised(*holder) && !length_known(*holder)))) {
    suspend(device, holder,
            "a job of \"" + holder->task->full_name + "\" whose length is not known has the GPU");
  } else if (std::any_of(device.arenas.begin(), device.arenas.end(), has_lost_job)) {
    suspend(device, nullptr, "a job that hangs may still use the GPU");
  }
}

// Of a job that has given the device back, or still has it: one that had it for longer than its
// block, for whatever reason, took that from those who wait.
void Arbiter::State::note_hold(Device& device, const Job& job) {
  const int64_t held_ns = now_ns_ - job.held_ns;
  if (job.block_ns == 0 || held_ns <= job.block_ns) return;
  suspend(device, &job,
          "a job of \"" + job.task->full_name + "\" had the GPU for " + in_us(held_ns) + ", " +
              in_us(held_ns - job.block_ns) + " longer than its block");
}

// No window of the proof begins earlier than an idle instant: what came before is over.
bool Arbiter::State::may_resume(const Device& device) const {
  return !device.shedding && idle(device) &&
         std::none_of(device.arenas.begin(), device.arenas.end(), has_lost_job);
}

void Arbiter::State::resume_promises_when_idle(Device& device) {
  if (device.suspended.empty() || !may_resume(device)) return;
  device.suspended.clear();
  trace(Trace::Kind::resumed, device, "");
  tell_of_suspension(device);
}

void Arbiter::State::tell_of_suspension(const Device& device) {
  for (Task* task : device.tasks) {
    if (task->state == TaskState::admitted) send_verdict(*task, false, task->reason);
  }
}

}  // namespace rtswap::arbiter
