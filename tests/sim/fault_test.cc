// With faults: the ledger stays whole, no chunk has two owners, no job's memory is taken, and those
// who obey the protocol go on.
#include <algorithm>

#include "csrc/simulation/simulation.h"
#include "tests/catch.h"
#include "tests/sim/expect.h"
#include "tests/sim/task_sets.h"

namespace rtswap::simulation {
namespace {

using test::all_faults;

constexpr int64_t kMs = test::kMs;

TEST_CASE("faults break no invariant and stop nobody for good") {
  uint64_t crashes = 0;
  uint64_t disconnects = 0;
  uint64_t hangs = 0;
  uint64_t lies = 0;
  uint64_t restore_failures = 0;
  for (uint64_t seed = 1; seed <= 400; ++seed) {
    Random random(seed * 31);
    SimConfig config = test::random_config(random, seed);
    config.hang_timeout_ns = 150 * kMs;
    config.faults = all_faults(random.between(50, 400) * kMs);
    if (seed % 5 == 0) config.discipline = arbiter::Discipline::request_order;
    // Faults come in the first half: what is left must recover.
    const int64_t faults_end_ns = config.horizon_ns;
    config.horizon_ns += 4'000 * kMs;
    config.faults_end_ns = faults_end_ns;
    const std::vector<SimTask> tasks = test::random_tasks(random, config);
    const SimReport report = run(config, tasks);
    INFO("seed " << seed);
    test::require_no_violation(report);
    for (const SimTaskReport& task : report.tasks) {
      // Best effort beside promises may wait long; promised work may not.
      const bool promised = task.verdict.state == protocol::TaskState::admitted;
      if (!promised) continue;
      test::require_going_on(task, config.horizon_ns - 2'500 * kMs);
    }
    crashes += report.crashes;
    disconnects += report.disconnects;
    hangs += report.hangs;
    lies += report.lies;
    restore_failures += report.restore_failures;
  }
  CHECK(std::min({crashes, disconnects, hangs, lies, restore_failures}) > 200);
}

TEST_CASE("a fault of one client costs the others nothing while their memory is reserved") {
  SimConfig config;
  config.chunk_bytes = 16 << 20;
  config.chunk_count = 12;
  config.bytes_per_s = 10'000'000'000;
  config.first_release_ns = 500 * kMs;
  config.horizon_ns = 5'000 * kMs;
  SimTask steady;
  steady.name = "steady";
  steady.period_ns = 50 * kMs;
  steady.wcet_ns = 5 * kMs;
  steady.arena_chunks = 4;
  steady.resident = true;
  SimTask shaky = steady;
  shaky.name = "shaky";
  shaky.resident = false;
  shaky.arena_chunks = 8;
  // Only crashes: a hang or a broken link may keep the device for the hang limit.
  config.faults.crashes = 4;
  const SimReport report = run(config, {steady, shaky});
  test::require_no_violation(report);
  CHECK(report.crashes > 10);
  // Faults hit either client; each one's jobs are lost by its own crashes only.
  const SimTaskReport& first = report.tasks[0];
  CHECK(first.missed == 0);
  CHECK(first.met + report.crashes >= first.released);
}

TEST_CASE("equal seeds give equal runs") {
  const auto once = [] {
    Random random(5);
    SimConfig config = test::random_config(random, 5);
    config.hang_timeout_ns = 150 * kMs;
    config.faults = all_faults(200 * kMs);
    config.keep_trace = true;
    return run(config, test::random_tasks(random, config));
  };
  const SimReport a = once();
  const SimReport b = once();
  REQUIRE(a.trace.size() == b.trace.size());
  CHECK(a.trace.size() > 100);
  for (size_t i = 0; i < a.trace.size(); ++i) {
    REQUIRE(a.trace[i].kind == b.trace[i].kind);
    REQUIRE(a.trace[i].at_ns == b.trace[i].at_ns);
    REQUIRE(a.trace[i].task == b.trace[i].task);
  }
}

}  // namespace
}  // namespace rtswap::simulation
