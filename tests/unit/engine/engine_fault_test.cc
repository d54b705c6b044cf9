// Each driver call of a whole life fails in its turn. Whatever it was, the engine says so, what it
// calls resident is there and exact, the next attempt succeeds, and in the end nothing is left.
#include "tests/catch.h"
#include "tests/unit/engine/rig.h"

using namespace rtswap;
using namespace rtswap::literals;
using namespace rtswap::engine;
using namespace rtswap::engine::test;
using driver::Operation;
using rtswap::test::contains;

namespace {

constexpr int kAttempts = 3;

// Repeats until it works: one call has failed, so the second attempt must do.
template <class Attempt>
bool eventually(Attempt attempt) {
  for (int i = 0; i < kAttempts; ++i) {
    if (attempt()) return true;
  }
  return false;
}

// A life in which everything happens; true when nothing was ever wrong.
bool live_through(Rig& rig) {
  Program program(rig, 1, 7);
  bool good = true;
  const auto step = [&](bool done) { good = good && done && program.exact(); };
  step(eventually([&] { return program.add(Kind::read_only, 2 * kChunk + 9).has_value(); }));
  step(eventually([&] { return program.add(Kind::mutable_state, 2 * kChunk).has_value(); }));
  step(eventually([&] { return program.add(Kind::scratch, kChunk).has_value(); }));
  step(eventually([&] { return program.restore(6, 3); }));
  program.use();
  step(eventually([&] { return program.evict(3); }));
  step(eventually([&] { return program.restore(6, 1); }));
  program.use();
  step(eventually([&] { return program.evict(0); }));
  step(eventually([&] { return program.restore(5, 5); }));
  step(eventually([&] { return program.restore(6, 1); }));
  step(eventually([&] { return program.keep(2, true).has_value(); }));
  step(eventually([&] { return program.evict(2); }));
  step(eventually([&] { return program.restore(6, 1); }));
  good = good && program.stats().repaired_bytes == 0;
  // Where the guard could not be put, it is at a later eviction.
  good = good && program.stats().guard_failures <= rig.device.injected();
  const uint32_t guarded = rig.guard == nullptr ? 0 : 6;
  step(eventually([&] {
    return program.restore(6) && program.evict(0) && program.stats().guarded_chunks == guarded;
  }));
  step(guarded == 0 || program.guarded());
  step(eventually([&] { return program.restore(3); }));
  good = good && eventually([&] { return program.close().has_value(); });
  return good && rig.free_chunks.size() == 16;
}

}  // namespace

TEST_CASE("any driver call may fail once") {
  const Operation operation =
      GENERATE(Operation::map, Operation::unmap, Operation::copy_to_device, Operation::copy_to_host,
               Operation::record_event, Operation::query_event, Operation::synchronize_event,
               Operation::create_event, Operation::create_stream, Operation::reserve,
               Operation::register_host, Operation::unregister_host, Operation::attach_thread);
  const bool guard = GENERATE(false, true);
  CAPTURE(static_cast<int>(operation), guard);
  // Events are looked at again and again while somebody waits: thousands of calls of one kind.
  const bool repeated = operation == Operation::query_event;
  uint64_t nth = 1;
  for (bool reached = true; reached; nth += repeated ? 1 + nth / 4 : 1) {
    CAPTURE(nth);
    Rig rig({.guard = guard});
    rig.device.fail_call(operation, nth, {ErrorCode::driver_failure, "injected"});
    CHECK(live_through(rig));
    reached = rig.device.injected() > 0;
    CHECK(rig.nothing_left());
  }
  CHECK(nth > 2);
}

TEST_CASE("an address range that is not taken back is taken back at the next attempt") {
  Rig rig;
  Program program(rig, 1, 8);
  REQUIRE(program.add(Kind::read_only, kChunk));
  REQUIRE(program.add(Kind::scratch, kChunk));
  rig.device.fail_call(Operation::unreserve, 2, {ErrorCode::driver_failure, "injected"});
  CHECK_THAT(program.close().error().message, contains("injected"));
  // It takes no more commands.
  rig.engine->restore(1, 0, {0});
  CHECK(rig.engine->resident_chunks(1).error().code == ErrorCode::closed);
  CHECK(rig.engine->add_segment(1, Kind::scratch, 1).error().code == ErrorCode::closed);
  CHECK(rig.engine->close_arena(1));
  CHECK(rig.engine->open_arena(1, "again"));
}

TEST_CASE("a failed restore keeps what had landed and is reported once") {
  Rig rig;
  Program program(rig, 1, 9);
  REQUIRE(program.add(Kind::read_only, 3 * kChunk));
  REQUIRE(program.add(Kind::mutable_state, 3 * kChunk));
  REQUIRE(program.restore(1));
  rig.listener.take();
  rig.device.fail_call(Operation::map, 3, {ErrorCode::driver_failure, "injected"});
  rig.engine->restore(1, 1, {1, 2, 3, 4});  // positions 1, 2 of one segment, then 3, 4 of the next
  rig.engine->restore(1, 5, {5});
  CHECK(program.resident() == std::vector<uint32_t>{0, 1, 2});
  CHECK(program.exact());
  const auto reports = rig.listener.take();
  REQUIRE_FALSE(reports.empty());
  CHECK(reports.back().what == What::restore_failed);
  CHECK(reports.back().chunks == 3);
  CHECK_THAT(reports.back().message, contains("injected"));
  CHECK(std::count_if(reports.begin(), reports.end(), [](const Recorder::Report& report) {
          return report.what == What::restore_failed;
        }) == 1);
  // The chunks of the failed part are free for others.
  rig.engine->restore(1, 3, {5, 4, 3});
  CHECK(program.resident() == std::vector<uint32_t>{0, 1, 2, 5, 4, 3});
  CHECK(program.exact());
}

TEST_CASE("behind a copy that failed nothing of the arena lands") {
  Rig rig;
  Program program(rig, 1, 15);
  REQUIRE(program.add(Kind::read_only, 5 * kChunk));
  REQUIRE(program.restore(1));
  rig.listener.take();
  rig.device.fail_call(Operation::synchronize_event, 1, {ErrorCode::driver_failure, "injected"});
  for (uint32_t i = 1; i < 5; ++i) rig.engine->restore(1, i, {i});
  CHECK(program.resident() == std::vector<uint32_t>{0});
  const auto reports = rig.listener.take();
  REQUIRE(reports.size() == 1);
  CHECK(reports[0].what == What::restore_failed);
  CHECK(reports[0].chunks == 1);
  REQUIRE(program.restore(5, 2));
  CHECK(program.exact());
}

TEST_CASE("a failed restore of one arena leaves the restores of others alone") {
  Rig rig;
  Program failing(rig, 1, 10);
  Program healthy(rig, 2, 11);
  for (Program* program : {&failing, &healthy}) {
    REQUIRE(program->add(Kind::read_only, 4 * kChunk));
  }
  // Copies alternate between the arenas, whose first one is the healthy one's.
  rig.device.fail_call(Operation::copy_to_device, 4, {ErrorCode::driver_failure, "injected"});
  for (uint32_t i = 0; i < 4; ++i) {
    rig.engine->restore(2, i, {8 + i});
    rig.engine->restore(1, i, {i});
  }
  CHECK(failing.resident() == std::vector<uint32_t>{0});
  CHECK(healthy.resident() == std::vector<uint32_t>{8, 9, 10, 11});
  CHECK(failing.exact());
  CHECK(healthy.exact());
  size_t failures = 0;
  for (const auto& report : rig.listener.take()) {
    if (report.what != What::restore_failed) continue;
    ++failures;
    CHECK(report.arena == 1);
    CHECK(report.chunks == 1);
  }
  CHECK(failures == 1);
}

TEST_CASE("a failed write-back keeps everything mapped and loses nothing") {
  const Operation operation =
      GENERATE(Operation::copy_to_host, Operation::synchronize_event, Operation::unmap);
  Rig rig({.verify = false});
  Program program(rig, 1, 12);
  REQUIRE(program.add(Kind::mutable_state, 4 * kChunk));
  REQUIRE(program.restore(4));
  program.use();
  rig.listener.take();
  rig.device.fail_call(operation, 1, {ErrorCode::driver_failure, "injected"});
  CHECK_FALSE(program.evict(0));
  CHECK(program.resident().size() == 4);
  CHECK(program.exact());
  const auto reports = rig.listener.take();
  REQUIRE(reports.size() == 1);
  CHECK(reports[0].what == What::evict_failed);
  CHECK(reports[0].chunks == 4);
  // Used once more before the next attempt: the later bytes count.
  program.use();
  CHECK(program.evict(0));
  CHECK(program.restore(4));
  CHECK(program.exact());
}

TEST_CASE("an eviction that fails half way says what is still there") {
  Rig rig;
  Program program(rig, 1, 13);
  REQUIRE(program.add(Kind::mutable_state, 2 * kChunk));
  REQUIRE(program.add(Kind::mutable_state, 3 * kChunk));
  REQUIRE(program.restore(5));
  program.use();
  rig.listener.take();
  rig.device.fail_call(Operation::unmap, 2, {ErrorCode::driver_failure, "injected"});
  CHECK_FALSE(program.evict(0));
  const auto reports = rig.listener.take();
  REQUIRE(reports.size() == 1);
  CHECK(reports[0].what == What::evict_failed);
  CHECK(reports[0].chunks == 2);
  CHECK(program.resident().size() == 2);
  CHECK(program.restore(5));
  CHECK(program.exact());
}

TEST_CASE("an eviction whose copy fails has saved and unmapped what lies behind it") {
  Rig rig;
  Program program(rig, 1, 15);
  REQUIRE(program.add(Kind::mutable_state, 2 * kChunk));
  REQUIRE(program.add(Kind::read_only, kChunk));
  REQUIRE(program.add(Kind::mutable_state, 3 * kChunk));
  REQUIRE(program.restore(6));
  program.use();
  rig.listener.take();
  // The tail goes first; the wait for the last copy begins with a look.
  rig.device.fail_call(Operation::query_event, 1, {ErrorCode::driver_failure, "injected"});
  CHECK_FALSE(program.evict(0));
  const auto reports = rig.listener.take();
  REQUIRE(reports.size() == 1);
  CHECK(reports[0].what == What::evict_failed);
  CHECK(reports[0].chunks == 3);
  CHECK(program.stats().written_back_bytes == 3 * kChunk);
  CHECK(program.restore(6));
  CHECK(program.exact());
  program.use();
  CHECK(program.evict(0));
  CHECK(program.restore(6));
  CHECK(program.exact());
}

TEST_CASE("a lost device fails every command and hangs nothing") {
  Rig rig;
  Program program(rig, 1, 14);
  REQUIRE(program.add(Kind::mutable_state, 4 * kChunk));
  REQUIRE(program.restore(2));
  rig.engine->mark_used(1);
  rig.listener.take();
  rig.device.fail_call(Operation::copy_to_device, 1,
                       {ErrorCode::device_lost, "the context is gone"});
  rig.engine->restore(1, 2, {2, 3});
  rig.engine->evict(1, 0);
  rig.engine->restore(1, 2, {2});
  CHECK(program.resident().size() == 2);
  const auto reports = rig.listener.take();
  REQUIRE(reports.size() == 3);
  CHECK(reports[0].what == What::restore_failed);
  CHECK(reports[1].what == What::evict_failed);
  CHECK(reports[2].what == What::restore_failed);
  for (const auto& report : reports) CHECK_THAT(report.message, contains("the context is gone"));
  CHECK(program.close().error().code == ErrorCode::device_lost);
}
