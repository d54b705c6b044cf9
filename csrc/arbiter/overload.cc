// When what promises rest on does not hold: whose promises end, and until when the bounds of all
// are suspended (docs/scheduling.md, "Overload and overruns").
#include <algorithm>

#include "csrc/arbiter/state.h"
#include "csrc/policy/stage_rules.h"

namespace rtswap::arbiter {
namespace {

std::string in_us(int64_t duration_ns) {
  return std::to_string((duration_ns + 500) / 1000) + " us";
}

std::string in_mb(uint64_t bytes_per_s) {
  return std::to_string(bytes_per_s / 1'000'000) + " MB/s";
}

// While promises are gone through nobody gets the device. Seeking new plans may cost so much for
// all tasks together (policy::Effort: some 0.1 s, up to 1 s on a busy machine), and what would help
// is sought for so many.
constexpr int64_t kEffort = 8'000'000;
constexpr size_t kMostHelped = 3;

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
}

// The ground under the promises has changed. If not all can be kept, each task keeps its own that
// passes beside those that are kept before it: the more important first, of equals the older. When
// the effort for new plans is spent, the last one that was found is the only one asked.
void Arbiter::State::shed(Device& device, const std::string& why) {
  const bool device_idle = idle(device);  // whatever becomes of those who wait
  if (keep_promises(device, device_idle)) return;
  std::vector<Task*> tasks;
  for (Task* task : device.tasks) {
    if (task->state == TaskState::admitted) tasks.push_back(task);
  }
  std::stable_sort(tasks.begin(), tasks.end(),
                   [](const Task* a, const Task* b) { return a->importance > b->importance; });
  for (Task* task : tasks) task->state = TaskState::best_effort;
  policy::Effort effort{kEffort};
  policy::Plan plan = in_force(device);  // by which those that come before keep their promises
  std::vector<Task*> ended;
  for (Task* task : tasks) {
    task->state = TaskState::admitted;
    if (assess(device, plan, nullptr).decision.admitted) continue;
    if (const auto holding = plan_that_holds(device, device_idle, &effort)) {
      plan = holding->plan;
      continue;
    }
    task->reason = why_ended(device, *task, why, ended.size() < kMostHelped);
    task->state = TaskState::best_effort;
    ended.push_back(task);
  }
  // Which tells those whose promise ended, too.
  if (!keep_promises(device, device_idle)) {
    const Assessment found = assess(device, plan, nullptr);
    if (found.decision.admitted) put_in_force(device, plan, found, nullptr);
  }
  for (Task* task : ended) {
    if (task->response_bound_ns == 0) continue;
    task->response_bound_ns = 0;
    send_verdict(*task, false, task->reason);
  }
}

// Puts a plan in force that keeps all promises. Best-effort work that runs now may be longer than
// they allow: they are suspended until it has ended.
bool Arbiter::State::keep_promises(Device& device, bool device_idle) {
  const std::optional<Holding> holding = plan_that_holds(device, device_idle, nullptr);
  if (holding) put_in_force(device, holding->plan, holding->found, nullptr);
  return holding.has_value();
}

// The best plan; the best of those that need nothing but what is there; the one in force. New ones
// only if they may be put in force now, and until `effort` (nullptr: as much as it takes) is spent.
std::optional<Arbiter::State::Holding> Arbiter::State::plan_that_holds(
    const Device& device, bool device_idle, policy::Effort* effort) const {
  Roll set = roll(
      device, [](const Task&) { return false; }, nullptr);
  std::optional<Holding> holding;
  const auto holds = [&](policy::Plan plan) {
    Assessment found = assess(device, plan, nullptr);
    if (found.decision.admitted) holding = Holding{std::move(plan), std::move(found)};
    return holding.has_value();
  };
  const auto new_one_holds = [&] {
    if (effort != nullptr && effort->spent()) return false;
    const policy::Decision fresh = policy::decide(set.input, effort);
    return fresh.admitted &&
           policy::plan_may_change(device.staged, fresh.staged, device_idle, false, false) &&
           holds(plan_of(fresh));
  };
  if (new_one_holds()) return holding;
  for (size_t i = 0; i < set.promised.size(); ++i) {
    const Arena& arena = *set.promised[i]->arena;
    set.input.promised[i].most_resident_chunks = std::min(arena.landed_chunks, kept(device, arena));
  }
  if (!new_one_holds()) holds(in_force(device));
  return holding;
}

// `seek_help`: what would help is sought, which takes some ms.
// REQUIRES: its promise cannot be kept beside those of the tasks that are admitted.
Error Arbiter::State::why_ended(const Device& device, const Task& task, const std::string& why,
                                bool seek_help) const {
  const auto help = [&]() -> std::string {
    const auto nobody = [](const Task&) { return false; };
    const policy::Decision decision = policy::admit(roll(device, nobody, &task).input);
    return decision.admitted ? "It would fit once other memory has been restored" : decision.reason;
  };
  const bool alone = std::none_of(device.tasks.begin(), device.tasks.end(), [](const Task* other) {
    return other->state == TaskState::admitted;
  });
  return {ErrorCode::admission_refused,
          why + ": the promise of \"" + task.name + "\" ended" +
              (alone ? "" : ", others that are more important or older go before it,") +
              " and it runs as best effort. " + (seek_help ? help() + ". " : "") +
              "pause() and resume() ask for a promise anew"};
}

// Until the device is next idle. `because_of`: nullptr if no job is to blame.
void Arbiter::State::suspend(Device& device, const Job* because_of, const std::string& why) {
  const bool promised_to_any =
      std::any_of(device.tasks.begin(), device.tasks.end(),
                  [](const Task* task) { return task->state == TaskState::admitted; });
  const bool ends_at_once =
      idle(device) && std::none_of(device.arenas.begin(), device.arenas.end(), has_lost_job);
  if (!edf() || !device.suspended.empty() || !promised_to_any || ends_at_once) return;
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
  if (holder != nullptr && !promised(*holder) && !length_known(*holder)) {
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
void Arbiter::State::resume_promises_when_idle(Device& device) {
  if (device.suspended.empty() || !idle(device) ||
      std::any_of(device.arenas.begin(), device.arenas.end(), has_lost_job)) {
    return;
  }
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
