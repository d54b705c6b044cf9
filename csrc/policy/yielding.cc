#include "csrc/policy/yielding.h"

#include <algorithm>

namespace rtswap::policy {
namespace {

using Wide = __int128;

// Beyond, waiting is no way to count.
constexpr int64_t kLongestWait_ns = 3'600'000'000'000;
constexpr int kMostRounds = 100;

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

// Most that the jobs of each direct task keep a run waiting whose lead is there: they go on in one
// go, which began while an earlier run or best effort held the device. Empty: it may have no end.
std::vector<int64_t> longest_waits_ns(const YieldingSet& set, const YieldingOptions& options) {
  int64_t before_ns = options.best_effort_block_ns;
  for (const StagedDemand& task : set.staged) before_ns = std::max(before_ns, task.run_ns);
  int64_t busy_ns = 0;
  for (int round = 0; round < kMostRounds; ++round) {
    std::vector<int64_t> waits_ns;
    Wide all_ns = 0;
    for (const DirectDemand& task : set.direct) {
      const Wide seen_ns = static_cast<Wide>(before_ns) + busy_ns + options.release_latency_ns;
      const Wide wait_ns = (seen_ns / task.demand.period_ns + 1) * task.demand.block_ns;
      all_ns += wait_ns;
      if (all_ns > kLongestWait_ns) return {};
      waits_ns.push_back(static_cast<int64_t>(wait_ns));
    }
    if (all_ns == busy_ns) return waits_ns;
    busy_ns = static_cast<int64_t>(all_ns);
  }
  return {};
}

// Best effort may delay a staged job of later deadline that is in the way: hence a sum.
NpEdfOptions beside_staged(const YieldingSet& set, const YieldingOptions& options,
                           const std::vector<int64_t>& direct_response_ns) {
  NpEdfOptions beside{0, options.release_latency_ns + options.best_effort_delay_ns, {}};
  const std::vector<int64_t> waits_ns = longest_waits_ns(set, options);
  for (size_t j = 0; j < set.direct.size(); ++j) {
    const DirectDemand& task = set.direct[j];
    Interference other{task.demand.period_ns, direct_response_ns[j], task.delay_ns, 0, {}};
    if (!waits_ns.empty()) {
      other.stall_ns = task.stall_ns;
      other.wait_ns = waits_ns[j];
    }
    beside.interference.push_back(other);
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
