// Tasks that come, pause, come back and leave while others keep their promises: no miss, no job
// dropped, no response above the bounds in force while it ran.
#include <algorithm>

#include "csrc/simulation/simulation.h"
#include "tests/catch.h"
#include "tests/sim/expect.h"
#include "tests/sim/task_sets.h"

namespace rtswap::simulation {
namespace {

using test::come_and_go;

constexpr int64_t kMs = test::kMs;

TEST_CASE("promises hold while tasks join, pause and leave") {
  uint64_t jobs = 0;
  uint64_t swapped_bytes = 0;
  int admitted_late = 0;
  for (uint64_t seed = 1; seed <= 4000; ++seed) {
    Random random(seed * 13);
    SimConfig config = test::random_config(random, seed);
    config.first_release_ns = 0;
    config.horizon_ns = 2'000 * kMs;
    std::vector<SimTask> tasks = test::random_tasks(random, config);
    come_and_go(random, config, tasks);
    const SimReport report = run(config, tasks);
    INFO("seed " << seed);
    test::require_all_as_charged(report);
    for (size_t i = 0; i < tasks.size(); ++i) {
      const SimTaskReport& task = report.tasks[i];
      // A promise that is never given up: the task was admitted, or refused, from its first answer.
      if (task.response_bound_ns == 0 || tasks[i].best_effort_if_refused) continue;
      test::require_kept(task);
      jobs += task.met;
      swapped_bytes += task.evicted_bytes;
      admitted_late += tasks[i].join_ns > 0;
    }
  }
  CHECK(jobs > 20000);
  CHECK(admitted_late > 1000);
  CHECK(swapped_bytes > 0);
}

}  // namespace
}  // namespace rtswap::simulation
