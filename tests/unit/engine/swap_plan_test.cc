#include "csrc/engine/swap_plan.h"

#include "csrc/base/check.h"
#include "csrc/base/units.h"
#include "tests/catch.h"

using namespace rtswap;
using namespace rtswap::literals;
using namespace rtswap::engine;

namespace {

constexpr uint64_t kChunk = 2_MiB;
const std::vector<bool> kNothingKept(6, false);

std::byte* host(uint64_t value) { return reinterpret_cast<std::byte*>(value); }

// Positions 0..2 read_only (the last one half used), 3..4 scratch, 5 mutable (7 bytes).
std::vector<Segment> three_segments() {
  return {
      {.address = 0x10000000,
       .host = host(0x1000),
       .bytes = 5_MiB,
       .first_position = 0,
       .chunks = 3,
       .kind = Kind::read_only},
      {.address = 0x20000000,
       .host = nullptr,
       .bytes = 4_MiB,
       .first_position = 3,
       .chunks = 2,
       .kind = Kind::scratch},
      {.address = 0x30000000,
       .host = host(0x2000),
       .bytes = 7,
       .first_position = 5,
       .chunks = 1,
       .kind = Kind::mutable_state},
  };
}

}  // namespace

TEST_CASE("a range is split at segments, and copies only what is used") {
  const auto runs = split(three_segments(), kNothingKept, kChunk, {0, 6}, UINT64_MAX);
  REQUIRE(runs.size() == 3);
  CHECK(runs[0].positions == Range{0, 3});
  CHECK(runs[0].address == 0x10000000);
  CHECK(runs[0].host == host(0x1000));
  CHECK(runs[0].copy_bytes == 5_MiB);
  CHECK(runs[0].mapped_bytes(kChunk) == 6_MiB);
  CHECK(runs[1].positions == Range{3, 2});
  CHECK(runs[1].host == nullptr);
  CHECK(runs[1].copy_bytes == 0);
  CHECK(runs[1].kind == Kind::scratch);
  CHECK(runs[2].positions == Range{5, 1});
  CHECK(runs[2].copy_bytes == 7);
  CHECK(runs[2].kind == Kind::mutable_state);
}

TEST_CASE("of scratch what is kept is copied, the last chunk as far as it is used") {
  auto segments = three_segments();
  segments[1].host = host(0x4000);
  segments[1].bytes = 3_MiB;
  const auto runs =
      split(segments, {false, false, false, false, true, false}, kChunk, {2, 4}, UINT64_MAX);
  REQUIRE(runs.size() == 4);
  CHECK(runs[1].positions == Range{3, 1});
  CHECK(runs[1].host == nullptr);
  CHECK(runs[1].copy_bytes == 0);
  CHECK(runs[2].positions == Range{4, 1});
  CHECK(runs[2].address == 0x20000000 + kChunk);
  CHECK(runs[2].host == host(0x4000 + kChunk));
  CHECK(runs[2].copy_bytes == 1_MiB);
}

TEST_CASE("a range may begin and end inside segments") {
  const auto runs = split(three_segments(), kNothingKept, kChunk, {1, 3}, UINT64_MAX);
  REQUIRE(runs.size() == 2);
  CHECK(runs[0].positions == Range{1, 2});
  CHECK(runs[0].address == 0x10000000 + kChunk);
  CHECK(runs[0].host == host(0x1000 + kChunk));
  CHECK(runs[0].copy_bytes == 3_MiB);
  CHECK(runs[1].positions == Range{3, 1});
  CHECK(split(three_segments(), kNothingKept, kChunk, {2, 0}, UINT64_MAX).empty());
  CHECK(split({}, {}, kChunk, {0, 0}, UINT64_MAX).empty());
}

TEST_CASE("runs are limited in size but hold at least one chunk") {
  const auto pairs = split(three_segments(), kNothingKept, kChunk, {0, 6}, 2 * kChunk + 1);
  REQUIRE(pairs.size() == 4);
  CHECK(pairs[0].positions == Range{0, 2});
  CHECK(pairs[1].positions == Range{2, 1});
  CHECK(pairs[1].copy_bytes == 1_MiB);
  CHECK(split(three_segments(), kNothingKept, kChunk, {0, 6}, 1).size() == 6);
}

TEST_CASE("positions that no segment has are a bug of the caller") {
  CHECK_THROWS_AS(split(three_segments(), kNothingKept, kChunk, {4, 3}, UINT64_MAX),
                  InvariantViolation);
}

TEST_CASE("every range is covered once and in order") {
  auto segments = three_segments();
  segments[1].host = host(0x4000);
  const std::vector<bool> kept{false, false, false, false, GENERATE(false, true), false};
  for (uint32_t first = 0; first <= 6; ++first) {
    for (uint32_t count = 0; first + count <= 6; ++count) {
      for (uint64_t largest : {uint64_t{1}, kChunk, 2 * kChunk, uint64_t{UINT64_MAX}}) {
        uint32_t next = first;
        for (const Run& run : split(segments, kept, kChunk, {first, count}, largest)) {
          CHECK(run.positions.first == next);
          CHECK(run.positions.count > 0);
          CHECK((run.positions.count == 1 || run.mapped_bytes(kChunk) <= largest));
          next = run.positions.end();
        }
        CHECK(next == first + count);
      }
    }
  }
}
