// Contents of scratch segments that outlive jobs.
#include "tests/catch.h"
#include "tests/unit/engine/rig.h"

using namespace rtswap;
using namespace rtswap::literals;
using namespace rtswap::engine;
using namespace rtswap::engine::test;
using driver::Operation;
using rtswap::test::contains;

namespace {

std::byte* at(const Segment& segment, uint64_t offset) {
  return reinterpret_cast<std::byte*>(segment.address + offset);
}

Status keep(Rig& rig, const Segment& segment, std::vector<ByteRange> bytes) {
  return rig.engine->keep_scratch(1, segment.address, bytes);
}

}  // namespace

TEST_CASE("of a scratch segment the chunks under what is kept survive evictions") {
  const bool guard = GENERATE(false, true);
  Rig rig({.guard = guard});
  Program program(rig, 1, 31);
  REQUIRE(program.add(Kind::mutable_state, kChunk));
  REQUIRE(program.add(Kind::scratch, 3 * kChunk + 9));
  REQUIRE(program.restore(5));
  const Segment& scratch = program.segment(1);
  std::memset(at(scratch, 0), 0x11, scratch.bytes);
  // The second chunk, and the last one, of which 9 bytes are used.
  REQUIRE(keep(rig, scratch,
               {{scratch.address + kChunk + 5, 7}, {scratch.address + 3 * kChunk + 8, 1}}));
  CHECK(program.stats().kept_chunks == 2);
  CHECK(program.stats().host_bytes == kChunk + scratch.bytes);

  REQUIRE(program.evict(0));
  CHECK(program.stats().written_back_bytes == kChunk + 9);
  if (guard) CHECK(program.guarded());
  REQUIRE(program.restore(5, 5));
  CHECK(program.stats().restored_bytes == 2 * kChunk + kChunk + 9);
  const std::vector<std::byte> expected(kChunk, std::byte{0x11});
  CHECK(std::memcmp(at(scratch, kChunk), expected.data(), kChunk) == 0);
  CHECK(std::memcmp(at(scratch, 3 * kChunk), expected.data(), 9) == 0);
  CHECK(*at(scratch, 0) != std::byte{0x11});
  CHECK(*at(scratch, 2 * kChunk) != std::byte{0x11});
  CHECK(program.exact());

  // Not used since: nothing is copied out.
  REQUIRE(program.evict(0));
  CHECK(program.stats().written_back_bytes == kChunk + 9);
}

TEST_CASE("addresses that are kept are not used again") {
  const bool kept = GENERATE(false, true);
  Rig rig;
  driver::Address address = 0;
  {
    Program program(rig, 1, 35);
    REQUIRE(program.add(Kind::scratch, 4 * kChunk));
    address = program.segment(0).address;
    if (kept) REQUIRE(rig.engine->keep_addresses(1, address));
    CHECK(rig.engine->keep_addresses(1, address + 1).error().code == ErrorCode::invalid_argument);
    REQUIRE(rig.engine->close_arena(1));
    CHECK(rig.engine->keep_addresses(1, address).error().code == ErrorCode::closed);
  }
  CHECK(rig.device.unreserve(address, 4 * kChunk).has_value() == kept);  // still reserved
}

TEST_CASE("what is kept is saved after each use, and what is scratch again never") {
  Rig rig;
  Program program(rig, 1, 32);
  REQUIRE(program.add(Kind::read_only, kChunk));
  REQUIRE(program.add(Kind::scratch, 2 * kChunk));
  REQUIRE(program.restore(3));
  program.use();
  REQUIRE(program.keep(1, true));
  for (int cycle = 1; cycle <= 3; ++cycle) {
    REQUIRE(program.evict(0));
    CHECK(program.stats().written_back_bytes == cycle * 2 * kChunk);
    REQUIRE(program.restore(3));
    CHECK(program.exact());
    program.use();
  }
  REQUIRE(program.keep(1, false));
  CHECK(program.stats().kept_chunks == 0);
  const uint64_t restored_bytes = program.stats().restored_bytes;
  REQUIRE(program.evict(0));
  REQUIRE(program.restore(3));
  CHECK(program.stats().written_back_bytes == 3 * 2 * kChunk);
  CHECK(program.stats().restored_bytes == restored_bytes + kChunk);
  CHECK(program.stats().repaired_bytes == 0);

  // Again, with the image of the first time.
  const uint64_t host_bytes = program.stats().host_bytes;
  REQUIRE(program.keep(1, true));
  REQUIRE(program.evict(0));
  REQUIRE(program.restore(3));
  CHECK(program.exact());
  CHECK(program.stats().host_bytes == host_bytes);
  REQUIRE(program.close());
  CHECK(rig.nothing_left());
}

TEST_CASE("without host memory nothing is kept, and the arena goes on") {
  Rig rig;
  Program program(rig, 1, 33);
  REQUIRE(program.add(Kind::mutable_state, kChunk));
  REQUIRE(program.add(Kind::scratch, kChunk));
  REQUIRE(program.restore(2));
  rig.device.fail_call(Operation::register_host, 1, {ErrorCode::host_memory, "injected"});
  CHECK_THAT(program.keep(1, true).error().message, contains("injected"));
  CHECK(program.stats().kept_chunks == 0);
  CHECK(program.stats().host_bytes == kChunk);
  program.use();
  REQUIRE(program.evict(0));
  CHECK(program.stats().written_back_bytes == kChunk);
  REQUIRE(program.restore(2));
  CHECK(program.exact());
  CHECK(program.keep(1, true));  // there is some now
}

TEST_CASE("only what is there, and in a scratch segment, can be kept") {
  Rig rig;
  Program program(rig, 1, 34);
  REQUIRE(program.add(Kind::read_only, kChunk));
  REQUIRE(program.add(Kind::scratch, 2 * kChunk));
  const Segment& scratch = program.segment(1);
  const auto code = [](const Status& status) { return status.error().code; };
  CHECK(code(rig.engine->keep_scratch(2, scratch.address, {})) == ErrorCode::closed);
  CHECK(code(keep(rig, program.segment(0), {})) == ErrorCode::invalid_argument);
  REQUIRE(program.restore(2));
  CHECK(code(keep(rig, scratch, {{scratch.address - 1, 1}})) == ErrorCode::invalid_argument);
  CHECK(code(keep(rig, scratch, {{scratch.address + 2 * kChunk, 1}})) ==
        ErrorCode::invalid_argument);
  CHECK(code(keep(rig, scratch, {{scratch.address, UINT64_MAX}})) == ErrorCode::invalid_argument);
  CHECK(code(keep(rig, scratch, {{scratch.address + kChunk, 1}})) == ErrorCode::invalid_argument);
  CHECK(program.stats().host_bytes == kChunk);
  REQUIRE(keep(rig, scratch, {{scratch.address, 1}}));
  REQUIRE(program.evict(1));
  CHECK(keep(rig, scratch, {{scratch.address, 1}}));  // as before: it is in the image
}

TEST_CASE("what an eviction is about to drop cannot be kept any more") {
  Rig rig({.link = driver::make_wall_clock_link(20'000'000)});  // 2 MiB take 0.1 s
  Program program(rig, 1, 35);
  REQUIRE(program.add(Kind::mutable_state, kChunk));
  REQUIRE(program.add(Kind::scratch, kChunk));
  REQUIRE(program.restore(2));
  program.use();
  rig.engine->evict(1, 0);  // at once: it is resident until the other one was copied
  CHECK(program.keep(1, true).error().code == ErrorCode::invalid_argument);
  CHECK(rig.engine->resident_chunks(1)->empty());
  CHECK(program.stats().kept_chunks == 0);
}
