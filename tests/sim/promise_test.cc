// Without faults, what is admitted is kept: no miss, and no response beyond its bound.
#include "csrc/simulation/simulation.h"
#include "tests/catch.h"
#include "tests/sim/expect.h"
#include "tests/sim/task_sets.h"

namespace rtswap::simulation {
namespace {

TEST_CASE("admitted sets keep their promise") {
  int admitted_sets = 0;
  int swapping_sets = 0;
  uint64_t jobs = 0;
  for (uint64_t seed = 1; admitted_sets < 2000 && seed < 20000; ++seed) {
    Random random(seed);
    const SimConfig config = test::random_config(random, seed);
    std::vector<SimTask> tasks = test::random_tasks(random, config);
    const SimReport report = run(config, tasks);
    INFO("seed " << seed);
    test::require_all_as_charged(report);
    bool any_admitted = false;
    bool swaps = false;
    for (const SimTaskReport& task : report.tasks) {
      if (task.verdict.state != protocol::TaskState::admitted) continue;
      test::require_kept(task);
      CHECK(task.met == task.released);
      any_admitted = true;
      swaps |= task.evicted_bytes > 0;
      jobs += task.met;
    }
    admitted_sets += any_admitted;
    swapping_sets += swaps;
  }
  CHECK(admitted_sets >= 2000);
  CHECK(swapping_sets >= 500);
  CHECK(jobs > 20000);
}

}  // namespace
}  // namespace rtswap::simulation
