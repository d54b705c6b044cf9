// Plans with staged tasks: that they fit, pass, and never lose to direct ones.
#include <algorithm>
#include <functional>
#include <random>

#include "csrc/policy/admission.h"
#include "csrc/policy/charges.h"
#include "csrc/policy/memory.h"
#include "csrc/policy/plan.h"
#include "tests/catch.h"

namespace rtswap::policy {
namespace {

constexpr int64_t kMs = 1'000'000;

TaskModel task(const char* name, ArenaKey arena, uint32_t chunks, int64_t period_ms,
               int64_t wcet_ms) {
  TaskModel model;
  model.name = name;
  model.period_ns = model.deadline_ns = period_ms * kMs;
  model.wcet_ns = wcet_ms * kMs;
  model.arena = arena;
  model.arena_chunks = chunks;
  return model;
}

// 1 ms a chunk; one chunk may be in flight.
AdmissionInput input(std::vector<TaskModel> tasks, uint32_t bank_chunks) {
  AdmissionInput result;
  result.promised = std::move(tasks);
  result.link.restore_bytes_per_s = 1'000'000'000;
  result.link.chunk_bytes = 1'000'000;
  result.link.prefetch_chunks = 1;
  result.bank_chunks = bank_chunks;
  result.staging = true;
  return result;
}

// A camera beside two models that do not fit together, 32 MiB a chunk at 24 GB/s through a daemon.
AdmissionInput camera_beside_large_models() {
  AdmissionInput in = input({task("camera", 1, 8, 0, 8), task("planner", 2, 120, 1000, 20),
                             task("language", 3, 60, 500, 15)},
                            136);
  in.promised[0].period_ns = in.promised[0].deadline_ns = 33'300'000;
  in.promised[0].resident = true;
  in.link.restore_bytes_per_s = 24'000'000'000;
  in.link.chunk_bytes = 32 << 20;
  in.link.chunk_cost_ns = kCudaChunkCost_ns;
  in.link.overhead_ns = kDaemonRoundTrip_ns;
  return in;
}

TEST_CASE("a camera is promised beside models whose restores are longer than its deadline") {
  AdmissionInput in = camera_beside_large_models();
  const Decision decision = decide(in);
  REQUIRE(decision.admitted);
  CHECK_FALSE(decision.promises[0].staged);
  CHECK(decision.promises[0].response_ns <= 33'300'000);
  for (const size_t i : {size_t{1}, size_t{2}}) {
    const Promise& promise = decision.promises[i];
    CHECK(promise.staged);
    CHECK(promise.resident_chunks < in.promised[i].arena_chunks);
    // It holds the GPU for its execution only; without layers all of it is restored before.
    CHECK(promise.block_ns == in.promised[i].wcet_ns + in.link.overhead_ns);
    CHECK(promise.lead_chunks == promise.missing_chunks);
    CHECK(promise.response_ns <= in.promised[i].deadline_ns);
  }
  // What limits the camera is the longer run.
  CHECK(decision.promises[0].limit.blocking_task == size_t{1});
  in.staging = false;
  CHECK_FALSE(decide(in).admitted);
}

TEST_CASE("a lead ends where the rest hides behind the execution") {
  // 60 chunks in ten layers of 2 ms each: half of the restore is hidden.
  AdmissionInput in = camera_beside_large_models();
  in.promised[1].layers.clear();
  for (uint32_t layer = 1; layer <= 10; ++layer) {
    in.promised[1].layers.push_back({layer * 12, 2 * kMs});
  }
  const Decision decision = decide(in);
  REQUIRE(decision.admitted);
  REQUIRE(decision.promises[1].staged);
  CHECK(decision.promises[1].lead_chunks < decision.promises[1].missing_chunks);
  CHECK(decision.promises[1].block_ns == in.promised[1].wcet_ns + in.link.overhead_ns);
  // Any shorter lead is sound, too, and charged: the run waits.
  Staged shorter = decision.staged;
  shorter.at(2) -= 10;
  const Decision with = test(in, decision.prefixes, decision.prefixes, shorter);
  CHECK(with.promises[1].block_ns > decision.promises[1].block_ns);
  CHECK(with.promises[1].lead_ns < decision.promises[1].lead_ns);
}

TEST_CASE("best effort beside staged tasks is charged to both tests") {
  AdmissionInput in = camera_beside_large_models();
  TaskModel extra = task("extra", 4, 1, 0, 2);
  in.best_effort.push_back(extra);
  in.bank_chunks += 2;
  const Decision decision = decide(in);
  REQUIRE(decision.admitted);
  REQUIRE(decision.promises[1].staged);
  CHECK(decision.best_effort_block_ns == decision.best_effort[0].block_ns);
  in.best_effort[0].wcet_ns = 0;
  const Decision without = decide(in);
  CHECK(without.best_effort_block_ns == 0);
  CHECK(without.promises[1].response_ns < decision.promises[1].response_ns);
}

TEST_CASE("a direct job that restores costs the stage more than its block") {
  // 1 ms a round trip, 0.1 a chunk; three are in flight, so that a lead streams.
  AdmissionInput in = input({task("direct", 1, 4, 100, 5), task("staged", 2, 4, 400, 5)}, 8);
  in.link.chunk_cost_ns = kMs / 10;
  in.link.overhead_ns = kMs;
  const Staged staged{{2, 4}};
  const auto demands = [&](const Prefixes& prefixes) {
    return demands_of(in, charges_of(in, arenas_of(in), prefixes, prefixes, staged));
  };
  const YieldingSet restores = demands({});
  REQUIRE(restores.direct.size() == 1);
  CHECK(restores.direct[0].delay_ns == restores.direct[0].demand.block_ns + 2 * kMs + 3 * kMs / 10);
  const YieldingSet stays = demands({{1, 4}});
  CHECK(stays.direct[0].delay_ns == stays.direct[0].demand.block_ns);
}

AdmissionInput random_input(std::mt19937& random) {
  const auto between = [&](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random() % static_cast<uint64_t>(high - low + 1));
  };
  std::vector<TaskModel> tasks;
  uint32_t all = 0;
  uint32_t largest = 0;
  const int64_t count = between(2, 4);
  for (int64_t i = 0; i < count; ++i) {
    const auto chunks = static_cast<uint32_t>(between(1, 9));
    const int64_t period_ms = between(0, 1) == 0 ? between(6, 24) : between(40, 200);
    tasks.push_back(task("task", static_cast<ArenaKey>(i + 1), chunks, period_ms, between(1, 5)));
    TaskModel& model = tasks.back();
    model.deadline_ns = between(period_ms / 2, period_ms) * kMs;
    model.mutable_chunks = between(0, 5) == 0 ? chunks / 2 : 0;
    model.resident = between(0, 9) == 0;
    if (between(0, 1) == 0 && chunks > 1) {
      model.layers = {{chunks / 2, model.wcet_ns / 2}, {chunks, model.wcet_ns - model.wcet_ns / 2}};
    }
    all += chunks;
    largest = std::max(largest, chunks);
  }
  AdmissionInput in = input(std::move(tasks), static_cast<uint32_t>(between(largest, all)));
  in.link.overhead_ns = between(0, 1) * kMs / 5;
  return in;
}

// Every choice of staged arenas, of prefixes that fit, and of leads: is there one that passes?
bool any_plan_passes(const AdmissionInput& in) {
  const std::vector<ArenaUse> arenas = arenas_of(in);
  Prefixes prefixes;
  Staged staged;
  const std::function<bool(size_t)> search = [&](size_t index) {
    if (index == arenas.size()) return test(in, prefixes, prefixes, staged).admitted;
    const ArenaUse& arena = arenas[index];
    for (uint32_t chunks = arena.resident ? arena.chunks : 0; chunks <= arena.chunks; ++chunks) {
      prefixes[arena.key] = chunks;
      staged.erase(arena.key);
      if (search(index + 1)) return true;
      for (uint32_t end = std::max<uint32_t>(1, chunks); end <= arena.chunks; ++end) {
        staged[arena.key] = end;
        if (search(index + 1)) return true;
      }
      staged.erase(arena.key);
    }
    return false;
  };
  return search(0);
}

TEST_CASE("staged plans fit and pass, and staging never refuses what direct tasks pass") {
  std::mt19937 random(13);
  int staged = 0;
  for (int round = 0; round < 3000; ++round) {
    AdmissionInput in = random_input(random);
    const Plan plan = make_plan(in);
    const Decision decision = decide(in);
    in.staging = false;
    INFO("round " << round);
    if (decide(in).admitted) {
      REQUIRE(decision.admitted);
      REQUIRE(decision.staged.empty());
    }
    if (plan.staged.empty()) continue;
    ++staged;
    REQUIRE(fits(arenas_of(in), plan.prefixes, plan.staged, in.bank_chunks));
    REQUIRE(decision.admitted);
    for (const auto& [arena, end] : plan.staged) {
      REQUIRE(end >= plan.prefixes.at(arena));
      REQUIRE(end <= in.promised[arena - 1].arena_chunks);
    }
  }
  CHECK(staged > 30);
}

TEST_CASE("the planner finds nearly all staged plans that exhaustive search finds") {
  std::mt19937 random(17);
  int possible = 0;
  int found = 0;
  int only_staged = 0;
  for (int round = 0; round < 1000; ++round) {
    AdmissionInput in = random_input(random);
    if (in.promised.size() > 3) continue;
    const Decision decision = decide(in);
    possible += decision.admitted || any_plan_passes(in);
    found += decision.admitted;
    only_staged += !decision.staged.empty();
  }
  INFO(found << " of " << possible << ", " << only_staged << " by staging");
  CHECK(only_staged > 10);
  CHECK(possible - found <= possible * 3 / 100);
}

}  // namespace
}  // namespace rtswap::policy
