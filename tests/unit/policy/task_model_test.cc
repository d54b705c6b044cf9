#include "csrc/policy/task_model.h"

#include <algorithm>
#include <random>
#include <vector>

#include "tests/catch.h"

namespace rtswap::policy {
namespace {

// 10 ns a chunk to restore, 3 to change hands, of which 1 to unmap; 100 a round trip; one chunk of
// prefetch in flight; one victim at a time. The first of several chunks comes 4 ns late.
LinkModel link() {
  LinkModel result;
  result.restore_bytes_per_s = 1'000'000'000;
  result.chunk_bytes = 10;
  result.chunk_cost_ns = 3;
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
  // Two round trips, what is in flight, three chunks, the execution.
  CHECK(block_ns(link(), task(4, {}, 50), 3, {}) == 200 + 14 + 34 + 50);
  CHECK(block_ns(link(), task(4, {{4, 50}}), 3, {}) == 200 + 14 + 34 + 50);
}

TEST_CASE("what is in flight lands before that which it lies in is known to be gone") {
  LinkModel busy = link();
  busy.lead_chunks = 9;
  CHECK(block_ns(busy, task(4, {}, 50), 3, {}) == 200 + 94 + 34 + 50);
}

TEST_CASE("a layer waits for its chunks and for the layer before") {
  // The first restored chunk is there 128 after the first round trip, the second 138.
  CHECK(block_ns(link(), task(3, {{1, 40}, {2, 20}, {3, 5}}), 2, {}) == 100 + 128 + 20 + 5);
  // A layer that waits for the last chunk.
  CHECK(block_ns(link(), task(3, {{1, 40}, {2, 1}, {3, 5}}), 2, {}) == 100 + 138 + 5);
  // Execution that hides the restore altogether, and one that is over before it.
  CHECK(block_ns(link(), task(3, {{1, 500}, {3, 5}}), 2, {}) == 100 + 4 + 505);
  CHECK(block_ns(link(), task(3, {{1, 7}}), 2, {}) == 100 + 138);
}

TEST_CASE("the first layer waits for what was asked back of its own arena right before") {
  TaskModel hides = task(3, {{1, 500}, {3, 5}});
  CHECK(leaving_ns(link(), hides, 0, {2, 1}) == 0);
  // The victim of what is missing unmaps, too.
  CHECK(leaving_ns(link(), hides, 2, {2, 1}) == 3 + 1);  // read-only
  hides.mutable_chunks = 2;
  CHECK(leaving_ns(link(), hides, 2, {0, 1}) == 3 + 1 + 10);
  CHECK(leaving_ns(link(), hides, 2, {2, 1}) == 3 + 1 + 10 + 10);  // and copies out
  CHECK(block_ns(link(), hides, 2, {2, 1}) == 100 + 24 + 505);
  LinkModel busy = link();
  busy.lead_chunks = 2;
  CHECK(leaving_ns(busy, hides, 2, {2, 2}) == 6 + 2 + 20 + 20);
  CHECK(leaving_ns(busy, hides, 1, {1, 2}) == 3 + 1 + 10 + 10);
  busy.victim_arenas = 3;
  CHECK(leaving_ns(busy, task(9, {{1, 500}, {9, 5}}), 8, {0, 2}) == 6 + 6);
  CHECK(leaving_ns(busy, task(9, {{1, 500}, {9, 5}}), 5, {0, 2}) == 6 + 5);
  // A run begins when all of it is there.
  CHECK(run_ns(link(), hides, 2, {2, 1}) == 100 + 505);
}

TEST_CASE("victims are written back before anything arrives") {
  // 10 ns each; the stray chunk may have one of them as well.
  CHECK(block_ns(link(), task(3, {{1, 40}, {3, 5}}), 2, {2, 1}) == 100 + 138 + 30 + 5);
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

TEST_CASE("chunks change hands while those before them are copied, but for the first batch") {
  CHECK(load_ns(link(), 0) == 0);
  CHECK(load_ns(link(), 1) == 3 + 10);
  // The next one is unmapped before it is mapped.
  CHECK(load_ns(link(), 3) == 4 + 30);
  LinkModel wide = link();
  wide.prefetch_chunks = 4;
  CHECK(load_ns(wide, 3) == 9 + 30);
  CHECK(load_ns(wide, 3, 9) == 4 * 3 + 4 + 30);
  CHECK(load_ns(wide, 9) == 4 * 3 + 4 + 90);
  wide.chunk_cost_ns = 30;
  CHECK(load_ns(wide, 9) == 4 * 30 + 4 * 10 + 9 * 30);
}

TEST_CASE("victims unmap in turn, which is waited for unless copies hide it") {
  LinkModel crowded = link();
  crowded.victim_arenas = 5;
  CHECK(load_ns(crowded, 3) == 2 + 3 + 30);
  CHECK(load_ns(crowded, 20) == 2 + 2 * 5 + 200);
  crowded.victim_arenas = 8;
  CHECK(load_ns(crowded, 20) == 2 + 2 * 8 + 200);
  crowded.victim_arenas = 9;
  CHECK(load_ns(crowded, 20) == 2 + 2 * 9 + 200 + 20);
  CHECK(load_ns(crowded, 2, 20) == 2 + 2 * 9 + 20 + 2 * 8);
}

TEST_CASE("each batch has changed hands before those ahead of it are copied") {
  std::mt19937 random(23);
  const auto between = [&](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random() % static_cast<uint64_t>(high - low + 1));
  };
  for (int round = 0; round < 3000; ++round) {
    LinkModel any = link();
    any.chunk_bytes = uint64_t{2 << 20} << between(0, 5);
    any.prefetch_chunks = quantum_chunks(any.chunk_bytes);
    any.restore_bytes_per_s = static_cast<uint64_t>(between(1, 60) * 1'000'000'000);
    any.chunk_cost_ns = between(0, 1) == 0 ? between(0, 500'000) : between(0, 10'000'000);
    const auto chunks = static_cast<uint32_t>(between(1, 700));
    const auto copy_ns = static_cast<int64_t>(static_cast<double>(any.chunk_bytes) * 1e9 /
                                              static_cast<double>(any.restore_bytes_per_s));
    INFO("round " << round);
    uint32_t asked = 0;
    uint32_t landed = 0;
    int64_t landed_ns = 0;
    for (const uint32_t batch : batches_of(any, chunks)) {
      REQUIRE(batch > 0);
      asked += batch;
      const int64_t ready_ns = asked * any.chunk_cost_ns;
      for (; landed < asked; ++landed) {
        landed_ns = std::max(landed_ns, ready_ns) + copy_ns;
        // But for fractions of a ns.
        REQUIRE(landed_ns <= load_ns(any, landed + 1, chunks) + chunks);
      }
    }
    REQUIRE(asked == chunks);
  }
  LinkModel fast = link();
  fast.chunk_bytes = 32 << 20;
  CHECK(batches_of(fast, 20) == std::vector<uint32_t>{1, 2, 4, 8, 5});
}

TEST_CASE("a lead waits for its first chunk and what is in flight, then goes in steps") {
  const LinkModel streaming = staging_link(link());
  CHECK(streaming.lead_chunks == 1 + 20);  // 200 ns ahead, 10 a chunk
  // Nothing missing, nothing to wait for.
  CHECK(lead_ns(streaming, 0, 0, {}) == 0);
  // Only the stray chunk, reported.
  CHECK(lead_ns(streaming, 2, 0, {}) == 13 + 100);
  CHECK(lead_ns(streaming, 4, 1, {}) == 300 + 14 + 13);
  CHECK(lead_ns(streaming, 40, 21, {}) == 300 + 14 + 4 + 210);
  // A step takes two round trips and a chunk, if that is longer than what is in flight.
  CHECK(lead_ns(streaming, 40, 22, {}) == 300 + 14 + 216 + 14);
  CHECK(lead_ns(streaming, 40, 22, {2, 1}) == 300 + 14 + 216 + 14 + 10 + 20);
  LinkModel none = link();
  none.prefetch_chunks = 0;
  CHECK(staging_link(none).lead_chunks == 0);
}

// A chunk is asked for as soon as less is on its way than may be, and comes two round trips later.
TEST_CASE("a lead takes no longer than it is charged") {
  std::mt19937 random(31);
  const auto between = [&](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random() % static_cast<uint64_t>(high - low + 1));
  };
  for (int round = 0; round < 3000; ++round) {
    LinkModel any = link();
    any.chunk_bytes = 32 << 20;
    any.restore_bytes_per_s = static_cast<uint64_t>(between(1, 60) * 1'000'000'000);
    any.chunk_cost_ns = between(0, 3'000'000);
    any.overhead_ns = between(0, 3'000'000);
    any.prefetch_chunks = static_cast<uint32_t>(between(1, 6));
    any = staging_link(any);
    const int64_t pace_ns = load_ns(any, 2, 2) - load_ns(any, 1, 2);
    // When each of what may be on its way is known to have landed: first the stray ones.
    std::vector<int64_t> landed_ns;
    for (uint32_t stray = 1; stray <= any.prefetch_chunks; ++stray) {
      landed_ns.push_back(any.overhead_ns + load_ns(any, stray));
    }
    const auto chunks = static_cast<uint32_t>(between(1, 60));
    INFO("round " << round);
    for (uint32_t chunk = 1; chunk <= chunks; ++chunk) {
      const size_t before = landed_ns.size();
      const int64_t asked_ns = before < any.lead_chunks ? 0 : landed_ns[before - any.lead_chunks];
      const int64_t load = asked_ns == 0 ? load_ns(any, chunk, chunks) : load_ns(any, 1);
      landed_ns.push_back(
          std::max(landed_ns.back() + pace_ns, asked_ns + 2 * any.overhead_ns + load));
    }
    // But for fractions of a ns.
    REQUIRE(landed_ns.back() <= lead_ns(any, 100, chunks, {}) + chunks);
  }
}

TEST_CASE("a run restores the rest behind its execution, with the copy engine its own") {
  CHECK(run_ns(link(), task(4, {{1, 40}, {4, 30}}), 0, {}) == 170);
  // One round trip for the first revoke, then 13 for a chunk.
  CHECK(run_ns(link(), task(4, {{3, 113}, {4, 30}}), 1, {}) == 100 + 143);
  CHECK(run_ns(link(), task(4, {{3, 112}, {4, 30}}), 1, {}) == 100 + 143);
  CHECK(run_ns(link(), task(4, {{3, 112}, {4, 30}}), 1, {1, 1}) == 100 + 123 + 30);
}

TEST_CASE("a direct job that restores makes the stage ask again for what was on its way") {
  LinkModel streaming = link();
  streaming.lead_chunks = 3;
  CHECK(stage_delay_ns(streaming, 500, 0, {3, 1}) == 500);
  CHECK(stage_delay_ns(streaming, 500, 1, {3, 1}) == 500 + 200 + 9 + 10);
  // Of that, a lead is kept from going on until the job's last chunk is there, and so it is.
  CHECK(stage_stall_ns(streaming, 0, {3, 1}) == 0);
  CHECK(stage_stall_ns(streaming, 4, {3, 1}) == 134 + 10 + 30 + 44 + 300 + 9 + 10);
}

}  // namespace
}  // namespace rtswap::policy
