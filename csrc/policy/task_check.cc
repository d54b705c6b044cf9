#include "csrc/policy/task_check.h"

namespace rtswap::policy {
namespace {

// Longer periods are a mistake in the unit, and would overflow sums of deadlines.
constexpr int64_t kLongestPeriod_ns = 366LL * 24 * 3600 * 1'000'000'000;

// More than a test can look at in the time it has; clients join short ones.
constexpr size_t kMostLayers = 256;

std::string mistake_in_timing(const TaskModel& task) {
  if (task.period_ns < 0 || task.deadline_ns < 0 || task.wcet_ns < 0) {
    return "period, deadline and cost must not be negative";
  }
  if (task.period_ns > kLongestPeriod_ns || task.wcet_ns > kLongestPeriod_ns) {
    return "period and cost must be shorter than a year; is the unit right?";
  }
  if (task.period_ns > 0 && task.deadline_ns == 0) return "the deadline must be more than 0";
  if (task.period_ns > 0 && task.deadline_ns > task.period_ns) {
    return "the deadline (" + std::to_string(task.deadline_ns) +
           " ns) must not be later than the period (" + std::to_string(task.period_ns) + " ns)";
  }
  return {};
}

std::string mistake_in_memory(const TaskModel& task) {
  if (task.arena_chunks == 0) return "its arena is empty";
  if (task.mutable_chunks > task.arena_chunks) {
    return "more of its arena is mutable (" + std::to_string(task.mutable_chunks) +
           " chunks) than it has (" + std::to_string(task.arena_chunks) + ")";
  }
  return {};
}

std::string mistake_in_layers(const TaskModel& task) {
  if (task.layers.size() > kMostLayers) {
    return "at most " + std::to_string(kMostLayers) + " layers can be given, not " +
           std::to_string(task.layers.size());
  }
  int64_t left_ns = task.wcet_ns;
  uint32_t chunks = 1;
  for (const Layer& layer : task.layers) {
    if (layer.chunks < chunks || layer.chunks > task.arena_chunks) {
      return "layers must need 1 to all " + std::to_string(task.arena_chunks) +
             " chunks of the arena, none less than the one before";
    }
    chunks = layer.chunks;
    if (layer.execution_ns <= 0 || layer.execution_ns > left_ns) {
      return "the execution of all layers must be positive and together that of the job";
    }
    left_ns -= layer.execution_ns;
  }
  if (!task.layers.empty() && left_ns != 0) {
    return "the layers execute for " + std::to_string(task.wcet_ns - left_ns) +
           " ns together and the job for " + std::to_string(task.wcet_ns);
  }
  return {};
}

}  // namespace

std::string mistake_in(const TaskModel& task) {
  for (const auto& find : {mistake_in_timing, mistake_in_memory, mistake_in_layers}) {
    if (std::string mistake = find(task); !mistake.empty()) return mistake;
  }
  return {};
}

}  // namespace rtswap::policy
