#include "csrc/policy/admission.h"

#include <algorithm>

#include "csrc/policy/victims.h"
#include "tests/catch.h"

namespace rtswap::policy {
namespace {

using test::contains;

constexpr int64_t kMs = 1'000'000;

TaskModel task(const char* name, int64_t period_ms, int64_t wcet_ms, ArenaKey arena,
               uint32_t chunks) {
  TaskModel model;
  model.name = name;
  model.period_ns = model.deadline_ns = period_ms * kMs;
  model.wcet_ns = wcet_ms * kMs;
  model.arena = arena;
  model.arena_chunks = chunks;
  return model;
}

// 10 ms a chunk.
AdmissionInput input(std::vector<TaskModel> tasks, uint32_t bank_chunks) {
  AdmissionInput result;
  result.promised = std::move(tasks);
  result.link.restore_bytes_per_s = 100'000'000;
  result.link.chunk_bytes = 1'000'000;
  result.link.prefetch_chunks = 1;
  result.bank_chunks = bank_chunks;
  result.candidate = result.promised.size() - 1;
  return result;
}

TEST_CASE("a block is execution alone when nothing is ever evicted") {
  const Decision decision = admit(input({task("a", 100, 10, 1, 4), task("b", 100, 10, 2, 4)}, 8));
  REQUIRE(decision.admitted);
  CHECK(decision.promises[0].resident_chunks == 4);
  CHECK(decision.promises[0].block_ns == 10 * kMs);
  CHECK(decision.promises[1].response_ns == 20 * kMs);
}

TEST_CASE("a swapped job pays its load and one stray prefetch") {
  const Decision decision = admit(input({task("a", 500, 10, 1, 4), task("b", 500, 10, 2, 4)}, 4));
  REQUIRE(decision.admitted);
  CHECK(decision.promises[0].resident_chunks == 0);
  CHECK(decision.promises[0].missing_chunks == 4);
  CHECK(decision.promises[0].block_ns == (10 + 40 + 10) * kMs);
}

TEST_CASE("an arena that two tasks share counts once") {
  const Decision decision = admit(input({task("a", 100, 10, 1, 6), task("b", 100, 10, 1, 6)}, 8));
  REQUIRE(decision.admitted);
  CHECK(decision.promises[1].missing_chunks == 0);
}

TEST_CASE("mutable victims are written back on the job's time") {
  AdmissionInput in = input({task("a", 500, 10, 1, 4), task("b", 500, 10, 2, 4)}, 4);
  in.promised[1].mutable_chunks = 2;
  const Decision decision = admit(in);
  REQUIRE(decision.admitted);
  // Two chunks for the job, one for the stray prefetch, which may also have displaced b's own.
  CHECK(decision.promises[0].block_ns == (10 + 40 + 10 + 30) * kMs);
  CHECK(decision.promises[1].block_ns == (10 + 40 + 10 + 10) * kMs);
}

TEST_CASE("the memory condition: resident tasks and the largest swapped one fit together") {
  AdmissionInput in = input({task("keep", 500, 10, 1, 4), task("swap", 500, 10, 2, 5)}, 8);
  in.promised[0].resident = true;
  const Decision decision = admit(in);
  REQUIRE_FALSE(decision.admitted);
  CHECK_THAT(decision.reason, contains("\"swap\""));
  CHECK_THAT(decision.reason, contains("with a bank of"));
  in.bank_chunks = 9;
  CHECK(admit(in).admitted);
}

TEST_CASE("a model larger than the bank is refused with both sizes") {
  AdmissionInput in = input({task("huge", 500, 10, 1, 64)}, 32);
  in.link.chunk_bytes = 1 << 20;
  const Decision decision = admit(in);
  CHECK(decision.too_large);
  CHECK_THAT(decision.reason, contains("64 MiB"));
  CHECK_THAT(decision.reason, contains("32 MiB"));
}

TEST_CASE("nothing with a restore is promised before the speed of the link is known") {
  AdmissionInput in = input({task("a", 500, 10, 1, 4), task("b", 500, 10, 2, 4)}, 7);
  in.link.restore_bytes_per_s = 0;
  const Decision decision = admit(in);
  CHECK_FALSE(decision.admitted);
  CHECK_THAT(decision.reason, contains("the speed of the link is not known"));
  in.bank_chunks = 8;
  CHECK(admit(in).admitted);
}

TEST_CASE("a refusal names who misses, who blocks, and a change that is then accepted") {
  // "slow" may hold the GPU for 200 ms; "fast" has 50.
  AdmissionInput in = input({task("slow", 1000, 200, 1, 1), task("fast", 50, 5, 2, 1)}, 2);
  const Decision decision = admit(in);
  REQUIRE_FALSE(decision.admitted);
  CHECK_THAT(decision.reason, contains("\"fast\" could miss its deadline"));
  CHECK_THAT(decision.reason, contains("a job of \"slow\" may have just begun"));
  CHECK_THAT(decision.reason, contains("it would fit with a period of 205.0 ms for \"fast\""));
  in.promised[1].period_ns = in.promised[1].deadline_ns = 205 * kMs;
  CHECK(admit(in).admitted);
  in.promised[1].period_ns = in.promised[1].deadline_ns = 204 * kMs;
  CHECK_FALSE(admit(in).admitted);
}

TEST_CASE("a task that is longer than its own deadline is told so, and blames nobody") {
  AdmissionInput in = input({task("fast", 50, 5, 1, 1), task("slow", 100, 150, 2, 1)}, 2);
  const Decision decision = admit(in);
  REQUIRE_FALSE(decision.admitted);
  CHECK_THAT(decision.reason, contains("a job of \"slow\" may keep the GPU for 150.0 ms, and its "
                                       "deadline is 100.0 ms"));
  CHECK_THAT(decision.reason, !contains("may have just begun"));
}

TEST_CASE("a refusal that memory would cure names the smallest bank that does") {
  // "fast" has 60 ms: 5 of its own, 10 of restore and 10 of stray prefetch for each chunk of "big"
  // that is missing.
  AdmissionInput in = input({task("big", 1000, 10, 1, 8), task("fast", 60, 5, 2, 2)}, 8);
  in.link.chunk_bytes = 1 << 20;
  in.link.restore_bytes_per_s = 100ull << 20;
  while (!admit(in).admitted) ++in.bank_chunks;
  const std::string enough = std::to_string(in.bank_chunks) + " MiB";
  in.bank_chunks = 8;
  const Decision decision = admit(in);
  REQUIRE_FALSE(decision.admitted);
  CHECK_THAT(decision.reason, contains("a bank of " + enough + " in chunks of 1 MiB (now 8 MiB)"));
  CHECK_THAT(decision.reason, contains(decision.refusal.change));
}

TEST_CASE("best-effort blocks join the promise only as far as it holds") {
  AdmissionInput in = input({task("a", 100, 10, 1, 1)}, 4);
  in.best_effort = {task("short", 0, 40, 2, 1), task("long", 0, 400, 3, 1)};
  const Decision decision = admit(in);
  REQUIRE(decision.admitted);
  CHECK(decision.best_effort_block_ns == 40 * kMs);
  CHECK(decision.promises[0].response_ns == 50 * kMs);
}

TEST_CASE("64 tasks are tested") {
  std::vector<TaskModel> tasks;
  for (int i = 0; i < 64; ++i) {
    tasks.push_back(task("t", 100 + 37 * i, 1, static_cast<ArenaKey>(i + 1), 1));
  }
  const Decision decision = admit(input(std::move(tasks), 64));
  CHECK(decision.admitted);
  CHECK(decision.promises.size() == 64);
}

TEST_CASE("victims: the latest deadline gives first, and only what is short") {
  const std::vector<VictimCandidate> candidates{{1, 4, 100, 9}, {2, 4, 300, 8}, {3, 4, 200, 7}};
  const auto takes = choose_victims(candidates, 6, VictimOrder::latest_deadline);
  REQUIRE(takes.size() == 2);
  CHECK(takes[0].arena == 2);
  CHECK(takes[0].chunks == 4);
  CHECK(takes[1].arena == 3);
  CHECK(takes[1].chunks == 2);
}

TEST_CASE("victims of the baseline: whole arenas, least recently used first") {
  const std::vector<VictimCandidate> candidates{{1, 4, 100, 9}, {2, 4, 300, 8}, {3, 4, 200, 7}};
  const auto takes = choose_victims(candidates, 1, VictimOrder::least_recently_used);
  REQUIRE(takes.size() == 1);
  CHECK(takes[0].arena == 3);
  CHECK(takes[0].chunks == 4);
}

TEST_CASE("victims: less than the shortfall when there is no more") {
  const auto takes = choose_victims({{1, 2, 5, 0}, {2, 0, 9, 0}}, 7, VictimOrder::latest_deadline);
  REQUIRE(takes.size() == 1);
  CHECK(takes[0].chunks == 2);
}

}  // namespace
}  // namespace rtswap::policy
