// Random systems for the simulation tests: small, dense, and most of them short of memory.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "csrc/simulation/simulation.h"
#include "csrc/simulation/world.h"

namespace rtswap::simulation::test {

inline constexpr int64_t kMs = 1'000'000;

inline SimConfig random_config(Random& random, uint64_t seed) {
  SimConfig config;
  config.chunk_bytes = 16 << 20;
  config.chunk_count = static_cast<uint32_t>(random.between(12, 40));
  config.bytes_per_s = static_cast<uint64_t>(random.between(4, 50)) * 1'000'000'000;
  config.chunk_cost_ns = random.between(0, 200'000);
  config.seed = seed * 7919;
  config.first_release_ns = 2'000 * kMs;
  config.horizon_ns = config.first_release_ns + 3'000 * kMs;
  return config;
}

inline std::vector<SimTask> random_tasks(Random& random, const SimConfig& config) {
  std::vector<SimTask> tasks;
  const int64_t count = random.between(2, 6);
  for (int64_t i = 0; i < count; ++i) {
    SimTask task;
    task.name = "task" + std::to_string(i);
    task.arena_chunks =
        static_cast<uint32_t>(random.between(1, std::max<int64_t>(2, config.chunk_count * 2 / 3)));
    task.mutable_chunks = static_cast<uint32_t>(random.between(0, task.arena_chunks / 4));
    task.wcet_ns = random.between(1 * kMs, 40 * kMs);
    task.period_ns = random.between(60, 900) * kMs;
    task.deadline_ns = random.between(task.period_ns / 2, task.period_ns);
    task.execution_min_ns = random.between(0, task.wcet_ns);
    task.execution_max_ns = task.wcet_ns;
    task.jitter_ns = random.between(0, 3) == 0 ? random.between(0, 100) * kMs : 0;
    task.offset_ns = random.between(0, 1) * random.between(0, 50) * kMs;
    task.resident = random.between(0, 5) == 0;
    task.late_run = random.between(0, 4) == 0;
    task.best_effort_if_refused = random.between(0, 2) == 0;
    if (random.between(0, 9) == 0) {  // aperiodic work of known length
      task.spacing_ns = task.period_ns;
      task.period_ns = 0;
      task.deadline_ns = 0;
    }
    tasks.push_back(task);
  }
  return tasks;
}

}  // namespace rtswap::simulation::test
