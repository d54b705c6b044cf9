#include "csrc/engine/arena_state.h"

#include "csrc/base/check.h"
#include "csrc/base/units.h"
#include "tests/catch.h"

using namespace rtswap;
using namespace rtswap::literals;
using namespace rtswap::engine;

namespace {

constexpr uint64_t kChunk = 2_MiB;

// Positions 0..1 read_only, 2..4 mutable, 5 scratch.
ArenaState six_positions() {
  ArenaState state(kChunk);
  static std::byte image[1];  // never read: bookkeeping only
  state.append(Kind::read_only, 3_MiB, 0x10000000, image);
  state.append(Kind::mutable_state, 6_MiB, 0x20000000, image);
  state.append(Kind::scratch, 1, 0x30000000, nullptr);
  return state;
}

void land(ArenaState& state, Range range) {
  for (const Run& run : state.split(range, UINT64_MAX)) state.landed_more(run);
}
void unmap(ArenaState& state, Range range) {
  const std::vector<Run> runs = state.split(range, UINT64_MAX);
  for (auto run = runs.rbegin(); run != runs.rend(); ++run) state.unmapped(*run);
}
void make_resident(ArenaState& state) {
  state.mapped_more(std::vector<uint32_t>{10, 11, 12, 13, 14, 15});
  land(state, {0, 6});
}

}  // namespace

TEST_CASE("segments take positions in order") {
  ArenaState state = six_positions();
  REQUIRE(state.segments().size() == 3);
  CHECK(state.segments()[0].chunks == 2);
  CHECK(state.segments()[1].first_position == 2);
  CHECK(state.segments()[2].first_position == 5);
  CHECK(state.total() == 6);
  CHECK(state.stats().chunks == 6);
  CHECK(state.stats().host_bytes == 9_MiB);
}

TEST_CASE("positions are numbered by 32 bits") {
  const ArenaState state = six_positions();
  CHECK(state.can_hold((uint64_t{UINT32_MAX} - 6) * kChunk));
  CHECK_FALSE(state.can_hold((uint64_t{UINT32_MAX} - 6) * kChunk + 1));
  CHECK_FALSE(state.can_hold(UINT64_MAX));
}

TEST_CASE("what is mapped becomes resident as it lands, in order") {
  ArenaState state = six_positions();
  state.mapped_more(std::vector<uint32_t>{7, 9, 8});
  CHECK(state.mapped() == 3);
  CHECK(state.landed() == 0);
  CHECK(state.resident_chunks().empty());
  CHECK_THROWS_AS(land(state, {2, 1}), InvariantViolation);
  land(state, {0, 2});
  CHECK(state.resident_chunks() == std::vector<uint32_t>{7, 9});
  CHECK(state.stats().restored_bytes == 3_MiB);
  CHECK_THROWS_AS(land(state, {2, 2}), InvariantViolation);  // position 3 is not mapped
  CHECK_THROWS_AS(state.mapped_more(std::vector<uint32_t>{1, 2, 3, 4}), InvariantViolation);
}

TEST_CASE("positions leave from the tail") {
  ArenaState state = six_positions();
  make_resident(state);
  CHECK_THROWS_AS(unmap(state, {0, 2}), InvariantViolation);
  unmap(state, {1, 5});
  CHECK(state.mapped() == 1);
  CHECK(state.landed() == 1);
  CHECK(state.resident_chunks() == std::vector<uint32_t>{10});
  CHECK(state.stats().evicted_bytes == 7_MiB);  // 1 of read_only, 6 of mutable, none of scratch
}

TEST_CASE("leftovers of a failed restore leave without being counted as evicted") {
  ArenaState state = six_positions();
  state.mapped_more(std::vector<uint32_t>{1, 2, 3, 4});
  land(state, {0, 2});
  unmap(state, {2, 2});
  CHECK(state.mapped() == 2);
  CHECK(state.landed() == 2);
  CHECK(state.stats().evicted_bytes == 0);
}

TEST_CASE("only mutable positions used since they were saved are unsaved") {
  ArenaState state = six_positions();
  make_resident(state);
  CHECK(state.unsaved(0).empty());
  state.mark_used();
  CHECK(state.unsaved(0) == std::vector<Range>{{2, 3}});
  CHECK(state.unsaved(4) == std::vector<Range>{{4, 1}});
  CHECK(state.unsaved(5).empty());

  SECTION("what was evicted is saved, what stayed is not") {
    unmap(state, {3, 3});
    CHECK(state.unsaved(0) == std::vector<Range>{{2, 1}});
    state.mapped_more(std::vector<uint32_t>{3, 4, 5});
    land(state, {3, 3});
    CHECK(state.unsaved(0) == std::vector<Range>{{2, 1}});
    state.mark_used();
    CHECK(state.unsaved(0) == std::vector<Range>{{2, 3}});
  }
}

TEST_CASE("kept positions of scratch are unsaved after a use, until they are scratch again") {
  ArenaState state = six_positions();
  CHECK_FALSE(state.can_keep(2, std::vector<ByteRange>{{0x30000000, 1}}));
  make_resident(state);
  const std::vector<ByteRange> byte{{0x30000000, 1}};
  REQUIRE(state.can_keep(2, byte));
  std::byte image{};
  state.set_image(2, &image);
  CHECK(state.stats().host_bytes == 9_MiB + 1);
  state.keep(2, byte);
  CHECK(state.unsaved(0) == std::vector<Range>{{5, 1}});
  CHECK(state.stats().kept_chunks == 1);
  unmap(state, {5, 1});
  CHECK(state.can_keep(2, byte));  // it is in the image
  state.mapped_more(std::vector<uint32_t>{5});
  land(state, {5, 1});
  state.keep(2, byte);
  CHECK(state.unsaved(0).empty());  // not used since
  state.mark_used();
  CHECK(state.unsaved(5) == std::vector<Range>{{5, 1}});
  state.keep(2, {});
  CHECK(state.unsaved(5).empty());
  CHECK(state.stats().kept_chunks == 0);
  state.mark_used();
  CHECK(state.unsaved(5).empty());
}

TEST_CASE("a use that begins before the tail has landed covers the tail") {
  ArenaState state = six_positions();
  state.mapped_more(std::vector<uint32_t>{10, 11, 12, 13, 14, 15});
  land(state, {0, 2});
  state.mark_used();
  CHECK(state.unsaved(0).empty());
  land(state, {2, 4});
  CHECK(state.unsaved(0) == std::vector<Range>{{2, 3}});
}

TEST_CASE("what was mapped once and is not any more is exposed until it is guarded") {
  ArenaState state = six_positions();
  CHECK(state.exposed().empty());
  state.mapped_more(std::vector<uint32_t>{10, 11, 12, 13});
  land(state, {0, 4});
  CHECK(state.exposed().empty());
  unmap(state, {1, 3});
  CHECK(state.exposed() == std::vector<Range>{{1, 3}});
  state.set_guarded({2, 1}, true);
  CHECK(state.exposed() == std::vector<Range>{{1, 1}, {3, 1}});
  CHECK(state.guarded({0, 6}) == std::vector<Range>{{2, 1}});
  CHECK(state.guarded({3, 3}).empty());
  CHECK(state.stats().guarded_chunks == 1);
  CHECK_THROWS_AS(state.set_guarded({0, 2}, true), InvariantViolation);
  CHECK_THROWS_AS(state.set_guarded({5, 2}, true), InvariantViolation);
  CHECK_THROWS_AS(state.truncate(2), InvariantViolation);
  state.mapped_more(std::vector<uint32_t>{11});
  CHECK_THROWS_AS(state.mapped_more(std::vector<uint32_t>{12}), InvariantViolation);
  state.set_guarded({2, 1}, false);
  CHECK(state.exposed() == std::vector<Range>{{2, 2}});
  state.truncate(2);
  CHECK(state.exposed().empty());
}
