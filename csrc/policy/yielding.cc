#include "csrc/policy/yielding.h"

#include <algorithm>
#include <numeric>
#include <utility>

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

NpEdfOptions beside_direct(const YieldingSet& set, const YieldingOptions& options) {
  NpEdfOptions beside{options.best_effort_block_ns, options.release_latency_ns, {}};
  for (const StagedDemand& task : set.staged) {
    beside.outside_block_ns = std::max(beside.outside_block_ns, task.run_ns);
  }
  return beside;
}

// Most that the jobs of each direct task keep a run waiting whose lead is there: they go on in one
// go, which began while a block of `before_ns` held the device. Empty: it may have no end.
std::vector<int64_t> longest_waits_ns(const YieldingSet& set, const YieldingOptions& options,
                                      int64_t before_ns) {
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

int64_t sum_of(const std::vector<int64_t>& values) {
  return std::accumulate(values.begin(), values.end(), int64_t{0});
}

// How long runs may have to wait, counted in one of two ways.
struct Waits {
  std::vector<int64_t> longest_ns;  // by direct task; empty: not known
  int64_t least_lead_ns = 0;        // a lead counts as so long, if it is shorter
};

// When the lead is there, all that has come during an earlier run is waited for.
Waits waits_after_runs(const YieldingSet& set, const YieldingOptions& options) {
  int64_t before_ns = options.best_effort_block_ns;
  for (const StagedDemand& task : set.staged) before_ns = std::max(before_ns, task.run_ns);
  return {longest_waits_ns(set, options, before_ns), 0};
}

// Only what comes from the beginning of the lead on. Or else direct jobs held the device all the
// time since the earlier run, for no longer than `after_runs` says, and the lead came meanwhile.
Waits waits_after_leads(const YieldingSet& set, const YieldingOptions& options,
                        const Waits& after_runs) {
  if (after_runs.longest_ns.empty()) return {};
  Waits waits{longest_waits_ns(set, options, options.best_effort_block_ns), 0};
  waits.least_lead_ns = sum_of(after_runs.longest_ns) - sum_of(waits.longest_ns);
  return waits;
}

std::vector<Demand> stage_demands(const YieldingSet& set, const Waits& waits) {
  std::vector<Demand> demands;
  for (const StagedDemand& task : set.staged) {
    const int64_t lead_ns = std::max(task.lead_ns, waits.least_lead_ns);
    int64_t block_ns = 0;
    const bool forever = __builtin_add_overflow(lead_ns, task.run_ns, &block_ns);
    demands.push_back(Demand{task.period_ns, task.deadline_ns, forever ? INT64_MAX : block_ns});
  }
  return demands;
}

// Best effort may delay a staged job of later deadline that is in the way: hence a sum.
NpEdfOptions beside_staged(const YieldingSet& set, const YieldingOptions& options,
                           const Waits& waits, const std::vector<int64_t>& direct_response_ns) {
  NpEdfOptions beside{0, options.release_latency_ns + options.best_effort_delay_ns, {}};
  for (size_t j = 0; j < set.direct.size(); ++j) {
    const DirectDemand& task = set.direct[j];
    Interference other{task.demand.period_ns, direct_response_ns[j], task.delay_ns, 0, {}};
    if (!waits.longest_ns.empty()) {
      other.stall_ns = task.stall_ns;
      other.wait_ns = waits.longest_ns[j];
    }
    beside.interference.push_back(other);
  }
  return beside;
}

// Both hold, so the lesser bound of each task does.
NpEdfResult lesser(NpEdfResult one, const NpEdfResult& other) {
  if (!other.schedulable) return one;
  if (!one.schedulable) return other;
  one.utilisation = std::min(one.utilisation, other.utilisation);
  for (size_t i = 0; i < one.response_ns.size(); ++i) {
    if (one.response_ns[i] <= other.response_ns[i]) continue;
    one.response_ns[i] = other.response_ns[i];
    one.limits[i] = other.limits[i];
  }
  return one;
}

}  // namespace

YieldingResult test_yielding(const YieldingSet& set, const YieldingOptions& options,
                             Effort* effort) {
  YieldingResult result;
  result.direct = test_np_edf(direct_demands(set), beside_direct(set, options), effort);
  if (!result.direct.schedulable) return result;
  const auto with = [&](const Waits& waits) {
    return test_np_edf(stage_demands(set, waits),
                       beside_staged(set, options, waits, result.direct.response_ns), effort);
  };
  const Waits after_runs = waits_after_runs(set, options);
  const Waits after_leads = waits_after_leads(set, options, after_runs);
  result.stage = with(after_runs);
  if (!after_leads.longest_ns.empty()) {
    result.stage = lesser(std::move(result.stage), with(after_leads));
  }
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
  const auto with = [&](const Waits& waits) {
    return find_failure(stage_demands(set, waits),
                        beside_staged(set, options, waits, result.response_ns), effort);
  };
  const Waits after_runs = waits_after_runs(set, options);
  const Waits after_leads = waits_after_leads(set, options, after_runs);
  const bool two_ways = !after_leads.longest_ns.empty();
  const auto failure = with(two_ways ? after_leads : after_runs);
  if (!failure || (two_ways && !with(after_runs))) return std::nullopt;
  return YieldingFailure{true, *failure, result.response_ns};
}

}  // namespace rtswap::policy
