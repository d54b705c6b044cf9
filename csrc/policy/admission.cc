#include "csrc/policy/admission.h"

#include <algorithm>

#include "csrc/base/check.h"
#include "csrc/policy/advice.h"

namespace rtswap::policy {
namespace {

constexpr int64_t kForever_ns = INT64_MAX;

Promise promise_of(const LinkModel& link, const TaskModel& task, const Placement& placement) {
  Promise promise;
  promise.reserved = placement.reserved;
  promise.missing_chunks = placement.missing_chunks;
  promise.block_ns =
      block_ns(link, task.wcet_ns, placement.missing_chunks, placement.write_back_chunks);
  return promise;
}

std::vector<Demand> demands_of(const AdmissionInput& input, const std::vector<Promise>& promises) {
  std::vector<Demand> demands;
  for (size_t i = 0; i < input.promised.size(); ++i) {
    const TaskModel& task = input.promised[i];
    demands.push_back(Demand{task.period_ns, task.deadline_ns, promises[i].block_ns});
  }
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

std::vector<TaskModel> all_tasks(const AdmissionInput& input) {
  std::vector<TaskModel> all = input.promised;
  all.insert(all.end(), input.best_effort.begin(), input.best_effort.end());
  return all;
}

}  // namespace

bool passes(const AdmissionInput& input) {
  const std::vector<TaskModel> all = all_tasks(input);
  const Plan plan = make_plan(all, input.bank_chunks);
  if (plan.shortage) return false;
  std::vector<Promise> promises;
  for (size_t i = 0; i < input.promised.size(); ++i) {
    promises.push_back(promise_of(input.link, all[i], plan.placements[i]));
    if (promises.back().block_ns == kForever_ns) return false;
  }
  const NpEdfOptions options{0, input.link.overhead_ns};
  return test_np_edf(demands_of(input, promises), options).schedulable;
}

Decision admit(const AdmissionInput& input) {
  Decision decision;
  const std::vector<TaskModel> all = all_tasks(input);
  for (const TaskModel& task : all) {
    if (task.arena_chunks > input.bank_chunks) {
      decision.too_large = true;
      decision.reason = explain_too_large(task, input);
      return decision;
    }
  }
  const Plan plan = make_plan(all, input.bank_chunks);
  if (plan.shortage) {
    decision.reason = explain_shortage(*plan.shortage, all, input);
    return decision;
  }
  for (size_t i = 0; i < all.size(); ++i) {
    const Promise promise = promise_of(input.link, all[i], plan.placements[i]);
    (i < input.promised.size() ? decision.promises : decision.best_effort).push_back(promise);
    if (i < input.promised.size() && promise.block_ns == kForever_ns) {
      decision.reason = explain_unknown_bandwidth(all[i]);
      return decision;
    }
  }
  const std::vector<Demand> demands = demands_of(input, decision.promises);
  NpEdfResult result = test_np_edf(demands, NpEdfOptions{0, input.link.overhead_ns});
  decision.utilisation = result.utilisation;
  if (!result.schedulable) {
    decision.reason = explain_failure(*result.failure, result.utilisation, demands, input);
    return decision;
  }
  result = add_best_effort(input, demands, std::move(result), decision);
  for (size_t i = 0; i < decision.promises.size(); ++i) {
    decision.promises[i].response_ns = result.response_ns[i];
  }
  decision.admitted = true;
  return decision;
}

}  // namespace rtswap::policy
