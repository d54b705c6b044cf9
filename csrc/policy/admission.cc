#include "csrc/policy/admission.h"

#include <algorithm>

#include "csrc/policy/advice.h"
#include "csrc/policy/plan.h"

namespace rtswap::policy {
namespace {

constexpr int64_t kForever_ns = INT64_MAX;

std::vector<Demand> demands_of(const AdmissionInput& input, const std::vector<Promise>& promises) {
  std::vector<Demand> demands;
  for (size_t i = 0; i < input.promised.size(); ++i) {
    const TaskModel& task = input.promised[i];
    demands.push_back(Demand{task.period_ns, task.deadline_ns, promises[i].block_ns});
  }
  demands.insert(demands.end(), input.leaving.begin(), input.leaving.end());
  return demands;
}

// Blocks of best-effort work of known length, each of which alone leaves the promises intact. Since
// blocking counts the longest only, they do so together.
NpEdfResult add_best_effort(const AdmissionInput& input, const std::vector<Demand>& demands,
                            NpEdfResult result, Decision& decision) {
  std::vector<int64_t> blocks;
  for (size_t i = 0; i < input.best_effort.size(); ++i) {
    if (input.best_effort[i].wcet_ns > 0) blocks.push_back(decision.best_effort[i].block_ns);
  }
  for (size_t i = 0; i < input.may_run_late.size(); ++i) {
    if (input.may_run_late[i]) blocks.push_back(decision.promises[i].block_ns);
  }
  std::sort(blocks.rbegin(), blocks.rend());
  blocks.erase(std::unique(blocks.begin(), blocks.end()), blocks.end());
  for (const int64_t block : blocks) {
    if (block == kForever_ns) continue;
    NpEdfResult with = test_np_edf(demands, NpEdfOptions{block, input.link.overhead_ns});
    if (!with.schedulable) continue;
    decision.best_effort_block_ns = block;
    return with;
  }
  return result;
}

// The outcome of the test, without words.
Decision outcome(const AdmissionInput& input, const Prefixes& planned, const Prefixes& guaranteed) {
  Decision decision;
  decision.prefixes = planned;
  const std::vector<ArenaUse> arenas = arenas_of(input);
  const std::vector<Charge> charges = charges_of(input, arenas, planned, guaranteed);
  bool unknown_bandwidth = false;
  for (size_t i = 0; i < charges.size(); ++i) {
    const bool promised = i < input.promised.size();
    const TaskModel& task =
        promised ? input.promised[i] : input.best_effort[i - input.promised.size()];
    unknown_bandwidth |= promised && charges[i].block_ns == kForever_ns;
    (promised ? decision.promises : decision.best_effort)
        .push_back(Promise{
            prefix_of(planned, task.arena), charges[i].missing_chunks, charges[i].block_ns, 0, {}});
  }
  if (unknown_bandwidth) return decision;
  const std::vector<Demand> demands = demands_of(input, decision.promises);
  NpEdfResult result = test_np_edf(demands, NpEdfOptions{0, input.link.overhead_ns});
  decision.utilisation = result.utilisation;
  if (!result.schedulable) {
    decision.refusal.failure = result.failure;
    return decision;
  }
  result = add_best_effort(input, demands, std::move(result), decision);
  for (size_t i = 0; i < decision.promises.size(); ++i) {
    decision.promises[i].response_ns = result.response_ns[i];
    decision.promises[i].limit = result.limits[i];
  }
  decision.admitted = true;
  return decision;
}

}  // namespace

bool passes(const AdmissionInput& input, Effort* effort) {
  const Plan plan = make_plan(input, effort);
  if (plan.shortage) return false;
  std::vector<Demand> demands;
  const auto charges = charges_of(input, arenas_of(input), plan.prefixes, plan.prefixes);
  for (size_t i = 0; i < input.promised.size(); ++i) {
    if (charges[i].block_ns == kForever_ns) return false;
    const TaskModel& task = input.promised[i];
    demands.push_back(Demand{task.period_ns, task.deadline_ns, charges[i].block_ns});
  }
  demands.insert(demands.end(), input.leaving.begin(), input.leaving.end());
  return !find_failure(demands, NpEdfOptions{0, input.link.overhead_ns}, effort);
}

Decision test(const AdmissionInput& input, const Prefixes& planned, const Prefixes& guaranteed) {
  if (!fits(arenas_of(input), planned, input.bank_chunks)) return Decision{};
  return outcome(input, planned, guaranteed);
}

Decision decide(const AdmissionInput& input) {
  for (const std::vector<TaskModel>* tasks : {&input.promised, &input.best_effort}) {
    for (const TaskModel& task : *tasks) {
      if (task.arena_chunks <= input.bank_chunks) continue;
      Decision decision;
      decision.too_large = true;
      return decision;
    }
  }
  const Plan plan = make_plan(input);
  if (plan.shortage) return Decision{};
  return outcome(input, plan.prefixes, plan.prefixes);
}

Decision admit(const AdmissionInput& input) {
  Decision decision = decide(input);
  if (!decision.admitted) explain(input, decision);
  return decision;
}

}  // namespace rtswap::policy
