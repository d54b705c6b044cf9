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

// Parts of the execution of a task, needs that grow to all or less.
inline std::vector<protocol::LayerNeed> random_layers(Random& random, const SimTask& task) {
  std::vector<uint32_t> needs;
  std::vector<int64_t> ends_ns{task.wcet_ns};
  for (int64_t layers = random.between(1, 6); layers > 0; --layers) {
    needs.push_back(static_cast<uint32_t>(random.between(1, task.arena_chunks)));
  }
  std::sort(needs.begin(), needs.end());
  while (ends_ns.size() < needs.size()) ends_ns.push_back(random.between(1, task.wcet_ns - 1));
  std::sort(ends_ns.begin(), ends_ns.end());
  ends_ns.erase(std::unique(ends_ns.begin(), ends_ns.end()), ends_ns.end());
  std::vector<protocol::LayerNeed> layers;
  int64_t begin_ns = 0;
  for (size_t i = 0; i < ends_ns.size(); ++i) {
    layers.push_back({needs[i], ends_ns[i] - begin_ns});
    begin_ns = ends_ns[i];
  }
  return layers;
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
    task.importance = static_cast<int32_t>(i % 3);
    if (random.between(0, 1) == 0) task.layers = random_layers(random, task);
    if (random.between(0, 9) == 0) {  // aperiodic work of known length
      task.spacing_ns = task.period_ns;
      task.period_ns = 0;
      task.deadline_ns = 0;
    }
    tasks.push_back(task);
  }
  return tasks;
}

// What is admitted before anything is released.
inline SimReport verdicts(SimConfig config, const std::vector<SimTask>& tasks) {
  config.horizon_ns = 0;
  config.check_every_step = false;
  return run(config, tasks);
}

// Deadlines become the bounds that the whole set gets with them, as often as it passes.
inline void tighten(const SimConfig& config, std::vector<SimTask>& tasks) {
  for (int round = 0; round < 4; ++round) {
    const SimReport report = verdicts(config, tasks);
    std::vector<SimTask> tighter = tasks;
    for (size_t i = 0; i < tasks.size(); ++i) {
      const auto& verdict = report.tasks[i].verdict;
      if (verdict.state != protocol::TaskState::admitted) return;
      tighter[i].deadline_ns = std::min(verdict.response_bound_ns, tasks[i].period_ns);
    }
    tasks = tighter;
  }
}

inline bool all_admitted(const SimReport& report) {
  return std::all_of(report.tasks.begin(), report.tasks.end(), [](const SimTaskReport& task) {
    return task.verdict.state == protocol::TaskState::admitted;
  });
}

// Half of the tasks come late, leave early, or pause.
inline void come_and_go(Random& random, const SimConfig& config, std::vector<SimTask>& tasks) {
  const auto instant = [&] { return random.between(1, config.horizon_ns / kMs) * kMs; };
  for (SimTask& task : tasks) {
    if (random.between(0, 1) == 0) task.join_ns = instant();
    if (random.between(0, 2) == 0) task.leave_ns = instant();
    if (random.between(0, 1) == 0) {
      task.pause_ns = instant();
      task.resume_ns = task.pause_ns + random.between(1, 300) * kMs;
    }
  }
}

inline SimFaults all_faults(int64_t hang_ns) {
  SimFaults faults;
  faults.crashes = 1.0;
  faults.disconnects = 1.5;
  faults.hangs = 1.0;
  faults.lies = 1.0;
  faults.restore_failures = 1.5;
  faults.hang_ns = hang_ns;
  return faults;
}

}  // namespace rtswap::simulation::test
