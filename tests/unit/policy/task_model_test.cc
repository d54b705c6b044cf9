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
  CHECK(block_ns(link(), task(4, {}, 50), 0, 0) == 150);
  CHECK(block_ns(link(), task(4, {{1, 20}, {4, 30}}), 0, 0) == 150);
}

TEST_CASE("without layers, a job executes after everything has landed") {
  // Two round trips, the stray chunk, three chunks, the execution.
  CHECK(block_ns(link(), task(4, {}, 50), 3, 0) == 200 + 12 + 36 + 50);
  CHECK(block_ns(link(), task(4, {{4, 50}}), 3, 0) == 200 + 12 + 36 + 50);
}

TEST_CASE("a layer waits for its chunks and for the layer before") {
  // The first restored chunk is there 124 after the first round trip, the second 136.
  CHECK(block_ns(link(), task(3, {{1, 40}, {2, 20}, {3, 5}}), 2, 0) == 100 + 124 + 20 + 5);
  // A layer that waits for the last chunk.
  CHECK(block_ns(link(), task(3, {{1, 40}, {2, 1}, {3, 5}}), 2, 0) == 100 + 136 + 5);
  // Execution that hides the restore altogether, and one that is over before it.
  CHECK(block_ns(link(), task(3, {{1, 500}, {3, 5}}), 2, 0) == 100 + 505);
  CHECK(block_ns(link(), task(3, {{1, 7}}), 2, 0) == 100 + 136);
}

TEST_CASE("victims are written back before anything arrives") {
  // 10 ns each; the stray chunk may have one of them as well.
  CHECK(block_ns(link(), task(3, {{1, 40}, {3, 5}}), 2, 2) == 100 + 136 + 30 + 5);
}

TEST_CASE("a restore of unknown speed has no bound") {
  LinkModel unknown = link();
  unknown.restore_bytes_per_s = 0;
  CHECK(block_ns(unknown, task(3, {{1, 40}, {3, 5}}), 2, 0) == INT64_MAX);
  CHECK(block_ns(unknown, task(3, {{1, 40}, {3, 5}}), 0, 0) == 145);
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
    const auto write_back = static_cast<uint32_t>(random() % 3);
    INFO("round " << round);
    for (uint32_t missing = 1; missing <= chunks; ++missing) {
      const int64_t block = block_ns(link(), overlapped, missing, write_back);
      REQUIRE(block <= block_ns(link(), serial, missing, write_back));
      REQUIRE(block >= block_ns(link(), overlapped, missing - 1, write_back));
      REQUIRE(block >= overlapped.wcet_ns + link().overhead_ns);
    }
  }
}

}  // namespace
}  // namespace rtswap::policy
