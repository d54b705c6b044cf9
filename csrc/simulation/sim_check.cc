#include "csrc/simulation/sim_check.h"

#include <initializer_list>

#include "csrc/policy/task_check.h"

namespace rtswap::simulation {
namespace {

// Sums of a few instants stay far from overflow.
constexpr int64_t kYear_ns = 366LL * 24 * 3600 * 1'000'000'000;
constexpr double kMostFaults_per_s = 1e6;

struct Named {
  const char* name;
  int64_t value_ns;
};

std::string mistake_in_durations(std::initializer_list<Named> durations) {
  for (const auto& [name, value_ns] : durations) {
    if (value_ns < 0 || value_ns > kYear_ns) {
      return std::string(name) + " must be from 0 to a year, not " + std::to_string(value_ns) +
             " ns";
    }
  }
  return {};
}

}  // namespace

std::string mistake_in(const SimConfig& config) {
  if (config.chunk_bytes == 0 || config.chunk_count == 0 || config.bytes_per_s == 0) {
    return "chunk_bytes, chunk_count and bytes_per_s must be more than 0";
  }
  std::string mistake = mistake_in_durations({{"chunk_cost_ns", config.chunk_cost_ns},
                                              {"latency_min_ns", config.latency_min_ns},
                                              {"latency_max_ns", config.latency_max_ns},
                                              {"first_release_ns", config.first_release_ns},
                                              {"horizon_ns", config.horizon_ns},
                                              {"hang_timeout_ns", config.hang_timeout_ns},
                                              {"faults_end_ns", config.faults_end_ns},
                                              {"hang_ns", config.faults.hang_ns}});
  if (!mistake.empty()) return mistake;
  if (config.latency_min_ns > config.latency_max_ns) {
    return "latency_min_ns must not be more than latency_max_ns";
  }
  if (config.first_release_ns > config.horizon_ns) {
    return "the horizon must not lie before the first release";
  }
  const SimFaults& faults = config.faults;
  const auto possible = [](double per_s) { return per_s >= 0 && per_s <= kMostFaults_per_s; };
  for (const double per_s :
       {faults.crashes, faults.disconnects, faults.hangs, faults.lies, faults.restore_failures}) {
    if (!possible(per_s)) return "faults are from 0 to a million a second";
  }
  return {};
}

std::string mistake_in(const SimTask& task) {
  policy::TaskModel model;
  model.period_ns = task.period_ns;
  model.deadline_ns = task.deadline_ns != 0 ? task.deadline_ns : task.period_ns;
  model.wcet_ns = task.wcet_ns;
  model.arena_chunks = task.arena_chunks;
  model.mutable_chunks = task.mutable_chunks;
  for (const protocol::LayerNeed& layer : task.layers) {
    model.layers.push_back({layer.chunks, layer.execution_ns});
  }
  if (std::string mistake = policy::mistake_in(model); !mistake.empty()) return mistake;
  std::string mistake = mistake_in_durations({{"execution_min_ns", task.execution_min_ns},
                                              {"execution_max_ns", task.execution_max_ns},
                                              {"spacing_ns", task.spacing_ns},
                                              {"jitter_ns", task.jitter_ns},
                                              {"offset_ns", task.offset_ns},
                                              {"join_ns", task.join_ns}});
  if (!mistake.empty()) return mistake;
  if (task.on_grid && task.spacing_ns == 0 && task.period_ns == 0) {
    return "on_grid needs a spacing_ns or a period_ns";
  }
  if (task.execution_min_ns > task.execution_max_ns) {
    return "execution_min_ns must not be more than execution_max_ns";
  }
  return {};
}

}  // namespace rtswap::simulation
