#include "csrc/policy/yielding.h"

#include <algorithm>

namespace rtswap::policy {
namespace {

std::vector<Demand> direct_demands(const YieldingSet& set) {
  std::vector<Demand> demands;
  for (const DirectDemand& task : set.direct) demands.push_back(task.demand);
  return demands;
}

std::vector<Demand> stage_demands(const YieldingSet& set) {
  std::vector<Demand> demands;
  for (const StagedDemand& task : set.staged) {
    int64_t block_ns = 0;
    const bool forever = __builtin_add_overflow(task.lead_ns, task.run_ns, &block_ns);
    demands.push_back(Demand{task.period_ns, task.deadline_ns, forever ? INT64_MAX : block_ns});
  }
  return demands;
}

NpEdfOptions beside_direct(const YieldingSet& set, const YieldingOptions& options) {
  NpEdfOptions beside{options.best_effort_block_ns, options.release_latency_ns, {}};
  for (const StagedDemand& task : set.staged) {
    beside.outside_block_ns = std::max(beside.outside_block_ns, task.run_ns);
  }
  return beside;
}

// Best effort may delay a staged job of later deadline that is in the way: hence a sum.
NpEdfOptions beside_staged(const YieldingSet& set, const YieldingOptions& options,
                           const std::vector<int64_t>& direct_response_ns) {
  NpEdfOptions beside{0, options.release_latency_ns + options.best_effort_delay_ns, {}};
  for (size_t j = 0; j < set.direct.size(); ++j) {
    const DirectDemand& task = set.direct[j];
    beside.interference.push_back(
        Interference{task.demand.period_ns, direct_response_ns[j], task.delay_ns});
  }
  return beside;
}

}  // namespace

YieldingResult test_yielding(const YieldingSet& set, const YieldingOptions& options) {
  YieldingResult result;
  result.direct = test_np_edf(direct_demands(set), beside_direct(set, options));
  if (!result.direct.schedulable) return result;
  result.stage =
      test_np_edf(stage_demands(set), beside_staged(set, options, result.direct.response_ns));
  result.schedulable = result.stage.schedulable;
  return result;
}

std::optional<YieldingFailure> find_failure(const YieldingSet& set, const YieldingOptions& options,
                                            Effort* effort) {
  const std::vector<Demand> direct = direct_demands(set);
  const NpEdfOptions beside = beside_direct(set, options);
  if (const auto failure = find_failure(direct, beside, effort)) {
    return YieldingFailure{false, *failure, {}};
  }
  if (set.staged.empty()) return std::nullopt;
  const NpEdfResult result = test_np_edf(direct, beside, effort);
  if (result.failure) return YieldingFailure{false, *result.failure, {}};
  const auto failure =
      find_failure(stage_demands(set), beside_staged(set, options, result.response_ns), effort);
  if (!failure) return std::nullopt;
  return YieldingFailure{true, *failure, result.response_ns};
}

}  // namespace rtswap::policy
