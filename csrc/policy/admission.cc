#include "csrc/policy/admission.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "csrc/policy/advice.h"
#include "csrc/policy/charges.h"
#include "csrc/policy/plan.h"

namespace rtswap::policy {
namespace {

constexpr int64_t kForever_ns = INT64_MAX;

// How long a best-effort block may be, and how long that keeps the stage from its work.
struct BestEffort {
  int64_t block_ns = 0;
  int64_t delay_ns = 0;
};

YieldingResult run_test(const AdmissionInput& input, const YieldingSet& set, BestEffort with,
                        Effort* effort) {
  return test_yielding(set, {with.block_ns, with.delay_ns, input.link.overhead_ns}, effort);
}

// Blocks of best-effort work of known length, each of which alone leaves the promises intact. Since
// blocking counts the longest only, they do so together. A staged job that runs late would need
// more memory than the plan has beside a lead, and waits for a gap.
YieldingResult add_best_effort(const AdmissionInput& input, const std::vector<Charge>& charges,
                               const YieldingSet& set, YieldingResult result, Decision& decision,
                               Effort* effort) {
  std::vector<BestEffort> blocks;
  const auto add = [&](const Charge& charge, int64_t hold_ns) {
    if (charge.block_ns == kForever_ns || hold_ns == kForever_ns) return;
    const int64_t longer_ns = std::max<int64_t>(0, hold_ns - charge.block_ns);
    blocks.push_back({charge.block_ns + longer_ns, charge.delay_ns + longer_ns});
  };
  for (size_t i = 0; i < input.best_effort.size(); ++i) {
    if (input.best_effort[i].wcet_ns > 0)
      add(charges[input.promised.size() + i], input.best_effort[i].hold_ns);
  }
  for (size_t i = 0; i < input.may_run_late.size(); ++i) {
    if (input.may_run_late[i] && !decision.promises[i].staged) add(charges[i], 0);
  }
  std::sort(blocks.begin(), blocks.end(), [](const BestEffort& a, const BestEffort& b) {
    return std::tie(a.block_ns, a.delay_ns) > std::tie(b.block_ns, b.delay_ns);
  });
  int64_t longest_delay_ns = 0;
  for (const BestEffort& block : blocks) {
    longest_delay_ns = std::max(longest_delay_ns, block.delay_ns);
  }
  // A shorter block may delay the stage for longer.
  const auto run_with = [&](const BestEffort& block) {
    return run_test(input, set,
                    {block.block_ns, set.staged.empty() ? block.delay_ns : longest_delay_ns},
                    effort);
  };
  // What leaves a longer block room leaves a shorter one room.
  const auto longest =
      std::partition_point(blocks.begin(), blocks.end(),
                           [&](const BestEffort& block) { return !run_with(block).schedulable; });
  if (longest == blocks.end()) return result;
  YieldingResult with_it = run_with(*longest);
  if (!with_it.schedulable) return result;  // the effort is spent
  decision.best_effort_block_ns = longest->block_ns;
  return with_it;
}

// A block in the way of direct jobs that is none of theirs may be a staged run.
void name_blocking_runs(Decision& decision) {
  for (Promise& promise : decision.promises) {
    Limit& limit = promise.limit;
    if (promise.staged || limit.blocking_task || limit.blocking_ns == 0) continue;
    for (size_t i = 0; i < decision.promises.size(); ++i) {
      const Promise& other = decision.promises[i];
      if (other.staged && other.block_ns == limit.blocking_ns) limit.blocking_task = i;
    }
  }
}

// Which promised task an index of one of the two tests means; `leaving` comes last.
std::vector<size_t> tasks_of(const AdmissionInput& input, const Decision& decision, bool staged) {
  std::vector<size_t> tasks;
  for (size_t i = 0; i < decision.promises.size(); ++i) {
    if (decision.promises[i].staged == staged) tasks.push_back(i);
  }
  for (size_t i = 0; !staged && i < input.leaving.size(); ++i) {
    tasks.push_back(input.promised.size() + i);
  }
  return tasks;
}

// The outcome of the test, without words.
Decision outcome(const AdmissionInput& input, const Prefixes& planned, const Prefixes& guaranteed,
                 const Staged& staged, Effort* effort) {
  Decision decision;
  decision.prefixes = planned;
  decision.staged = staged;
  const std::vector<ArenaUse> arenas = arenas_of(input);
  const std::vector<Charge> charges = charges_of(input, arenas, planned, guaranteed, staged);
  bool unknown_bandwidth = false;
  for (size_t i = 0; i < charges.size(); ++i) {
    const bool promised = i < input.promised.size();
    const TaskModel& task =
        promised ? input.promised[i] : input.best_effort[i - input.promised.size()];
    const Charge& charge = charges[i];
    unknown_bandwidth |= promised && charge.block_ns == kForever_ns;
    Promise promise;
    promise.resident_chunks = prefix_of(planned, task.arena);
    promise.missing_chunks = charge.missing_chunks;
    promise.staged = charge.run_ns > 0;
    promise.lead_chunks = charge.lead_chunks;
    promise.lead_ns = charge.lead_ns;
    promise.block_ns = promise.staged ? charge.run_ns : charge.block_ns;
    (promised ? decision.promises : decision.best_effort).push_back(promise);
  }
  if (unknown_bandwidth) return decision;
  const YieldingSet set = demands_of(input, charges);
  YieldingResult result = run_test(input, set, {}, effort);
  const bool of_stage = result.direct.schedulable;
  decision.utilisation = of_stage ? std::max(result.direct.utilisation, result.stage.utilisation)
                                  : result.direct.utilisation;
  if (!result.schedulable) {
    decision.refusal.failure = of_stage ? result.stage.failure : result.direct.failure;
    const std::vector<size_t> tasks = tasks_of(input, decision, of_stage);
    Failure& failure = *decision.refusal.failure;
    failure.missing_task = tasks[failure.missing_task];
    if (failure.blocking_task) failure.blocking_task = tasks[*failure.blocking_task];
    return decision;
  }
  result = add_best_effort(input, charges, set, std::move(result), decision, effort);
  for (const bool is_staged : {false, true}) {
    const NpEdfResult& part = is_staged ? result.stage : result.direct;
    const std::vector<size_t> tasks = tasks_of(input, decision, is_staged);
    for (size_t index = 0; index < tasks.size() && tasks[index] < input.promised.size(); ++index) {
      Promise& promise = decision.promises[tasks[index]];
      promise.response_ns = part.response_ns[index];
      promise.limit = part.limits[index];
      if (auto& blocking = promise.limit.blocking_task) blocking = tasks[*blocking];
    }
  }
  name_blocking_runs(decision);
  decision.admitted = true;
  return decision;
}

}  // namespace

bool passes(const AdmissionInput& input, Effort* effort) {
  const Plan plan = make_plan(input, effort);
  if (plan.shortage) return false;
  const auto charges =
      charges_of(input, arenas_of(input), plan.prefixes, plan.prefixes, plan.staged);
  for (size_t i = 0; i < input.promised.size(); ++i) {
    if (charges[i].block_ns == kForever_ns) return false;
  }
  return !find_failure(demands_of(input, charges), {0, 0, input.link.overhead_ns}, effort);
}

Decision test(const AdmissionInput& input, const Prefixes& planned, const Prefixes& guaranteed,
              const Staged& staged, Effort* effort) {
  if (!fits(arenas_of(input), planned, staged, input.bank_chunks)) return Decision{};
  return outcome(input, planned, guaranteed, staged, effort);
}

Decision decide(const AdmissionInput& input, Effort* effort) {
  for (const std::vector<TaskModel>* tasks : {&input.promised, &input.best_effort}) {
    for (const TaskModel& task : *tasks) {
      if (task.arena_chunks <= input.bank_chunks) continue;
      Decision decision;
      decision.too_large = true;
      return decision;
    }
  }
  const Plan plan = make_plan(input, effort);
  if (plan.shortage) return Decision{};
  return outcome(input, plan.prefixes, plan.prefixes, plan.staged, effort);
}

Decision admit(const AdmissionInput& input) {
  Decision decision = decide(input);
  if (!decision.admitted) explain(input, decision);
  return decision;
}

}  // namespace rtswap::policy
