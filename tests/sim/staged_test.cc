// Staged tasks: what is admitted with them is kept, on time and within its bound, whatever happens
// beside the promises; and the arbiter keeps to the rules that the promises rest on.
#include <algorithm>
#include <string>
#include <vector>

#include "csrc/simulation/simulation.h"
#include "tests/catch.h"
#include "tests/sim/expect.h"
#include "tests/sim/task_sets.h"

namespace rtswap::simulation {
namespace {

constexpr int64_t kMs = test::kMs;

// Links on which the restores of large models are longer than short deadlines, and messages that
// take all the time that is charged.
SimConfig staging_config(Random& random, uint64_t seed) {
  SimConfig config;
  config.chunk_bytes = 16 << 20;
  config.chunk_count = static_cast<uint32_t>(random.between(12, 40));
  config.bytes_per_s = static_cast<uint64_t>(random.between(3, 12)) * 1'000'000'000;
  config.chunk_cost_ns = random.between(0, 200'000);
  config.latency_min_ns = 70'000;
  config.latency_max_ns = 100'000;
  config.seed = seed * 7919;
  config.first_release_ns = 3'000 * kMs;
  config.horizon_ns = config.first_release_ns + 3'000 * kMs;
  return config;
}

// Short deadlines beside models whose restores are longer.
std::vector<SimTask> mixed_tasks(Random& random, const SimConfig& config) {
  std::vector<SimTask> tasks;
  const int64_t short_ones = random.between(1, 4);
  const int64_t large_ones = random.between(1, 3);
  const int64_t burst_ns = random.between(0, 40) * kMs;
  for (int64_t i = 0; i < short_ones + large_ones; ++i) {
    SimTask task;
    task.name = "task" + std::to_string(i);
    if (i < short_ones) {
      task.period_ns = random.between(25, 120) * kMs;
      task.arena_chunks = static_cast<uint32_t>(random.between(1, 6));
      task.wcet_ns = random.between(1, 10) * kMs;
      task.resident = random.between(0, 2) == 0;
      if (random.between(0, 2) == 0) {  // due late, and long
        task.period_ns = random.between(200, 1'500) * kMs;
        task.wcet_ns = random.between(5, 40) * kMs;
      }
    } else {
      task.period_ns = random.between(250, 1'500) * kMs;
      task.arena_chunks =
          static_cast<uint32_t>(random.between(config.chunk_count / 4, config.chunk_count * 3 / 4));
      task.wcet_ns = random.between(2, 20) * kMs;
    }
    task.deadline_ns = random.between(0, 1) == 0
                           ? task.period_ns
                           : random.between(task.period_ns * 3 / 4, task.period_ns);
    task.mutable_chunks = random.between(0, 2) == 0 ? task.arena_chunks / 3 : 0;
    if (random.between(0, 1) == 0) task.layers = test::random_layers(random, task);
    task.execution_min_ns = random.between(0, 2) == 0 ? 0 : task.wcet_ns;
    task.execution_max_ns = task.wcet_ns;
    task.jitter_ns = random.between(0, 2) == 0 ? random.between(1, task.period_ns / 2) : 0;
    task.offset_ns = burst_ns + random.between(0, 3 * kMs);
    if (random.between(0, 2) == 0) task.offset_ns = random.between(0, 60 * kMs);
    tasks.push_back(task);
  }
  return tasks;
}

bool any_staged(const SimReport& report) {
  return std::any_of(report.tasks.begin(), report.tasks.end(),
                     [](const SimTaskReport& task) { return task.verdict.staged; });
}

// Before anything is released: most random sets need no staging, and are not looked at.
bool becomes_staged(const SimConfig& config, const std::vector<SimTask>& tasks) {
  return any_staged(test::verdicts(config, tasks));
}

struct Seen {
  int sets = 0;  // with staged tasks
  uint64_t jobs = 0;
  uint64_t cancelled = 0;
  uint64_t early = 0;
  uint64_t swapped_bytes = 0;  // of staged tasks
  int waiting_runs = 0;        // staged tasks whose runs may have to wait for memory
  int close = 0;               // tasks whose longest response was more than 9/10 of their bound
};

// REQUIREs that each admitted task of a set with staged ones kept its promise.
void look_at(const SimConfig& config, const SimReport& report, Seen& seen) {
  test::require_all_as_charged(report);
  if (!any_staged(report)) return;
  ++seen.sets;
  for (const SimTaskReport& task : report.tasks) {
    const protocol::Verdict& verdict = task.verdict;
    if (verdict.state != protocol::TaskState::admitted) continue;
    test::require_kept(task);
    REQUIRE(task.met + task.cancelled == task.released);
    seen.jobs += task.met;
    seen.cancelled += task.cancelled;
    seen.early += task.early;
    seen.close += task.response_max_ns * 10 > verdict.response_bound_ns * 9;
    if (!verdict.staged) continue;
    seen.swapped_bytes += task.evicted_bytes;
    seen.waiting_runs += verdict.block_ns > verdict.timing.wcet_ns + config.round_trip_ns;
  }
}

TEST_CASE("staged: admitted sets keep their promise") {
  Seen seen;
  for (uint64_t seed = 1; seen.sets < 2000 && seed < 20000; ++seed) {
    Random random(seed * 23);
    const SimConfig config = staging_config(random, seed);
    std::vector<SimTask> tasks = mixed_tasks(random, config);
    if (!becomes_staged(config, tasks)) continue;
    for (SimTask& task : tasks) task.on_grid = seed % 3 == 0;
    INFO("seed " << seed);
    look_at(config, run(config, tasks), seen);
  }
  CHECK(seen.sets == 2000);
  CHECK(seen.early > 1000);
  CHECK(seen.jobs > 100'000);
  CHECK(seen.waiting_runs > 100);
  CHECK(seen.swapped_bytes > 0);
}

TEST_CASE("staged: bounds that leave nothing over hold") {
  Seen seen;
  for (uint64_t seed = 1; seen.sets < 1000 && seed < 10000; ++seed) {
    Random random(seed * 29);
    const SimConfig config = staging_config(random, seed);
    std::vector<SimTask> tasks = mixed_tasks(random, config);
    test::tighten(config, tasks);
    if (!becomes_staged(config, tasks)) continue;
    for (SimTask& task : tasks) task.on_grid = seed % 3 == 0;
    INFO("seed " << seed);
    look_at(config, run(config, tasks), seen);
  }
  CHECK(seen.sets == 1000);
  CHECK(seen.close > 50);
}

// A camera, and two models that do not fit beside it together: 4 GB and 2 GB, through a daemon.
struct Camera {
  Camera() {
    config.chunk_bytes = 32 << 20;
    config.chunk_count = 136;
    config.bytes_per_s = 24'000'000'000;
    config.chunk_cost_ns = policy::kCudaChunkCost_ns;
    config.round_trip_ns = policy::kDaemonRoundTrip_ns;
    config.latency_min_ns = 50'000;
    config.latency_max_ns = 450'000;
    config.first_release_ns = 2'000 * kMs;
    config.horizon_ns = config.first_release_ns + 20'000 * kMs;
    config.check_every_step = false;
    tasks.resize(3);
    const auto set = [&](size_t i, const char* name, uint32_t chunks, int64_t period_ns,
                         int64_t wcet_ms) {
      tasks[i].name = name;
      tasks[i].arena_chunks = chunks;
      tasks[i].period_ns = period_ns;
      tasks[i].wcet_ns = wcet_ms * kMs;
    };
    set(0, "camera", 8, 33'300'000, 8);
    set(1, "planner", 120, 1'000 * kMs, 20);
    set(2, "language", 60, 500 * kMs, 15);
    tasks[0].resident = true;
  }
  void check(const SimReport& report) const {
    test::require_all_as_charged(report);
    REQUIRE(test::all_admitted(report));
    CHECK_FALSE(report.tasks[0].verdict.staged);
    CHECK(report.tasks[0].verdict.response_bound_ns <= 33'300'000);
    for (const SimTaskReport& task : report.tasks) {
      test::require_kept(task);
      CHECK(task.met == task.released);
    }
    for (const size_t large : {size_t{1}, size_t{2}}) {
      const SimTaskReport& task = report.tasks[large];
      CHECK(task.verdict.staged);
      CHECK(task.verdict.block_ns == tasks[large].wcet_ns + config.round_trip_ns);
      CHECK(task.verdict.lead_ns > 33'300'000);
      CHECK(task.evicted_bytes > uint64_t{4} << 30);
    }
  }

  SimConfig config;
  std::vector<SimTask> tasks;
};

TEST_CASE("staged: a camera keeps its promise beside two models that do not fit") {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    INFO("seed " << seed);
    Camera camera;
    Random random(seed);
    camera.config.seed = seed;
    for (SimTask& task : camera.tasks) {
      task.offset_ns = random.between(0, 60) * kMs;
      if (seed % 2 == 0) task.jitter_ns = task.period_ns / 4;
      if (seed % 3 == 0) task.execution_max_ns = task.wcet_ns;
    }
    camera.check(run(camera.config, camera.tasks));
  }
}

TEST_CASE("staged: models may join while the camera runs") {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    INFO("seed " << seed);
    Camera camera;
    Random random(seed);
    camera.config.seed = seed;
    for (size_t i : {1, 2}) camera.tasks[i].join_ns = random.between(3'000, 5'000) * kMs;
    camera.check(run(camera.config, camera.tasks));
  }
}

// "language" comes at any time of the other's lead, with the earlier deadline, and the two do not
// fit together: a lead that was taken away would have to be restored again.
TEST_CASE("staged: a lead that is nearly there is not given up for an earlier deadline") {
  int64_t longest_ns = 0;
  int64_t bound_ns = 0;
  for (int64_t offset_ms = 0; offset_ms <= 240; offset_ms += 4) {
    INFO("released at " << offset_ms << " ms");
    Camera camera;
    camera.config.latency_min_ns = camera.config.latency_max_ns;
    camera.config.horizon_ns = camera.config.first_release_ns + 5'000 * kMs;
    camera.tasks[0].wcet_ns = 2 * kMs;
    camera.tasks[1].offset_ns = 20 * kMs;
    camera.tasks[1].deadline_ns = 750 * kMs;
    camera.tasks[2].arena_chunks = 120;
    camera.tasks[2].deadline_ns = 480 * kMs;
    camera.tasks[2].period_ns = 1'000 * kMs;
    camera.tasks[2].offset_ns = offset_ms * kMs;
    const SimReport report = run(camera.config, camera.tasks);
    camera.check(report);
    longest_ns = std::max(longest_ns, report.tasks[1].response_max_ns);
    bound_ns = report.tasks[1].verdict.response_bound_ns;
  }
  INFO("longest response " << longest_ns << ", bound " << bound_ns);
  CHECK(longest_ns > bound_ns * 3 / 4);
}

// In its lead, in its run, or while it waits: what a process had is free, and the stage goes on.
TEST_CASE("staged: processes that die cost the others nothing") {
  uint64_t crashes = 0;
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    INFO("seed " << seed);
    Camera camera;
    camera.config.seed = seed;
    camera.config.faults.crashes = 1;
    const SimReport report = run(camera.config, camera.tasks);
    test::require_all_as_charged(report);
    for (const SimTaskReport& task : report.tasks) {
      INFO(task.name << ": response " << task.response_max_ns);
      CHECK(task.missed == 0);
      CHECK(task.above_bound == 0);
      CHECK(task.met + report.crashes >= task.released);
      CHECK(task.last_completion_ns > camera.config.horizon_ns - 2'000 * kMs);
    }
    crashes += report.crashes;
  }
  CHECK(crashes > 500);
}

// Work without promise: aperiodic, some of it of unknown length, and whoever is refused.
void add_best_effort(Random& random, const SimConfig& config, std::vector<SimTask>& tasks) {
  for (SimTask& task : tasks) {
    task.late_run = random.between(0, 3) == 0;
    task.best_effort_if_refused = random.between(0, 2) == 0;
  }
  SimTask task;
  task.name = "extra";
  task.wcet_ns = random.between(1, 30) * kMs;
  task.arena_chunks = static_cast<uint32_t>(random.between(1, config.chunk_count / 2));
  task.spacing_ns = random.between(20, 300) * kMs;
  task.jitter_ns = task.spacing_ns / 2;
  tasks.push_back(task);
}

TEST_CASE("staged: best-effort work costs no promise") {
  Seen seen;
  uint64_t best_effort_jobs = 0;
  for (uint64_t seed = 1; seen.sets < 1000 && seed < 20000; ++seed) {
    Random random(seed * 37);
    const SimConfig config = staging_config(random, seed);
    std::vector<SimTask> tasks = mixed_tasks(random, config);
    if (seed % 2 == 0) test::tighten(config, tasks);
    add_best_effort(random, config, tasks);
    if (!becomes_staged(config, tasks)) continue;
    INFO("seed " << seed);
    const SimReport report = run(config, tasks);
    look_at(config, report, seen);
    if (any_staged(report)) best_effort_jobs += report.tasks.back().met;
  }
  CHECK(seen.sets == 1000);
  CHECK(best_effort_jobs > 1000);
}

// Above all in the middle of a lead or of a restore: what is in flight then is nobody's.
TEST_CASE("staged: jobs that are cancelled cost the others nothing") {
  Seen seen;
  for (uint64_t seed = 1; seen.sets < 1000 && seed < 20000; ++seed) {
    Random random(seed * 53);
    const SimConfig config = staging_config(random, seed);
    std::vector<SimTask> tasks = mixed_tasks(random, config);
    test::tighten(config, tasks);
    if (!becomes_staged(config, tasks)) continue;
    for (SimTask& task : tasks) {
      if (random.between(0, 1) == 0) task.cancelled_share = 0.7;
    }
    INFO("seed " << seed);
    look_at(config, run(config, tasks), seen);
  }
  CHECK(seen.sets == 1000);
  CHECK(seen.cancelled > 1000);
}

TEST_CASE("staged: releases stamped in the past cost others nothing") {
  int stale_jobs = 0;
  int sets = 0;
  for (uint64_t seed = 1; sets < 500 && seed < 20000; ++seed) {
    Random random(seed * 41);
    const SimConfig config = staging_config(random, seed);
    std::vector<SimTask> tasks = mixed_tasks(random, config);
    test::tighten(config, tasks);
    for (size_t i = random.between(0, 1); i < tasks.size(); i += 2) {
      tasks[i].stamp_age_ns = tasks[i].deadline_ns;
      tasks[i].late_run = random.between(0, 1) == 0;
    }
    if (!becomes_staged(config, tasks)) continue;
    const SimReport report = run(config, tasks);
    INFO("seed " << seed);
    ++sets;
    for (size_t i = 0; i < tasks.size(); ++i) {
      const SimTaskReport& task = report.tasks[i];
      if (task.verdict.state != protocol::TaskState::admitted) continue;
      if (tasks[i].stamp_age_ns > 0) {
        stale_jobs += static_cast<int>(task.missed);
        continue;
      }
      test::require_kept(task);
    }
  }
  CHECK(sets == 500);
  CHECK(stale_jobs > 150);
}

TEST_CASE(
    "staged: an early job that waits through an idle instant keeps its distance to the next") {
  SimConfig config;
  config.chunk_bytes = 32 << 20;
  config.chunk_count = 26;
  config.bytes_per_s = 10'000'000'000;
  config.latency_min_ns = 10'000;
  config.latency_max_ns = 20'000;
  config.first_release_ns = 0;
  config.horizon_ns = 4'000 * kMs;
  const auto task = [](const char* name, uint32_t chunks, int64_t period_ms, int64_t deadline_ms,
                       int64_t wcet_ms, int64_t join_ms) {
    SimTask made;
    made.name = name;
    made.arena_chunks = chunks;
    made.period_ns = period_ms * kMs;
    made.deadline_ns = deadline_ms * kMs;
    made.wcet_ns = wcet_ms * kMs;
    made.resident = chunks == 1;
    made.join_ns = join_ms * kMs;
    return made;
  };
  // The second job of the first task comes early, for 1032, and competes from 1399.8, since the
  // stamp of the first was old. The device is idle from 1030 to 1032, and then not any more. The
  // third would follow the second at once, and be one job too many beside the lead of the last.
  std::vector<SimTask> tasks{
      task("direct", 1, 400, 400, 30, 300), task("camera", 1, 1000, 60, 3, 300),
      task("staged", 24, 500, 225, 10, 500), task("before it", 24, 400, 400, 10, 500)};
  tasks[0].releases = {{1000 * kMs, 632 * kMs}, {1010 * kMs, 1010 * kMs}, {1432 * kMs, 1432 * kMs}};
  tasks[1].releases = {{1428 * kMs, 1428 * kMs}};
  tasks[2].releases = {{700 * kMs, 700 * kMs}, {1212 * kMs + 200'000, 1212 * kMs + 200'000}};
  tasks[3].releases = {{550 * kMs, 550 * kMs}, {1212 * kMs, 1212 * kMs}};
  const SimReport report = run(config, tasks);
  test::require_no_violation(report);
  CHECK(report.suspensions == 0);
  for (const SimTaskReport& done : report.tasks) {
    INFO(done.name);
    CHECK(done.verdict.state == protocol::TaskState::admitted);
    CHECK(done.met == done.released);
    if (done.name != "direct")
      CHECK(done.above_bound == 0);  // its stamps are old, the bound is not
  }
  CHECK(report.tasks[2].verdict.staged);
}

TEST_CASE("staged: promises hold while tasks join, pause and leave") {
  int staged_sets = 0;
  uint64_t jobs = 0;
  for (uint64_t seed = 1; seed <= 4000; ++seed) {
    Random random(seed * 43);
    SimConfig config = staging_config(random, seed);
    config.first_release_ns = 0;
    config.horizon_ns = 2'000 * kMs;
    std::vector<SimTask> tasks = mixed_tasks(random, config);
    if (seed % 2 == 0) add_best_effort(random, config, tasks);
    test::come_and_go(random, config, tasks);
    const SimReport report = run(config, tasks);
    INFO("seed " << seed);
    test::require_all_as_charged(report);
    staged_sets += any_staged(report);
    for (size_t i = 0; i < tasks.size(); ++i) {
      const SimTaskReport& task = report.tasks[i];
      if (task.response_bound_ns == 0 || tasks[i].best_effort_if_refused) continue;
      test::require_kept(task);
      jobs += task.met;
    }
  }
  CHECK(staged_sets > 500);
  CHECK(jobs > 50'000);
}

TEST_CASE("staged: faults break no invariant and stop nobody for good") {
  int staged_sets = 0;
  for (uint64_t seed = 1; seed <= 600; ++seed) {
    Random random(seed * 47);
    SimConfig config = staging_config(random, seed);
    config.hang_timeout_ns = 150 * kMs;
    config.faults = test::all_faults(random.between(50, 400) * kMs);
    config.faults_end_ns = config.horizon_ns;
    config.horizon_ns += 6'000 * kMs;
    std::vector<SimTask> tasks = mixed_tasks(random, config);
    add_best_effort(random, config, tasks);
    const SimReport report = run(config, tasks);
    INFO("seed " << seed);
    test::require_no_violation(report);
    staged_sets += any_staged(report);
    for (const SimTaskReport& task : report.tasks) {
      if (task.verdict.state != protocol::TaskState::admitted) continue;
      test::require_going_on(task, config.horizon_ns - 4'000 * kMs);
    }
  }
  CHECK(staged_sets > 100);
}

}  // namespace
}  // namespace rtswap::simulation
