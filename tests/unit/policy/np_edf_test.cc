#include "csrc/policy/np_edf.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "tests/catch.h"

namespace rtswap::policy {
namespace {

// The definition, point by point, without any of the shortcuts.
bool passes_by_definition(const std::vector<Demand>& tasks, int64_t horizon) {
  for (int64_t t = 1; t <= horizon; ++t) {
    int64_t demand = 0;
    int64_t blocking = 0;
    bool any = false;
    for (const Demand& task : tasks) {
      if (t >= task.deadline_ns) {
        demand += (1 + (t - task.deadline_ns) / task.period_ns) * task.block_ns;
        any = true;
      } else {
        blocking = std::max(blocking, task.block_ns);
      }
    }
    if (any && demand + blocking > t) return false;
  }
  return true;
}

// Every sporadic pattern up to `horizon`, by search over release choices: at each tick each task
// that may release does or does not. Full blocking: a start is decided before the releases of its
// tick are seen, hence each tick splits its releases in two. Returns the worst response of each
// task; deadlines missed show as > D.
class Exhaustive {
 public:
  Exhaustive(const std::vector<Demand>& tasks, int64_t horizon)
      : tasks_(tasks), horizon_(horizon), worst_(tasks.size(), 0) {}

  std::vector<int64_t> run() {
    State state;
    state.next_release.assign(tasks_.size(), 0);
    tick(state);
    return worst_;
  }

 private:
  struct Waiting {
    size_t task = 0;
    int64_t release = 0;
  };
  struct State {
    int64_t now = 0;
    int64_t busy_until = 0;
    std::vector<int64_t> next_release;
    std::vector<Waiting> waiting;
  };

  void tick(const State& state) {
    if (state.now >= horizon_) {
      State rest = state;
      while (!rest.waiting.empty()) {
        rest.now = std::max(rest.now, rest.busy_until);
        start(rest);
      }
      return;
    }
    for (uint32_t set = 0; set < (1u << tasks_.size()); ++set) {
      bool possible = true;
      for (size_t i = 0; i < tasks_.size(); ++i) {
        possible &= (set >> i & 1) == 0 || state.next_release[i] <= state.now;
      }
      if (!possible) continue;
      for (uint32_t early = 0; early <= set; ++early) {
        if ((early & ~set) != 0) continue;
        State next = state;
        release(next, early);
        start(next);
        release(next, set & ~early);
        start(next);
        ++next.now;
        tick(next);
      }
    }
  }

  void release(State& state, uint32_t set) const {
    for (size_t i = 0; i < tasks_.size(); ++i) {
      if ((set >> i & 1) == 0) continue;
      state.waiting.push_back({i, state.now});
      state.next_release[i] = state.now + tasks_[i].period_ns;
    }
  }

  void start(State& state) {
    if (state.busy_until > state.now || state.waiting.empty()) return;
    size_t head = 0;
    for (size_t i = 1; i < state.waiting.size(); ++i) {
      if (due(state.waiting[i]) < due(state.waiting[head])) head = i;
    }
    const Waiting job = state.waiting[head];
    state.waiting.erase(state.waiting.begin() + static_cast<std::ptrdiff_t>(head));
    state.busy_until = state.now + tasks_[job.task].block_ns;
    worst_[job.task] = std::max(worst_[job.task], state.busy_until - job.release);
  }

  int64_t due(const Waiting& job) const { return job.release + tasks_[job.task].deadline_ns; }

  const std::vector<Demand>& tasks_;
  const int64_t horizon_;
  std::vector<int64_t> worst_;
};

std::vector<Demand> random_set(std::mt19937& random, int count, int longest_period) {
  std::vector<Demand> tasks;
  for (int i = 0; i < count; ++i) {
    Demand task;
    task.period_ns = 2 + static_cast<int64_t>(random() % (longest_period - 1));
    task.deadline_ns = 1 + static_cast<int64_t>(random() % task.period_ns);
    task.block_ns = 1 + static_cast<int64_t>(random() % std::max<int64_t>(1, task.deadline_ns / 2));
    tasks.push_back(task);
  }
  return tasks;
}

TEST_CASE("the jumping scan agrees with the definition at every point") {
  std::mt19937 random(7);
  int accepted = 0;
  int refused = 0;
  for (int round = 0; round < 20000; ++round) {
    const auto tasks = random_set(random, 2 + static_cast<int>(random() % 4), 24);
    const NpEdfResult result = test_np_edf(tasks, {});
    const bool expected = result.utilisation <= 1 + 1e-9 && passes_by_definition(tasks, 3000);
    INFO("round " << round);
    REQUIRE(result.schedulable == expected);
    (expected ? accepted : refused)++;
    if (!result.failure || result.failure->kind != Failure::Kind::demand) continue;
    // The instant named fails, and no earlier one does.
    CHECK(result.failure->demand_ns > result.failure->t_ns);
    CHECK(passes_by_definition(tasks, result.failure->t_ns - 1));
    CHECK_FALSE(passes_by_definition(tasks, result.failure->t_ns));
  }
  CHECK(accepted > 2000);
  CHECK(refused > 2000);
}

TEST_CASE("bounds hold for every sporadic pattern of tiny sets, and refused sets do miss") {
  std::mt19937 random(11);
  int accepted = 0;
  int misses_shown = 0;
  int refused = 0;
  for (int round = 0; round < 400; ++round) {
    const auto tasks = random_set(random, 2, 6);
    const NpEdfResult result = test_np_edf(tasks, {});
    const auto worst = Exhaustive(tasks, 8).run();
    INFO("round " << round);
    bool missed = false;
    for (size_t i = 0; i < tasks.size(); ++i) {
      missed |= worst[i] > tasks[i].deadline_ns;
      if (result.schedulable) REQUIRE(worst[i] <= result.response_ns[i]);
    }
    if (result.schedulable) {
      ++accepted;
      REQUIRE_FALSE(missed);
    } else {
      ++refused;
      misses_shown += missed;
    }
  }
  CHECK(accepted > 50);
  CHECK(refused > 50);
  // Not all: some misses need a longer pattern than is searched.
  CHECK(misses_shown > refused / 2);
}

TEST_CASE("blocking by a later deadline counts in full") {
  // 4 of blocking + 2 + ... : D = 5 fails by one, D = 6 passes.
  CHECK_FALSE(test_np_edf({{20, 5, 2}, {20, 20, 4}}, {}).schedulable);
  const NpEdfResult passes = test_np_edf({{20, 6, 2}, {20, 20, 4}}, {});
  REQUIRE(passes.schedulable);
  CHECK(passes.response_ns[0] == 6);
}

TEST_CASE("best-effort blocking and release latency lengthen every response") {
  const std::vector<Demand> tasks{{100, 50, 10}, {200, 200, 20}};
  const NpEdfResult plain = test_np_edf(tasks, {});
  const NpEdfResult with = test_np_edf(tasks, {30, 3});
  REQUIRE(plain.schedulable);
  REQUIRE(with.schedulable);
  CHECK(plain.response_ns[0] == 30);  // 20 of blocking + 10
  CHECK(with.response_ns[0] == 43);   // 30 of blocking + 10 + 3
  CHECK_FALSE(test_np_edf(tasks, {41, 0}).schedulable);
  CHECK_FALSE(test_np_edf(tasks, {38, 3}).schedulable);
}

TEST_CASE("interference counts every block that can touch the window") {
  std::mt19937 random(19);
  int accepted = 0;
  for (int round = 0; round < 4000; ++round) {
    const auto tasks = random_set(random, 2, 40);
    Interference other{5 + static_cast<int64_t>(random() % 30),
                       static_cast<int64_t>(random() % 40),
                       1 + static_cast<int64_t>(random() % 3),
                       0,
                       {}};
    if (random() % 2 == 0) {
      other.stall_ns = static_cast<int64_t>(random()) % other.block_ns;
      other.wait_ns = static_cast<int64_t>(random() % 4);
    }
    bool expected = true;
    for (int64_t t = 1; t <= 4000 && expected; ++t) {
      const int64_t count = (t + other.reach_ns + other.period_ns - 1) / other.period_ns;
      int64_t left = 0;
      int64_t jobs = 0;
      int64_t blocking = 0;
      bool any = false;
      bool deadline = false;
      for (const Demand& task : tasks) {
        if (t < task.deadline_ns) blocking = std::max(blocking, task.block_ns);
        if (t < task.deadline_ns) continue;
        any = true;
        deadline |= (t - task.deadline_ns) % task.period_ns == 0;
        jobs += 1 + (t - task.deadline_ns) / task.period_ns;
        left += (1 + (t - task.deadline_ns) / task.period_ns) * task.block_ns;
      }
      const int64_t by_blocks = count * other.block_ns;
      const int64_t by_waits = count * other.stall_ns +
                               (jobs + (blocking > 0 ? 1 : 0)) * other.wait_ns.value_or(by_blocks);
      left += std::min(by_blocks, by_waits);
      if (any && deadline && left + blocking > t) expected = false;
    }
    const NpEdfResult result = test_np_edf(tasks, {0, 0, {other}});
    INFO("round " << round);
    // At full use the lesser of two ways has no period: refused, or counted one way.
    const bool full = other.wait_ns && std::abs(result.utilisation - 1) < 1e-9;
    if (full && !result.schedulable) continue;
    REQUIRE(result.schedulable == (expected && result.utilisation <= 1 + 1e-9));
    CHECK(find_failure(tasks, {0, 0, {other}}).has_value() != result.schedulable);
    accepted += result.schedulable;
  }
  CHECK(accepted > 200);
}

TEST_CASE("full utilisation is decided by the hyperperiod") {
  CHECK(test_np_edf({{2, 2, 1}, {4, 4, 1}, {4, 4, 1}}, {}).schedulable ==
        passes_by_definition({{2, 2, 1}, {4, 4, 1}, {4, 4, 1}}, 100));
  CHECK(test_np_edf({{10, 10, 10}}, {}).schedulable);
  const NpEdfResult over = test_np_edf({{10, 10, 6}, {10, 10, 5}}, {});
  REQUIRE(over.failure);
  CHECK(over.failure->kind == Failure::Kind::utilisation);
  CHECK(over.failure->t_ns == 10);
}

TEST_CASE("an empty set is schedulable") { CHECK(test_np_edf({}, {}).schedulable); }

}  // namespace
}  // namespace rtswap::policy
