#include "csrc/policy/yielding.h"

#include <algorithm>

namespace rtswap::policy {

YieldingResult test_yielding(const YieldingSet& set, const YieldingOptions& options) {
  YieldingResult result;
  std::vector<Demand> direct;
  for (const DirectDemand& task : set.direct) direct.push_back(task.demand);
  NpEdfOptions beside_direct{options.best_effort_block_ns, options.release_latency_ns, {}};
  std::vector<Demand> staged;
  for (const StagedDemand& task : set.staged) {
    beside_direct.outside_block_ns = std::max(beside_direct.outside_block_ns, task.run_ns);
    staged.push_back(Demand{task.period_ns, task.deadline_ns, task.lead_ns + task.run_ns});
  }
  result.direct = test_np_edf(direct, beside_direct);
  if (!result.direct.schedulable) return result;

  // Best effort may delay a staged job of later deadline that is in the way: hence a sum.
  NpEdfOptions beside_staged{0, options.release_latency_ns + options.best_effort_delay_ns, {}};
  for (size_t j = 0; j < set.direct.size(); ++j) {
    beside_staged.interference.push_back(Interference{
        set.direct[j].demand.period_ns, result.direct.response_ns[j], set.direct[j].delay_ns});
  }
  result.stage = test_np_edf(staged, beside_staged);
  result.schedulable = result.stage.schedulable;
  return result;
}

}  // namespace rtswap::policy
