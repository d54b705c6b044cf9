#include "csrc/engine/engine.h"

#include "tests/catch.h"
#include "tests/unit/engine/rig.h"

using namespace rtswap;
using namespace rtswap::literals;
using namespace rtswap::engine;
using namespace rtswap::engine::test;
using rtswap::test::contains;

namespace {

std::vector<Recorder::Report> of(const std::vector<Recorder::Report>& reports, What what) {
  std::vector<Recorder::Report> result;
  for (const auto& report : reports) {
    if (report.what == what) result.push_back(report);
  }
  return result;
}

}  // namespace

TEST_CASE("a segment has chunk-rounded addresses and a zero-filled image of its exact size") {
  Rig rig;
  REQUIRE(rig.engine->open_arena(3, "model"));
  const Segment first = rig.engine->add_segment(3, Kind::read_only, kChunk + 5).value();
  CHECK(first.chunks == 2);
  CHECK(first.first_position == 0);
  CHECK(first.bytes == kChunk + 5);
  CHECK(first.address % kChunk == 0);
  REQUIRE(first.host != nullptr);
  CHECK(std::count(first.host, first.host + first.bytes, std::byte{0}) ==
        static_cast<ptrdiff_t>(first.bytes));
  const Segment scratch = rig.engine->add_segment(3, Kind::scratch, 1).value();
  CHECK(scratch.first_position == 2);
  CHECK(scratch.chunks == 1);
  CHECK(scratch.host == nullptr);
  const ArenaStats stats = rig.engine->stats(3).value();
  CHECK(stats.chunks == 3);
  CHECK(stats.host_bytes == kChunk + 5);
  CHECK(stats.resident_chunks == 0);
}

TEST_CASE("requests that cannot be met are refused and change nothing") {
  Rig rig;
  REQUIRE(rig.engine->open_arena(1, "model"));
  const auto code = [&](Kind kind, uint64_t bytes, ArenaId arena = 1) {
    return rig.engine->add_segment(arena, kind, bytes).error().code;
  };
  CHECK(code(Kind::read_only, 0) == ErrorCode::invalid_argument);
  CHECK(code(Kind::scratch, UINT64_MAX) == ErrorCode::invalid_argument);
  CHECK(code(Kind::mutable_state, uint64_t{1} << 50) == ErrorCode::host_memory);
  CHECK(code(Kind::read_only, 1, 9) == ErrorCode::closed);
  CHECK(rig.engine->open_arena(1, "again").error().code == ErrorCode::invalid_argument);
  CHECK(rig.engine->stats(9).error().code == ErrorCode::closed);
  CHECK(rig.engine->close_arena(9).error().code == ErrorCode::closed);
  CHECK(rig.engine->resident_chunks(9).error().code == ErrorCode::closed);
  CHECK(rig.engine->stats(1)->chunks == 0);
}

TEST_CASE("every kind comes and goes as it should") {
  Rig rig;
  Program program(rig, 1, 11);
  REQUIRE(program.add(Kind::read_only, 2 * kChunk + 1));
  REQUIRE(program.add(Kind::mutable_state, kChunk + 4097));
  REQUIRE(program.add(Kind::scratch, 2 * kChunk));
  REQUIRE(program.restore(7));
  CHECK(program.exact());
  auto reports = rig.listener.take();
  REQUIRE_FALSE(reports.empty());
  CHECK(reports.back().chunks == 7);
  uint32_t landed = 0;
  for (const auto& report : reports) {
    CHECK(report.what == What::restored);
    CHECK(report.chunks > landed);
    landed = report.chunks;
  }
  CHECK(program.stats().restored_bytes == 3 * kChunk + 4098);

  program.use();
  REQUIRE(program.evict(0));
  reports = rig.listener.take();
  REQUIRE(reports.size() == 1);
  CHECK(reports[0].what == What::evicted);
  CHECK(reports[0].chunks == 0);
  CHECK(reports[0].bytes == kChunk + 4097);
  REQUIRE(program.restore(7));
  CHECK(program.exact());
  CHECK(program.stats().repaired_bytes == 0);
}

TEST_CASE("mutable memory is written back only when it was used since the last time") {
  Rig rig;
  Program program(rig, 1, 12);
  REQUIRE(program.add(Kind::mutable_state, 3 * kChunk));
  REQUIRE(program.restore(3));
  REQUIRE(program.evict(0));
  CHECK(program.stats().written_back_bytes == 0);
  REQUIRE(program.restore(3));
  program.use();
  REQUIRE(program.evict(2));
  CHECK(program.stats().written_back_bytes == kChunk);
  REQUIRE(program.restore(3));
  CHECK(program.exact());
  REQUIRE(program.evict(0));  // the third position is saved already
  CHECK(program.stats().written_back_bytes == 3 * kChunk);
  REQUIRE(program.restore(3));
  CHECK(program.exact());
}

TEST_CASE("commands of one arena keep their order across the lanes") {
  Rig rig;
  Program program(rig, 1, 13);
  REQUIRE(program.add(Kind::mutable_state, 4 * kChunk));
  Engine& engine = *rig.engine;
  for (int round = 0; round < 20; ++round) {
    engine.restore(1, 0, {4, 5, 6});
    engine.restore(1, 3, {7});
    engine.evict(1, 1);
    engine.evict(1, 3);  // more than there is: nothing to do
    engine.restore(1, 1, {9, 8});
    engine.restore(1, 3, {3});
    CHECK(engine.resident_chunks(1).value() == std::vector<uint32_t>{4, 9, 8, 3});
    CHECK(program.exact());
    program.use();
    engine.evict(1, 0);
    CHECK(engine.resident_chunks(1).value().empty());
    const auto evicted = of(rig.listener.take(), What::evicted);
    REQUIRE(evicted.size() == 3);
    CHECK(evicted[0].chunks == 1);
    CHECK(evicted[1].chunks == 1);
    CHECK(evicted[2].chunks == 0);
  }
}

TEST_CASE("restores of several batches, and of more than are queued at once, are exact") {
  Rig rig({.chunks = 40, .verify = false});
  Program program(rig, 1, 14);
  REQUIRE(program.add(Kind::read_only, 39 * kChunk + 3));
  for (const uint32_t pieces : {1, 2, 40}) {
    REQUIRE(program.restore(40, pieces));
    CHECK(program.exact());
    REQUIRE(program.evict(0));
  }
}

TEST_CASE("commands that do not fit are refused with the reason") {
  Rig rig;
  Program program(rig, 1, 15);
  REQUIRE(program.add(Kind::read_only, 4 * kChunk));
  REQUIRE(program.restore(2));
  rig.listener.take();
  const auto refused = [&](uint32_t first, std::vector<uint32_t> chunks) {
    rig.engine->restore(1, first, std::move(chunks));
    CHECK(program.resident().size() == 2);
    const auto reports = rig.listener.take();
    REQUIRE(reports.size() == 1);
    CHECK(reports[0].what == What::restore_failed);
    CHECK(reports[0].chunks == 2);
    return reports[0].message;
  };
  CHECK_THAT(refused(3, {9}), contains("does not continue"));
  CHECK_THAT(refused(2, {9, 10, 11}), contains("beyond its 4 chunks"));
  CHECK_THAT(refused(2, {16}), contains("chunk 16 of a bank of 16"));
  // Behind a failure, a command that does not continue the prefix was on its way: no new report.
  rig.engine->restore(1, 3, {9});
  CHECK(program.resident().size() == 2);
  CHECK(rig.listener.take().empty());
  REQUIRE(program.restore(4));
  CHECK(program.exact());
  // Commands for an arena that is not open, and restores of nothing, are nobody's business.
  rig.engine->restore(8, 0, {1});
  rig.engine->evict(8, 0);
  rig.engine->mark_used(8);
  rig.engine->restore(1, 4, {});
}

TEST_CASE("an arena grows while it is resident") {
  Rig rig;
  Program program(rig, 1, 16);
  REQUIRE(program.add(Kind::mutable_state, kChunk));
  REQUIRE(program.restore(1));
  program.use();
  REQUIRE(program.add(Kind::mutable_state, kChunk + 1));
  CHECK(program.exact());
  REQUIRE(program.restore(3));
  CHECK(program.exact());
  program.use();
  REQUIRE(program.evict(0));
  REQUIRE(program.restore(3));
  CHECK(program.exact());
}

TEST_CASE("segments that were added in vain leave nothing behind") {
  Rig rig;
  Program program(rig, 1, 15);
  REQUIRE(program.add(Kind::mutable_state, kChunk));
  REQUIRE(program.restore(1));
  const ArenaStats before = rig.engine->stats(1).value();
  REQUIRE(rig.engine->add_segment(1, Kind::read_only, 2 * kChunk));
  REQUIRE(rig.engine->add_segment(1, Kind::scratch, 1));
  CHECK(rig.engine->discard_segments(1, 0).error().code == ErrorCode::invalid_argument);
  REQUIRE(rig.engine->discard_segments(1, 1));
  REQUIRE(rig.engine->discard_segments(1, 1));
  const ArenaStats after = rig.engine->stats(1).value();
  CHECK(after.chunks == before.chunks);
  CHECK(after.host_bytes == before.host_bytes);
  CHECK(rig.engine->add_segment(1, Kind::read_only, kChunk)->first_position == 1);
  CHECK(rig.engine->discard_segments(9, 0).error().code == ErrorCode::closed);
}

TEST_CASE("writes to read_only memory are found before they are lost") {
  Rig rig;
  Program program(rig, 1, 17);
  REQUIRE(program.add(Kind::read_only, 2 * kChunk + 100));
  REQUIRE(program.restore(3));
  program.overwrite(0, 7);
  program.overwrite(0, kChunk);
  program.overwrite(0, 2 * kChunk + 99);
  REQUIRE(program.evict(2));
  CHECK(program.stats().repaired_bytes == 1);
  REQUIRE(program.evict(0));
  CHECK(program.stats().repaired_bytes == 3);
  CHECK(program.stats().written_back_bytes == 0);
  REQUIRE(program.restore(3));
  CHECK(program.exact());
}

TEST_CASE("without verify the host image stays the master") {
  Rig rig({.verify = false});
  Program program(rig, 1, 18);
  REQUIRE(program.add(Kind::read_only, kChunk));
  REQUIRE(program.restore(1));
  const std::byte before = program.segment(0).host[7];
  program.overwrite(0, 7);
  REQUIRE(program.evict(0));
  REQUIRE(program.restore(1));
  CHECK(reinterpret_cast<std::byte*>(program.segment(0).address)[7] == before);
  CHECK(program.stats().repaired_bytes == 0);
}

TEST_CASE("closing waits for what was given, and the id is free again") {
  Rig rig;
  for (int round = 0; round < 10; ++round) {
    Program program(rig, 1, 19);
    REQUIRE(program.add(Kind::mutable_state, 4 * kChunk));
    rig.engine->restore(1, 0, {0, 1});
    rig.engine->restore(1, 2, {2, 3});
    rig.engine->evict(1, 1);
    rig.engine->restore(1, 1, {5});
    REQUIRE(rig.engine->close_arena(1));
    const auto reports = rig.listener.take();
    CHECK(of(reports, What::evicted).size() == 1);
    CHECK(reports.back().chunks == 2);
    CHECK(rig.engine->stats(1).error().code == ErrorCode::closed);
  }
}

TEST_CASE("the engine may go with commands queued") {
  for (int round = 0; round < 10; ++round) {
    Rig rig;
    std::vector<std::unique_ptr<Program>> programs;
    for (ArenaId id = 0; id < 3; ++id) {
      programs.push_back(std::make_unique<Program>(rig, id, 20 + id));
      REQUIRE(programs.back()->add(Kind::mutable_state, 4 * kChunk));
      rig.engine->restore(id, 0, {4 * id, 4 * id + 1, 4 * id + 2});
      rig.engine->mark_used(id);
      rig.engine->evict(id, 1);
      rig.engine->restore(id, 1, {4 * id + 3});
    }
    rig.engine.reset();
    const size_t reports = rig.listener.take().size();
    CHECK(reports >= 9);
    // Nothing is mapped any more: the chunks can be had again.
    rig.bank.reset();
    CHECK(rig.device.memory_info()->free_bytes == 16 * kChunk);
  }
}
