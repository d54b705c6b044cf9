// Models that are spread over two devices, beside models on one: promises hold on both devices, and
// faults leave no half behind.
#include <algorithm>

#include "csrc/simulation/simulation.h"
#include "tests/catch.h"
#include "tests/sim/expect.h"
#include "tests/sim/task_sets.h"

namespace rtswap::simulation {
namespace {

using protocol::TaskState;

constexpr int64_t kMs = test::kMs;

SimConfig two_devices(Random& random, uint64_t seed) {
  SimConfig config = test::random_config(random, seed);
  config.devices = 2;
  return config;
}

// Random tasks on either device, and some that span both.
std::vector<SimTask> random_tasks(Random& random, const SimConfig& config) {
  std::vector<SimTask> tasks = test::random_tasks(random, config);
  for (SimTask& task : tasks) task.device = static_cast<uint32_t>(random.between(0, 1));
  const auto some = [&] {
    return static_cast<uint32_t>(random.between(1, std::max(2U, config.chunk_count * 2 / 3)));
  };
  for (int64_t count = random.between(1, 3); count > 0; --count) {
    SimTask task;
    task.name = "span" + std::to_string(count);
    task.device = static_cast<uint32_t>(random.between(0, 1));
    task.arena_chunks = some();
    task.mutable_chunks = task.arena_chunks / 4;
    const uint32_t chunks = some();
    task.further.push_back({1 - task.device, chunks, chunks / 4});
    task.wcet_ns = random.between(1, 30) * kMs;
    task.execution_max_ns = task.wcet_ns;
    task.spacing_ns = random.between(60, 900) * kMs;
    task.importance = static_cast<int32_t>(count % 3);
    if (random.between(0, 1) == 0) {
      task.period_ns = task.spacing_ns;
      task.late_run = random.between(0, 1) == 0;
      task.best_effort_if_refused = true;
    }
    tasks.push_back(task);
  }
  return tasks;
}

bool spans(const SimTaskReport& task) { return task.name.starts_with("span"); }

TEST_CASE("promises on either device hold beside tasks that span both") {
  uint64_t promised = 0;
  uint64_t spanning = 0;
  uint64_t swapped = 0;
  for (uint64_t seed = 1; seed <= 1500; ++seed) {
    Random random(seed * 17);
    const SimConfig config = two_devices(random, seed);
    const SimReport report = run(config, random_tasks(random, config));
    INFO("seed " << seed);
    test::require_no_violation(report);
    for (const SimTaskReport& task : report.tasks) {
      if (spans(task)) {
        REQUIRE(task.verdict.state != TaskState::admitted);
        spanning += task.met + task.missed;
        swapped += task.evicted_bytes > 0;
      } else if (task.verdict.state == TaskState::admitted) {
        test::require_kept(task);
        REQUIRE(task.met == task.released);
        promised += task.met;
      }
    }
  }
  CHECK(promised > 20000);
  CHECK(spanning > 5000);
  CHECK(swapped > 500);
}

TEST_CASE("faults of clients that span devices leave no half behind") {
  uint64_t faults = 0;
  uint64_t recovered = 0;
  for (uint64_t seed = 1; seed <= 600; ++seed) {
    Random random(seed * 31);
    SimConfig config = two_devices(random, seed);
    config.hang_timeout_ns = 150 * kMs;
    config.faults = test::all_faults(random.between(50, 400) * kMs);
    if (seed % 5 == 0) config.discipline = arbiter::Discipline::request_order;
    // Faults come in the first half: what is left must recover.
    config.faults_end_ns = config.horizon_ns;
    config.horizon_ns += 4'000 * kMs;
    std::vector<SimTask> tasks = random_tasks(random, config);
    const bool promises = seed % 2 == 0;
    for (SimTask& task : tasks) {
      if (promises) break;
      if (task.spacing_ns == 0) task.spacing_ns = task.period_ns;
      task.period_ns = task.deadline_ns = 0;
    }
    const SimReport report = run(config, tasks);
    INFO("seed " << seed);
    test::require_no_violation(report);
    for (const SimTaskReport& task : report.tasks) {
      // Best effort beside promises may wait long; promised work may not, and beside none nobody.
      const TaskState wanted = promises ? TaskState::admitted : TaskState::best_effort;
      if (task.verdict.state != wanted) continue;
      recovered += spans(task);
      test::require_going_on(task, config.horizon_ns - 2'500 * kMs);
    }
    faults +=
        report.crashes + report.disconnects + report.hangs + report.lies + report.restore_failures;
  }
  CHECK(faults > 2000);
  CHECK(recovered > 400);
}

}  // namespace
}  // namespace rtswap::simulation
