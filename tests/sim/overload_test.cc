// When what promises rest on does not hold: jobs longer than declared, links slower than measured,
// clients that fail. Who loses a promise, and whose bound holds all the same.
#include <algorithm>

#include "csrc/policy/admission.h"
#include "csrc/simulation/simulation.h"
#include "tests/catch.h"
#include "tests/sim/expect.h"
#include "tests/sim/task_sets.h"

namespace rtswap::simulation {
namespace {

using protocol::TaskState;
using protocol::TaskStats;

constexpr int64_t kMs = test::kMs;

void draw_importance(Random& random, std::vector<SimTask>& tasks) {
  for (SimTask& task : tasks) task.importance = static_cast<int32_t>(random.between(-2, 2));
}

TEST_CASE("where jobs are longer than declared, bounds hold but for suspended promises") {
  uint64_t suspensions = 0;
  uint64_t met = 0;
  uint64_t ended = 0;
  for (uint64_t seed = 1; seed <= 1500; ++seed) {
    Random random(seed * 101);
    const SimConfig config = test::random_config(random, seed);
    std::vector<SimTask> tasks = test::random_tasks(random, config);
    draw_importance(random, tasks);
    for (SimTask& task : tasks) {
      if (random.between(0, 2) == 0)
        task.execution_max_ns += task.wcet_ns * random.between(1, 9) / 3;
    }
    const SimReport report = run(config, tasks);
    INFO("seed " << seed);
    test::require_no_violation(report);
    for (const SimTaskReport& task : report.tasks) {
      INFO(task.name << ": response " << task.response_max_ns << " bound "
                     << task.response_bound_ns);
      REQUIRE(task.above_bound == 0);
      met += task.verdict.state == TaskState::admitted ? task.met : 0;
      ended += task.response_bound_ns > 0 && task.verdict.state == TaskState::best_effort;
    }
    suspensions += report.suspensions;
  }
  CHECK(suspensions > 1000);
  CHECK(met > 20000);
  CHECK(ended > 100);
}

// --- whose promise ends -----------------------------------------------------------------------

// The order in which promises are kept: the more important first, of equals the older.
std::vector<TaskStats> in_order(const std::vector<TaskStats>& tasks) {
  std::vector<TaskStats> ordered = tasks;  // they come oldest first
  std::stable_sort(ordered.begin(), ordered.end(), [](const TaskStats& a, const TaskStats& b) {
    return a.importance > b.importance;
  });
  return ordered;
}

// Would `promised` hold beside `others`, by a plan of which what is there now counts as resident?
bool could_hold(const SimConfig& config, const std::vector<SimTask>& tasks,
                const std::vector<TaskStats>& promised, const std::vector<TaskStats>& others) {
  policy::AdmissionInput input;
  policy::Prefixes there;
  const auto add = [&](const TaskStats& stats, std::vector<policy::TaskModel>& to) {
    const auto task = std::find_if(tasks.begin(), tasks.end(), [&stats](const SimTask& candidate) {
      return stats.name.starts_with(candidate.name + "@");
    });
    REQUIRE(task != tasks.end());
    policy::TaskModel model;
    model.name = stats.name;
    model.period_ns = stats.timing.period_ns;
    model.deadline_ns = stats.timing.deadline_ns;
    model.wcet_ns = stats.timing.wcet_ns;
    for (const auto& layer : stats.timing.layers) {
      model.layers.push_back({layer.chunks, layer.execution_ns});
    }
    model.arena = there.size() + 1;
    model.arena_chunks = stats.arena_chunks;
    model.mutable_chunks = task->mutable_chunks;
    model.resident = task->resident;
    there[model.arena] = stats.resident_chunks;
    to.push_back(model);
  };
  for (const TaskStats& stats : promised) {
    add(stats, input.promised);
    input.may_run_late.push_back(false);
  }
  for (const TaskStats& stats : others) add(stats, input.best_effort);
  // Not more than the arbiter can count on: sessions that are gone may still have memory.
  for (const SimTask& task : tasks) {
    const auto is_it = [&task](const TaskStats& stats) {
      return stats.name.starts_with(task.name + "@");
    };
    if (std::none_of(promised.begin(), promised.end(), is_it) &&
        std::none_of(others.begin(), others.end(), is_it)) {
      input.others.mutable_chunks += task.mutable_chunks;
      ++input.others.arenas;
    }
  }
  input.bank_chunks = config.chunk_count;
  input.staging = true;
  input.link.restore_bytes_per_s = config.slower_bytes_per_s;
  input.link.evict_bytes_per_s = config.slower_bytes_per_s;
  input.link.chunk_bytes = config.chunk_bytes;
  input.link.chunk_cost_ns = config.chunk_cost_ns;
  input.link.overhead_ns = config.round_trip_ns;
  input.link.prefetch_chunks = policy::quantum_chunks(config.chunk_bytes);
  const policy::Decision plan = policy::decide(input);
  if (!plan.admitted || !plan.staged.empty()) return false;
  policy::Prefixes guaranteed;
  for (const auto& [arena, chunks] : plan.prefixes) {
    guaranteed[arena] = std::min(chunks, there.at(arena));
  }
  return policy::test(input, plan.prefixes, guaranteed).admitted;
}

// The rule: who lost a promise could not have kept it beside those that go before it and kept
// theirs. Returns how many promises ended.
size_t check_who_lost(const SimConfig& config, const std::vector<SimTask>& tasks,
                      const SimReport& report) {
  std::vector<TaskStats> kept;
  std::vector<TaskStats> others;
  std::vector<TaskStats> had;
  for (const TaskStats& stats : report.before_slower.tasks) {
    if (stats.state == TaskState::admitted) {
      had.push_back(stats);
    } else if (stats.state == TaskState::best_effort) {
      others.push_back(stats);
    }
  }
  const auto lost = [&report](const TaskStats& before) {
    const auto& after = report.after_slower.tasks;
    return std::any_of(after.begin(), after.end(), [&before](const TaskStats& now) {
      return now.name == before.name && now.state != TaskState::admitted;
    });
  };
  const std::vector<TaskStats> order = in_order(had);
  size_t ended = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (!lost(order[i])) {
      kept.push_back(order[i]);
      continue;
    }
    ++ended;
    std::vector<TaskStats> together = kept;
    together.push_back(order[i]);
    std::vector<TaskStats> rest = others;
    for (size_t k = 0; k < order.size(); ++k) {
      if (k > i || (k < i && lost(order[k]))) rest.push_back(order[k]);
    }
    INFO(order[i].name << " of importance " << order[i].importance << " lost its promise");
    REQUIRE_FALSE(could_hold(config, tasks, together, rest));
  }
  return ended;
}

// No job waits or runs, so that what is resident is what the arbiter counts on.
bool nothing_released(const protocol::Snapshot& snapshot) {
  return std::all_of(snapshot.tasks.begin(), snapshot.tasks.end(), [](const TaskStats& task) {
    return task.released == task.met + task.missed + task.dropped;
  });
}

TEST_CASE("on a slower link who is more important, or older, keeps what can be kept") {
  size_t ended = 0;
  size_t kept_beside = 0;
  uint64_t met_after = 0;
  for (uint64_t seed = 1; seed <= 3000; ++seed) {
    Random random(seed * 211);
    SimConfig config = test::random_config(random, seed);
    config.horizon_ns = config.first_release_ns + 1'500 * kMs;
    // In every other run before the first release; else in the middle, with faults.
    const bool quiet = seed % 2 == 0;
    config.slower_ns =
        config.first_release_ns + (quiet ? -10 * kMs : random.between(100, 900) * kMs);
    config.slower_bytes_per_s = config.bytes_per_s / static_cast<uint64_t>(random.between(2, 12));
    if (!quiet) {
      config.hang_timeout_ns = 150 * kMs;
      config.faults = test::all_faults(random.between(50, 400) * kMs);
      config.faults.lies = 0;
    }
    std::vector<SimTask> tasks = test::random_tasks(random, config);
    draw_importance(random, tasks);
    const SimReport report = run(config, tasks);
    INFO("seed " << seed);
    test::require_no_violation(report);
    if (report.before_slower.devices.empty()) continue;  // nobody was left to report it
    const bool idle = nothing_released(report.before_slower);
    const auto staged = [](const TaskStats& task) { return task.staged; };
    const auto& before = report.before_slower.tasks;
    if (!idle || std::any_of(before.begin(), before.end(), staged)) continue;
    const size_t lost = check_who_lost(config, tasks, report);
    ended += lost;
    const auto& after = report.after_slower.tasks;
    kept_beside += lost > 0 && std::any_of(after.begin(), after.end(), [](const TaskStats& task) {
                     return task.state == TaskState::admitted;
                   });
    if (!quiet) continue;
    for (const SimTaskReport& task : report.tasks) {
      INFO(task.name << ": response " << task.response_max_ns << " bound "
                     << task.response_bound_ns);
      REQUIRE(task.above_bound == 0);
      if (task.verdict.state != TaskState::admitted) continue;
      test::require_kept(task);
      met_after += task.met;
    }
  }
  CHECK(ended > 500);
  CHECK(kept_beside > 200);
  CHECK(met_after > 2000);
}

// Many, small and urgent enough that a slower link leaves several plans to be sought.
std::vector<SimTask> crowd(Random& random, const SimConfig& config) {
  std::vector<SimTask> tasks;
  for (int64_t count = random.between(8, 16); count > 0; --count) {
    SimTask task;
    task.name = "task" + std::to_string(count);
    task.arena_chunks = static_cast<uint32_t>(random.between(1, config.chunk_count / 3));
    task.mutable_chunks = static_cast<uint32_t>(random.between(0, task.arena_chunks / 4));
    task.wcet_ns = random.between(1, 10) * kMs;
    task.period_ns = random.between(150, 900) * kMs;
    task.deadline_ns = random.between(task.period_ns / 2, task.period_ns);
    task.execution_min_ns = task.wcet_ns / 2;
    task.execution_max_ns = task.wcet_ns;
    task.late_run = random.between(0, 4) == 0;
    task.best_effort_if_refused = random.between(0, 2) == 0;
    task.importance = static_cast<int32_t>(random.between(-1, 1));
    tasks.push_back(task);
  }
  return tasks;
}

TEST_CASE("while promises are gone through, jobs go on and tasks come and go") {
  uint64_t slices = 0;
  uint64_t met = 0;
  uint64_t joined = 0;
  for (uint64_t seed = 1; seed <= 400; ++seed) {
    Random random(seed * 307);
    SimConfig config = test::random_config(random, seed);
    config.horizon_ns = config.first_release_ns + 1'500 * kMs;
    config.slower_ns = config.first_release_ns + random.between(100, 900) * kMs;
    config.slower_bytes_per_s = config.bytes_per_s / static_cast<uint64_t>(random.between(2, 12));
    config.step_ns = random.between(0, 5) * kMs;
    const bool faulty = seed % 3 == 0;
    if (faulty) {
      config.hang_timeout_ns = 150 * kMs;
      config.faults = test::all_faults(random.between(50, 400) * kMs);
    }
    std::vector<SimTask> tasks = crowd(random, config);
    const auto meanwhile_ns = [&] { return config.slower_ns + random.between(-10, 40) * kMs; };
    for (SimTask& task : tasks) {
      switch (random.between(0, 7)) {
        case 0:
          task.join_ns = meanwhile_ns();
          break;
        case 1:
          task.leave_ns = meanwhile_ns();
          break;
        case 2:
          task.pause_ns = meanwhile_ns();
          task.resume_ns = task.pause_ns + random.between(0, 20) * kMs;
          break;
        default:
          break;
      }
    }
    const SimReport report = run(config, tasks);
    INFO("seed " << seed);
    test::require_no_violation(report);
    REQUIRE((faulty || report.loading == 0));
    slices += report.steps_at_once;
    for (size_t i = 0; i < tasks.size(); ++i) {
      const SimTaskReport& task = report.tasks[i];
      INFO(task.name << ": response " << task.response_max_ns << " bound "
                     << task.response_bound_ns);
      if (faulty) continue;
      REQUIRE(task.above_bound == 0);
      if (tasks[i].leave_ns > 0) continue;
      REQUIRE(task.verdict.suspended.empty());  // all has been idle since
      met += task.verdict.state == TaskState::admitted ? task.met : 0;
      joined += tasks[i].join_ns > 0 && task.verdict.state == TaskState::admitted;
    }
  }
  CHECK(slices > 500);
  CHECK(met > 1000);
  CHECK(joined > 50);
}

}  // namespace
}  // namespace rtswap::simulation
