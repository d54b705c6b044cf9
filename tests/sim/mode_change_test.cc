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

// "second" has waited for it when "joins" asks, which leaves room for shorter ones only.
TEST_CASE("best-effort work that has ended counts in its window, whoever joins") {
  for (int64_t join_ms = 101; join_ms <= 200; ++join_ms) {
    SimConfig config;
    config.chunk_count = 50;
    config.bytes_per_s = 20'000'000'000;
    config.latency_min_ns = 10'000;
    config.latency_max_ns = 20'000;
    config.first_release_ns = 100 * kMs;
    config.horizon_ns = 600 * kMs;
    const auto task = [](const char* name, int64_t deadline_ms, int64_t period_ms,
                         int64_t wcet_ms) {
      SimTask made;
      made.name = name;
      made.arena_chunks = 1;
      made.period_ns = period_ms * kMs;
      made.deadline_ns = deadline_ms * kMs;
      made.wcet_ns = wcet_ms * kMs;
      return made;
    };
    std::vector<SimTask> tasks{task("first", 100, 100, 10), task("second", 101, 101, 10),
                               task("best effort", 0, 0, 55), task("joins", 44, 45, 30)};
    tasks[0].offset_ns = tasks[1].offset_ns = kMs;
    tasks[2].spacing_ns = 1'000 * kMs;
    tasks[3].join_ns = join_ms * kMs;
    const SimReport report = run(config, tasks);
    INFO("joins at " << join_ms << " ms");
    test::require_all_as_charged(report);
    CHECK(report.tasks[3].response_bound_ns > 0);
    for (const SimTaskReport& it : report.tasks) test::require_kept(it);
  }
}

}  // namespace
}  // namespace rtswap::simulation
