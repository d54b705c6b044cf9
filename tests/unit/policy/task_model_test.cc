#include "csrc/policy/task_model.h"

#include <algorithm>
#include <random>

#include "tests/catch.h"

namespace rtswap::policy {
namespace {

// 10 ns a chunk to restore, 2 to map; 100 a round trip; one chunk of prefetch in flight.
LinkModel link() {
  LinkModel result;
  result.restore_bytes_per_s = 1'000'000'000;
  result.chunk_bytes = 10;
  result.chunk_cost_ns = 2;
  result.overhead_ns = 100;
  result.prefetch_chunks = 1;
  return result;
}

TaskModel task(uint32_t chunks, std::vector<Layer> layers, int64_t wcet_ns = 0) {
  TaskModel result;
  result.arena_chunks = chunks;
  result.layers = std::move(layers);
  for (const Layer& layer : result.layers) wcet_ns += layer.execution_ns;
  result.wcet_ns = wcet_ns;
  return result;
}

TEST_CASE("a job with all its memory costs its execution and one round trip") {
  CHECK(block_ns(link(), task(4, {}, 50), 0, {}) == 150);
  CHECK(block_ns(link(), task(4, {{1, 20}, {4, 30}}), 0, {}) == 150);
}

TEST_CASE("without layers, a job executes after everything has landed") {
  // Two round trips, the stray chunk, three chunks, the execution.
  CHECK(block_ns(link(), task(4, {}, 50), 3, {}) == 200 + 12 + 36 + 50);
  CHECK(block_ns(link(), task(4, {{4, 50}}), 3, {}) == 200 + 12 + 36 + 50);
}

TEST_CASE("a layer waits for its chunks and for the layer before") {
  // The first restored chunk is there 124 after the first round trip, the second 136.
  CHECK(block_ns(link(), task(3, {{1, 40}, {2, 20}, {3, 5}}), 2, {}) == 100 + 124 + 20 + 5);
  // A layer that waits for the last chunk.
  CHECK(block_ns(link(), task(3, {{1, 40}, {2, 1}, {3, 5}}), 2, {}) == 100 + 136 + 5);
  // Execution that hides the restore altogether, and one that is over before it.
  CHECK(block_ns(link(), task(3, {{1, 500}, {3, 5}}), 2, {}) == 100 + 505);
  CHECK(block_ns(link(), task(3, {{1, 7}}), 2, {}) == 100 + 136);
}

TEST_CASE("victims are written back before anything arrives") {
  // 10 ns each; the stray chunk may have one of them as well.
  CHECK(block_ns(link(), task(3, {{1, 40}, {3, 5}}), 2, {2, 1}) == 100 + 136 + 30 + 5);
}

TEST_CASE("a restore of unknown speed has no bound") {
  LinkModel unknown = link();
  unknown.restore_bytes_per_s = 0;
  CHECK(block_ns(unknown, task(3, {{1, 40}, {3, 5}}), 2, {}) == INT64_MAX);
  CHECK(block_ns(unknown, task(3, {{1, 40}, {3, 5}}), 0, {}) == 145);
}

TEST_CASE("overlap never costs, and no less can be missing for more time") {
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    const uint32_t chunks = 1 + random() % 8;
    std::vector<Layer> layers(1 + random() % 5);
    for (Layer& layer : layers) {
      layer.chunks = static_cast<uint32_t>(1 + random() % chunks);
      layer.execution_ns = static_cast<int64_t>(1 + random() % 60);
    }
    std::sort(layers.begin(), layers.end(),
              [](const Layer& a, const Layer& b) { return a.chunks < b.chunks; });
    const TaskModel overlapped = task(chunks, layers);
    const TaskModel serial = task(chunks, {}, overlapped.wcet_ns);
    const WriteBack write_back{static_cast<uint32_t>(random() % 3),
                               static_cast<uint32_t>(random() % 2)};
    INFO("round " << round);
    for (uint32_t missing = 1; missing <= chunks; ++missing) {
      const int64_t block = block_ns(link(), overlapped, missing, write_back);
      REQUIRE(block <= block_ns(link(), serial, missing, write_back));
      REQUIRE(block >= block_ns(link(), overlapped, missing - 1, write_back));
      REQUIRE(block >= overlapped.wcet_ns + link().overhead_ns);
    }
  }
}

TEST_CASE("a lead is one stray prefetch, its steps, and the round trips between") {
  // Nothing missing, nothing to wait for.
  CHECK(lead_ns(link(), 0, 0, {}) == 0);
  // Only the stray chunk, reported.
  CHECK(lead_ns(link(), 2, 0, {}) == 12 + 100);
  // One in flight: each further chunk is two round trips behind the one before.
  CHECK(lead_ns(link(), 4, 1, {}) == 112 + 200 + 12);
  CHECK(lead_ns(link(), 4, 3, {}) == 112 + 3 * 212);
  CHECK(lead_ns(link(), 4, 3, {2, 1}) == 112 + 3 * 212 + 10 + 20);
}

TEST_CASE("under a plan with staged tasks a lead streams") {
  const LinkModel streaming = staging_link(link());
  CHECK(streaming.prefetch_chunks == 1 + 17);  // 200 ns ahead, 12 a chunk
  CHECK(lead_ns(streaming, 40, 36, {}) == 18 * 12 + 100 + 200 + 36 * 12);
  LinkModel none = link();
  none.prefetch_chunks = 0;
  CHECK(staging_link(none).prefetch_chunks == 0);
}

TEST_CASE("a run restores the rest behind its execution, with the copy engine its own") {
  CHECK(run_ns(link(), task(4, {{1, 40}, {4, 30}}), 0, {}) == 170);
  // One round trip for the first revoke, then 12 a chunk.
  CHECK(run_ns(link(), task(4, {{3, 112}, {4, 30}}), 1, {}) == 100 + 142);
  CHECK(run_ns(link(), task(4, {{3, 111}, {4, 30}}), 1, {}) == 100 + 142);
  CHECK(run_ns(link(), task(4, {{3, 111}, {4, 30}}), 1, {1, 1}) == 100 + 122 + 30);
}

TEST_CASE("a direct job that restores makes the stage ask again for what was on its way") {
  CHECK(stage_delay_ns(link(), 500, 0, {3, 1}) == 500);
  CHECK(stage_delay_ns(link(), 500, 1, {3, 1}) == 500 + 200 + 2 + 10);
}

}  // namespace
}  // namespace rtswap::policy
