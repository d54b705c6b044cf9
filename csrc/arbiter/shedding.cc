// Whose promises end when the ground under them has changed and not all can be kept
// (docs/scheduling.md, "Whose promise ends"): task by task, in slices between which the device is
// served. A promise whose turn has not come is *in question*: its jobs go by their deadlines as
// before, and in the tests of those before it its task counts as one without a promise.
#include <algorithm>

#include "csrc/arbiter/state.h"
#include "csrc/policy/advice.h"
#include "csrc/policy/stage_rules.h"

namespace rtswap::arbiter {
namespace {

// What seeking one plan may cost, and how much is done before others are served again (each some
// 2.5 ms).
constexpr int64_t kSlice = 250'000;
// Beyond that, the searches for all promises together may cost so much (some 0.4 s).
constexpr int64_t kSearches = 40'000'000;
// What would help is sought for so many.
constexpr size_t kMostHelped = 3;

// Of one task, the next by importance.
void next_turn(Shedding& shedding) {
  shedding.together = false;
  shedding.seek_anew();
}

}  // namespace

// Begins, or begins anew. What costs no more than a slice is decided at once.
void Arbiter::State::shed(Device& device, const std::string& why) {
  if (!edf()) return;
  put_in_question(device, why);
  shed_some(device);
}

void Arbiter::State::put_in_question(Device& device, const std::string& why) {
  device.shedding = Shedding{why, true, kSearches};
  for (Task* task : device.tasks) task->in_question = task->state == TaskState::admitted;
}

// A slice on the first device where promises are in question.
void Arbiter::State::shed_some() {
  const auto device = std::find_if(devices_.begin(), devices_.end(),
                                   [](const Device& it) { return it.shedding.has_value(); });
  if (device != devices_.end()) shed_some(*device);
}

void Arbiter::State::shed_some(Device& device) {
  for (int64_t left = kSlice; left > 0 && device.shedding;) {
    policy::Effort effort{kSlice};
    try_next_plan(device, effort);
    const int64_t used = kSlice - effort.left;
    if (device.shedding) device.shedding->effort_left -= used;
    left -= used;
  }
}

// First for all together, then for one after the other beside those that have kept their promises.
void Arbiter::State::try_next_plan(Device& device, policy::Effort& effort) {
  std::vector<Task*> tasks = in_question(device);
  if (tasks.empty()) {
    end_shedding(device);
    return;
  }
  Shedding& shedding = *device.shedding;
  if (!shedding.together) tasks.resize(1);
  for (Task* task : tasks) task->in_question = false;
  if (const auto holding = plan_that_holds(device, shedding.sought, shedding.search, effort)) {
    set_prefixes(device, holding->plan, holding->found.guarantee);  // what it needs stays now
    next_turn(shedding);
    return;
  }
  const bool goes_on = !shedding.search.ended && shedding.effort_left > 0;
  const bool was_last = shedding.sought == PlanSought::of_landed && !goes_on;
  if (was_last && !shedding.together) {
    end_promise(device, *tasks.front(), effort);
    next_turn(shedding);
    return;
  }
  for (Task* task : tasks) task->in_question = true;
  if (was_last) {
    next_turn(shedding);
  } else if (!goes_on) {
    shedding.sought =
        shedding.sought == PlanSought::in_force ? PlanSought::any : PlanSought::of_landed;
    shedding.search = {};
  }
}

// The more important first, of equals the older.
std::vector<Task*> Arbiter::State::in_question(const Device& device) {
  std::vector<Task*> tasks;
  for (Task* task : device.tasks) {
    if (task->in_question) tasks.push_back(task);
  }
  std::stable_sort(tasks.begin(), tasks.end(),
                   [](const Task* a, const Task* b) { return a->importance > b->importance; });
  return tasks;
}

// A plan with which those that are not in question any more hold with what is there. None that
// could not be put in force now.
std::optional<Arbiter::State::Holding> Arbiter::State::plan_that_holds(
    const Device& device, PlanSought sought, policy::PlanSearch& search,
    policy::Effort& effort) const {
  policy::Plan plan = in_force(device);
  search.ended = sought == PlanSought::in_force;
  if (!search.ended) {
    const bool device_idle = idle(device);
    Roll set = roll_of_those_in(device, nullptr, nullptr);
    set.input.staging = device_idle || !device.staged.empty();
    for (size_t i = 0; sought == PlanSought::of_landed && i < set.promised.size(); ++i) {
      const Arena& arena = *set.promised[i]->arena;
      set.input.promised[i].most_resident_chunks =
          std::min(arena.landed_chunks, kept(device, arena));
    }
    plan = policy::make_plan(set.input, &effort, &search);
    const bool may_change =
        policy::plan_may_change(device.staged, plan.staged, device_idle, false, false);
    if (plan.shortage || !may_change) return std::nullopt;
  }
  Assessment found = assess(device, plan, nullptr, &effort);
  if (!found.decision.admitted) return std::nullopt;
  return Holding{std::move(plan), std::move(found)};
}

// REQUIRES: no plan was found with which it keeps its promise beside those that have kept theirs.
void Arbiter::State::end_promise(Device& device, Task& task, policy::Effort& effort) {
  const bool seek_help = device.shedding->ended++ < kMostHelped;
  if (seek_help) effort.left -= kSlice;
  task.reason = why_ended(device, task, seek_help);
  task.state = TaskState::best_effort;
  task.response_bound_ns = 0;
  send_verdict(task, false, task.reason);
}

void Arbiter::State::end_shedding(Device& device) {
  const std::string why = std::move(device.shedding->why);
  device.shedding.reset();
  // The plan by which they keep their promises: nobody has been told the bounds yet.
  const policy::Plan plan = in_force(device);
  const Assessment found = assess(device, plan, nullptr);
  if (found.decision.admitted) {
    put_in_force(device, plan, found, nullptr);
  } else if (!found.set.promised.empty()) {
    put_in_question(device, why);  // between the slices memory has gone out of reach
    return;
  }
  device.promote_due = device.review_due = true;  // who came meanwhile has waited
}

// `seek_help`: what would help is sought.
// REQUIRES: its promise cannot be kept beside those of the tasks that keep theirs.
Error Arbiter::State::why_ended(const Device& device, const Task& task, bool seek_help) const {
  const auto help = [&]() -> std::string {
    const policy::AdmissionInput input = roll_of_those_in(device, nullptr, &task).input;
    policy::Effort planning{kSlice / 2};
    policy::Effort testing{kSlice / 2};
    const policy::Plan plan = policy::make_plan(input, &planning);
    policy::Decision decision =
        policy::test(input, plan.prefixes, plan.prefixes, plan.staged, &testing);
    if (decision.admitted) return "It would fit once other memory has been restored. ";
    if (testing.spent()) return "";  // nobody knows
    policy::explain(input, decision, kSlice / 2);
    return decision.reason + ". ";
  };
  const bool alone = std::none_of(device.tasks.begin(), device.tasks.end(), [&](const Task* other) {
    return other != &task && other->state == TaskState::admitted && !other->in_question;
  });
  return {ErrorCode::admission_refused,
          device.shedding->why + ": the promise of \"" + task.name + "\" ended" +
              (alone ? "" : ", others that are more important or older go before it,") +
              " and it runs as best effort. " + (seek_help ? help() : "") +
              "pause() and resume() ask for a promise anew"};
}

}  // namespace rtswap::arbiter
