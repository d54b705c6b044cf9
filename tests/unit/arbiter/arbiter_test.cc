#include "csrc/arbiter/arbiter.h"

#include "tests/catch.h"
#include "tests/unit/arbiter/harness.h"

namespace rtswap::arbiter::test {
namespace {

using protocol::OnRefusal;
using protocol::TaskState;
using protocol::Timing;
using rtswap::test::contains;

constexpr Timing kSlow{1000 * kMs, 1000 * kMs, 10 * kMs};

TEST_CASE("a job gets the GPU at once and its memory as grants") {
  Harness h(one_device(8));
  h.open(1, 4, kSlow);
  REQUIRE(h.last<protocol::Verdict>(1)->state == TaskState::admitted);
  h.release(1, 5, h.now_ns + 1000 * kMs);
  REQUIRE(h.last<protocol::Run>(1));
  CHECK(h.last<protocol::Run>(1)->job == 5);
  CHECK(h.free_chunks() == 4);
  h.land(1);
  h.pass(10 * kMs);
  h.from(1, protocol::JobDone{5, 10 * kMs});
  CHECK(h.arbiter.snapshot().tasks[0].met == 1);
}

TEST_CASE("the earliest deadline goes first, and takes just the shortfall from the other") {
  Harness h(one_device(8));
  h.open(1, 6, kSlow);
  h.open(2, 5, kSlow);
  h.land_everything({1, 2});
  REQUIRE(h.free_chunks() == 0);  // 6 + 2, or 5 + 3
  h.effects.clear();
  h.release(1, 1, h.now_ns + 1000 * kMs);
  const bool asked = !h.all<protocol::Revoke>(2).empty();
  if (asked) h.from(2, protocol::Evicted{1, h.last<protocol::Revoke>(2)->keep_chunks, 0});
  h.from(1, protocol::Restored{1, 6});
  h.release(2, 1, h.now_ns + 1000 * kMs);
  CHECK(h.all<protocol::Run>(2).empty());     // one job holds the device
  CHECK(h.all<protocol::Revoke>(1).empty());  // and its memory is not touched
  h.from(1, protocol::JobDone{1, kMs});
  REQUIRE(h.last<protocol::Run>(2));
  REQUIRE(h.last<protocol::Revoke>(1));
  CHECK(h.last<protocol::Revoke>(1)->keep_chunks == 3);
  h.from(1, protocol::Evicted{1, 3, 0});
  CHECK(h.free_chunks() == 0);
}

TEST_CASE("a model larger than the bank is refused with both sizes") {
  Harness h(one_device(2));
  h.open(1, 3, kSlow);
  const auto verdict = *h.last<protocol::Verdict>(1);
  CHECK(verdict.state == TaskState::refused);
  CHECK(verdict.reason.code == ErrorCode::model_too_large);
  CHECK_THAT(verdict.reason.message, contains("96 MiB"));
  CHECK_THAT(verdict.reason.message, contains("64 MiB"));
  h.release(1, 1, h.now_ns + kMs);
  CHECK(h.last<protocol::Dropped>(1)->job == 1);
}

TEST_CASE("warming, then tested; a refused update keeps the old timing") {
  Harness h(one_device(8));
  h.open(1, 2, {100 * kMs, 100 * kMs, 0});
  CHECK(h.last<protocol::Verdict>(1)->state == TaskState::warming);
  h.from(1, protocol::UpdateTask{1, {100 * kMs, 100 * kMs, 20 * kMs}});
  CHECK(h.last<protocol::Verdict>(1)->state == TaskState::admitted);
  h.from(1, protocol::UpdateTask{1, {100 * kMs, 100 * kMs, 120 * kMs}});
  const auto verdict = *h.last<protocol::Verdict>(1);
  CHECK(verdict.request_refused);
  CHECK(verdict.state == TaskState::admitted);
  CHECK(verdict.timing.wcet_ns == 20 * kMs);
}

TEST_CASE("what is refused may run as best effort, after admitted work") {
  Harness h(one_device(8));
  h.open(1, 2, {100 * kMs, 100 * kMs, 20 * kMs});
  h.open(2, 2, {100 * kMs, 100 * kMs, 90 * kMs}, OnRefusal::best_effort);
  CHECK(h.last<protocol::Verdict>(2)->state == TaskState::best_effort);
  h.release(2, 1, protocol::kNoDeadline_ns);
  CHECK(h.all<protocol::Run>(2).empty());  // 90 ms would break the promise of a release right now
  h.release(1, 1, h.now_ns + 100 * kMs);
  h.land_everything({1, 2});
  h.from(1, protocol::JobDone{1, kMs});
  CHECK(h.last<protocol::Run>(2));  // now no release can come for 100 ms
}

TEST_CASE("a job that can no longer end in time is dropped by the timer") {
  Harness h(one_device(8));
  h.open(1, 2, kSlow);
  h.open(2, 2, kSlow);
  h.release(1, 1, h.now_ns + 1000 * kMs);
  h.release(2, 1, h.now_ns + 1000 * kMs);
  h.pass(991 * kMs);
  REQUIRE(h.last<protocol::Dropped>(2));
  CHECK(h.last<protocol::Dropped>(2)->reason.code == ErrorCode::job_dropped);
}

TEST_CASE("an early release counts from the end of the period before it") {
  Harness h(one_device(8));
  h.open(1, 2, {100 * kMs, 100 * kMs, 10 * kMs});
  h.release(1, 1, h.now_ns + 100 * kMs);
  h.land_everything({1});
  h.from(1, protocol::JobDone{1, kMs});
  h.release(1, 2, h.now_ns + 100 * kMs);
  CHECK(h.all<protocol::Run>(1).size() == 1);
  h.pass(100 * kMs);
  CHECK(h.all<protocol::Run>(1).size() == 2);
}

// It is given up with four chunks in flight, of which a block is charged with one.
struct Abandoned : Harness {
  Abandoned() : Harness(one_device(8)) {
    for (const SessionId session : {1, 2}) open(session, 4, kSlow);
    release(1, 1, now_ns + 1000 * kMs);
    REQUIRE(last<protocol::Run>(1));
    from(1, protocol::JobDone{1, 0});
    REQUIRE(all<protocol::Grant>(1).back().first_position +
                all<protocol::Grant>(1).back().chunks.size() ==
            4);
    effects.clear();
  }
};

TEST_CASE("a job that is cancelled keeps the device while its memory comes in") {
  Abandoned h;
  h.release(2, 1, h.now_ns + 1000 * kMs);
  CHECK_FALSE(h.last<protocol::Run>(2));
  h.from(1, protocol::Restored{1, 2});
  CHECK_FALSE(h.last<protocol::Run>(2));
  h.from(1, protocol::Restored{1, 3});
  CHECK(h.last<protocol::Run>(2));
}

TEST_CASE("what waits for an idle instant waits for the memory of a cancelled job") {
  Abandoned h;
  h.from(2, protocol::UpdateTask{1, Timing{500 * kMs, 500 * kMs, kMs}});
  h.from(1, protocol::Restored{1, 2});
  CHECK_FALSE(h.last<protocol::Verdict>(2));
  h.from(1, protocol::Restored{1, 3});
  REQUIRE(h.last<protocol::Verdict>(2));
  CHECK(h.last<protocol::Verdict>(2)->timing.period_ns == 500 * kMs);
}

TEST_CASE("three overruns in a row end the promise, if they also exceed the block") {
  Harness h(one_device(8));
  h.open(1, 2, {100 * kMs, 100 * kMs, 10 * kMs});
  protocol::JobId job = 0;
  const auto overrun = [&](int64_t held_ns) {
    h.release(1, ++job, h.now_ns + 100 * kMs);
    h.land_everything({1});
    h.pass(held_ns);
    h.from(1, protocol::JobDone{job, 10 * kMs + 1});
    h.pass(100 * kMs);
  };
  overrun(0);
  const int64_t block_ns = h.last<protocol::Verdict>(1)->block_ns;
  REQUIRE(block_ns > 10 * kMs);
  for (const int64_t held_ns : {block_ns, block_ns, block_ns + 1, block_ns + 1, block_ns}) {
    overrun(held_ns);
    CHECK(h.last<protocol::Verdict>(1)->state == TaskState::admitted);
  }
  for (int i = 0; i < 3; ++i) overrun(block_ns + 1);
  CHECK(h.last<protocol::Verdict>(1)->state == TaskState::best_effort);
  CHECK(h.arbiter.snapshot().tasks[0].overruns == 9);
}

TEST_CASE("a lie costs the liar its session and nobody else anything") {
  Harness h(one_device(8));
  h.open(1, 4, kSlow);
  h.open(2, 4, kSlow);
  h.land_everything({1, 2});
  h.from(1, protocol::Restored{1, 99});
  CHECK(h.last<protocol::Fault>(1)->error.code == ErrorCode::protocol_violation);
  CHECK(h.closed(1));
  CHECK_FALSE(h.closed(2));
  CHECK(h.free_chunks() == 0);  // the process may still use its memory
  h.step(SessionDied{1});
  CHECK(h.free_chunks() == 4);
}

TEST_CASE("another protocol version is refused, and the message says whom to update") {
  Harness h(one_device(8));
  h.step(SessionOpened{1, 100, "user"});
  protocol::Hello hello;
  hello.protocol_version = protocol::kVersion + 1;
  h.from(1, hello);
  CHECK(h.last<protocol::Fault>(1)->error.code == ErrorCode::protocol_mismatch);
  CHECK_THAT(h.last<protocol::Fault>(1)->error.message, contains("update the arbiter"));
}

TEST_CASE("memory beside the bank is summed against its limit") {
  Harness h(one_device(8));
  h.open(1, 1, kSlow);
  h.open(2, 1, kSlow);
  h.from(1, protocol::DeviceReport{0, 700ull << 20, 0, 0});
  h.from(2, protocol::DeviceReport{0, 600ull << 20, 0, 0});
  CHECK(h.last<protocol::Fault>(2)->error.code == ErrorCode::static_memory);
  CHECK_THAT(h.last<protocol::Fault>(2)->error.message, contains("600 MiB"));
  CHECK_THAT(h.last<protocol::Fault>(2)->error.message, contains("324 MiB"));
  // No sum of lies comes out small.
  h.open(3, 1, kSlow);
  h.from(3, protocol::DeviceReport{0, UINT64_MAX - (500ull << 20), 0, 0});
  CHECK(h.last<protocol::Fault>(3)->error.code == ErrorCode::static_memory);
  h.open(4, 1, kSlow);
  h.from(4, protocol::DeviceReport{0, 324ull << 20, 0, 0});
  CHECK_FALSE(h.last<protocol::Fault>(4));
}

TEST_CASE("instants before the clock began end the session") {
  for (const auto& [release_ns, deadline_ns] :
       {std::pair{INT64_MIN, INT64_MAX}, std::pair{int64_t{1}, INT64_MIN}}) {
    Harness h(one_device(8));
    h.open(1, 1, kSlow);
    h.from(1, protocol::Release{1, 1, release_ns, deadline_ns});
    CHECK(h.last<protocol::Fault>(1)->error.code == ErrorCode::protocol_violation);
  }
}

TEST_CASE("death frees everything; a lost link frees nothing until the client is back") {
  Harness h(one_device(8));
  h.open(1, 4, kSlow);
  h.land_everything({1});
  const auto grant = h.all<protocol::Grant>(1);
  std::vector<protocol::ChunkId> held;
  for (const auto& part : grant) held.insert(held.end(), part.chunks.begin(), part.chunks.end());
  h.step(SessionDisconnected{1});
  CHECK(h.free_chunks() == 4);

  SECTION("death") {
    h.step(SessionDied{1});
    CHECK(h.free_chunks() == 8);
  }
  SECTION("back with less: the rest is free") {
    h.step(SessionOpened{9, 101, "user"});
    protocol::Hello hello;
    hello.resumed_session = 1;
    hello.held.push_back({1, 0, "SIM-0", 4, {held[0], held[1]}});
    h.from(9, hello);
    CHECK(h.last<protocol::Welcome>(9));
    CHECK(h.free_chunks() == 6);
  }
  SECTION("back with an arena named twice: a lie") {
    h.step(SessionOpened{9, 101, "user"});
    protocol::Hello hello;
    hello.resumed_session = 1;
    hello.held.assign(2, {1, 0, "SIM-0", 4, held});
    h.from(9, hello);
    CHECK(h.last<protocol::Fault>(9)->error.code == ErrorCode::protocol_violation);
    CHECK(h.free_chunks() == 4);
  }
  SECTION("back with an arena that grew meanwhile, and one that the arbiter never heard of") {
    h.step(SessionOpened{9, 101, "user"});
    protocol::Hello hello;
    hello.resumed_session = 1;
    hello.held.push_back({1, 0, "SIM-0", 4, held});
    hello.held.push_back({2, 0, "SIM-0", 1, {}});
    h.from(9, hello);
    h.from(9, protocol::OpenArena{1, 0, 6, 0});
    h.from(9, protocol::OpenArena{2, 0, 1, 0});
    h.from(9, protocol::OpenTask{1, 1, "task", kSlow, false, {}, {}});
    h.release(9, 1, h.now_ns + 1000 * kMs);
    CHECK_FALSE(h.closed(9));
    REQUIRE(h.last<protocol::Grant>(9));
    CHECK(h.last<protocol::Grant>(9)->first_position == 5);  // the sixth and last
  }
  SECTION("another process cannot take it") {
    h.step(SessionOpened{9, 555, "user"});
    protocol::Hello hello;
    hello.resumed_session = 1;
    h.from(9, hello);
    CHECK(h.last<protocol::Fault>(9));
    CHECK(h.free_chunks() == 4);
  }
}

TEST_CASE("after a restart nothing is granted until all are back") {
  Config config = one_device(8);
  config.sessions_to_recover = 2;
  Harness h(config);
  h.open(1, 4, kSlow);
  h.release(1, 1, h.now_ns + 1000 * kMs);
  CHECK(h.all<protocol::Grant>(1).empty());
  h.step(SessionOpened{2, 102, "user"});
  protocol::Hello hello;
  hello.resumed_session = 77;
  hello.held.push_back({1, 0, "SIM-0", 4, {2, 3}});
  h.from(2, hello);
  CHECK(h.all<protocol::Grant>(1).empty());

  SECTION("the last one is dead") { h.step(RecoveryPeerDied{}); }
  SECTION("the last one has memory of a device that was taken away") {
    h.step(SessionOpened{3, 103, "user"});
    hello.resumed_session = 78;
    hello.held = {{1, 1, "SIM-1", 4, {2, 3}}};
    h.from(3, hello);
    CHECK_FALSE(h.last<protocol::Fault>(3));
  }
  SECTION("the last one claims what another holds") {
    h.step(SessionOpened{3, 103, "user"});
    hello.resumed_session = 78;
    h.from(3, hello);
    CHECK(h.last<protocol::Fault>(3));
  }
  if (const auto grant = h.last<protocol::Grant>(1)) {
    for (const auto chunk : grant->chunks) CHECK((chunk != 2 && chunk != 3));
  }
  CHECK_FALSE(h.arbiter.snapshot().recovering);
}

TEST_CASE("a hung job loses the device, not its memory; its late answer is accepted") {
  Config config = one_device(8);
  config.hang_timeout_ns = 200 * kMs;
  Harness h(config);
  h.open(1, 4, kSlow);
  h.open(2, 4, kSlow);
  h.land_everything({1, 2});
  h.release(1, 1, h.now_ns + 1000 * kMs);
  h.release(2, 1, h.now_ns + 1000 * kMs);
  CHECK(h.all<protocol::Run>(2).empty());
  h.pass(200 * kMs);
  CHECK(h.last<protocol::Run>(2));
  h.from(1, protocol::JobDone{1, 500 * kMs});
  CHECK_FALSE(h.closed(1));
}

TEST_CASE("memory goes to its next owner in pieces, while the rest is on its way out") {
  Harness h(one_device(40));
  for (const SessionId session : {1, 2}) h.open(session, 40, Timing{0, 0, 10 * kMs});
  h.land_everything({1});
  REQUIRE(h.free_chunks() == 0);
  h.effects.clear();
  h.release(2, 1, protocol::kNoDeadline_ns);
  const auto revokes = h.all<protocol::Revoke>(1);
  std::vector<uint32_t> keeps;
  for (const protocol::Revoke& revoke : revokes) keeps.push_back(revoke.keep_chunks);
  CHECK(keeps == std::vector<uint32_t>{39, 37, 33, 25, 9, 0});
  h.effects.clear();
  h.from(1, protocol::Evicted{1, 39, 0});
  REQUIRE(h.all<protocol::Grant>(2).size() == 1);
  CHECK(h.all<protocol::Grant>(2).front().chunks.size() == 1);
  // A client that goes on answering is not overdue, however much it was asked for at once.
  for (const uint32_t keep : {37U, 33U, 25U, 9U}) {
    h.land(2);
    h.pass(Config{}.hang_timeout_ns * 2 / 3);
    h.from(1, protocol::Evicted{1, keep, 0});
  }
  CHECK(h.all<protocol::Grant>(2).size() == 5);
  for (const Effect& effect : h.effects) {
    const auto* trace = std::get_if<Trace>(&effect);
    if (trace != nullptr) CHECK(trace->detail.find("has not answered") == std::string::npos);
  }
}

TEST_CASE("the baseline moves one model out before the next comes in") {
  Config config = one_device(40);
  config.discipline = Discipline::request_order;
  Harness h(config);
  for (const SessionId session : {1, 2}) h.open(session, 40, Timing{0, 0, 10 * kMs});
  h.release(1, 1, protocol::kNoDeadline_ns);  // nothing is restored ahead
  h.land_everything({1});
  h.from(1, protocol::JobDone{1, kMs});
  REQUIRE(h.free_chunks() == 0);
  h.release(2, 1, protocol::kNoDeadline_ns);
  REQUIRE(h.all<protocol::Revoke>(1).size() == 1);
  CHECK(h.all<protocol::Revoke>(1).front().keep_chunks == 0);
}

TEST_CASE("an unanswered revoke is taken elsewhere") {
  Config config = one_device(9);
  config.hang_timeout_ns = 100 * kMs;
  Harness h(config);
  // Best effort: no prefix is kept, so each alone has enough to give.
  for (const SessionId session : {1, 2, 3}) h.open(session, 4, Timing{0, 0, 10 * kMs});
  h.land_everything({1, 2, 3});
  REQUIRE(h.free_chunks() == 0);
  h.effects.clear();
  h.release(3, 1, protocol::kNoDeadline_ns);
  const SessionId first = h.all<protocol::Revoke>(1).empty() ? 2 : 1;
  REQUIRE(h.last<protocol::Revoke>(first));
  h.pass(100 * kMs);
  CHECK(h.last<protocol::Revoke>(3 - first));
}

TEST_CASE("memory asked back twice while it comes in, and then a restore that fails") {
  Config config = one_device(8);
  config.devices[0].description.chunk_bytes = 4 << 20;  // eight chunks are restored at once
  Harness h(config);
  h.open(1, 8, Timing{0, 0, 10 * kMs});
  REQUIRE(h.free_chunks() == 0);  // all on their way
  h.open(2, 3, Timing{0, 0, 10 * kMs});
  h.open(3, 6, Timing{0, 0, 10 * kMs});
  h.release(2, 1, protocol::kNoDeadline_ns);
  REQUIRE(h.last<protocol::Revoke>(1)->keep_chunks == 5);
  h.from(1, protocol::Evicted{1, 5, 0});
  h.land(2);
  h.from(2, protocol::CloseTask{1});
  h.release(3, 1, protocol::kNoDeadline_ns);
  while (h.free_chunks() > 0) h.land(3);
  const uint32_t keep = h.last<protocol::Revoke>(1)->keep_chunks;
  REQUIRE(keep < 5);
  h.from(1, protocol::Evicted{1, keep, 0});
  h.from(1, protocol::RestoreFailed{1, 0, Error{ErrorCode::driver_failure, "broken"}});
  CHECK_FALSE(h.closed(1));
}

TEST_CASE("a failed restore is tried again; three in a row give the job up") {
  Harness h(one_device(8));
  h.open(1, 4, kSlow);
  h.release(1, 1, h.now_ns + 1000 * kMs);
  h.land_everything({});
  for (int attempt = 0; attempt < 12 && !h.last<protocol::Dropped>(1); ++attempt) {
    h.from(1, protocol::RestoreFailed{1, 0, Error{ErrorCode::driver_failure, "broken"}});
  }
  REQUIRE(h.last<protocol::Dropped>(1));
  CHECK(h.last<protocol::Dropped>(1)->reason.code == ErrorCode::driver_failure);
  CHECK_FALSE(h.closed(1));
}

TEST_CASE("clocks begin together once the tasks awaited are there") {
  Config config = one_device(8);
  config.wait_for_tasks = 2;
  Harness h(config);
  h.open(1, 1, kSlow);
  CHECK_FALSE(h.last<protocol::Begin>(1));
  h.open(2, 1, kSlow);
  REQUIRE(h.last<protocol::Begin>(1));
  CHECK(h.last<protocol::Begin>(1)->start_ns == h.now_ns + 100 * kMs);
  h.step(SessionOpened{3, 103, "user"});
  h.from(3, protocol::Hello{});
  CHECK(h.last<protocol::Begin>(3)->start_ns == h.last<protocol::Begin>(1)->start_ns);
}

TEST_CASE("a task file of the daemon wins over the client") {
  Config config = one_device(8);
  config.overrides["task1"] = TaskOverride{{50 * kMs, 0, 0}, true, protocol::LatePolicy::run};
  Harness h(config);
  h.open(1, 1, {100 * kMs, 100 * kMs, 5 * kMs});
  const auto verdict = *h.last<protocol::Verdict>(1);
  CHECK(verdict.timing.period_ns == 50 * kMs);
  CHECK(verdict.timing.deadline_ns == 50 * kMs);
  CHECK(verdict.resident);
  CHECK(verdict.late == protocol::LatePolicy::run);
  CHECK(verdict.reason.message.empty());
}

TEST_CASE("a task file of the daemon wins over a client that wants more") {
  Config config = one_device(8);
  config.overrides["task1"] = TaskOverride{{}, false, protocol::LatePolicy::drop};
  Harness h(config);
  h.step(SessionOpened{1, 101, "user"});
  h.from(1, protocol::Hello{});
  h.from(1, protocol::OpenArena{1, 0, 2, 0});
  h.from(1, protocol::OpenTask{1, 1, "task1", kSlow, true, protocol::LatePolicy::run, {}});
  CHECK_FALSE(h.last<protocol::Verdict>(1)->resident);
  CHECK(h.last<protocol::Verdict>(1)->late == protocol::LatePolicy::drop);
}

TEST_CASE("a refused request to go on leaves no reason behind") {
  Harness h(one_device(8));
  h.open(1, 2, kSlow);
  h.from(1, protocol::PauseTask{1});
  h.from(1, protocol::UpdateTask{1, {2 * kMs, 2 * kMs, 10 * kMs}});
  h.from(1, protocol::ResumeTask{1});
  REQUIRE(h.last<protocol::Verdict>(1)->request_refused);
  CHECK_FALSE(h.last<protocol::Verdict>(1)->reason.message.empty());
  h.from(1, protocol::UpdateTask{1, kSlow});
  CHECK(h.last<protocol::Verdict>(1)->state == TaskState::paused);
  CHECK(h.last<protocol::Verdict>(1)->reason.message.empty());
}

TEST_CASE("a job that costs more than its deadline allows is told so") {
  Harness h(one_device(8));
  h.open(1, 2, {100 * kMs, 100 * kMs, 150 * kMs}, OnRefusal::best_effort);
  h.release(1, 1, h.now_ns + 100 * kMs);
  REQUIRE(h.last<protocol::Dropped>(1));
  CHECK_THAT(h.last<protocol::Dropped>(1)->reason.message,
             contains("that is 100.0 ms, and the declared cost 150.0 ms"));
}

TEST_CASE("a refusal says whose numbers it is about") {
  Config config = one_device(8);
  config.overrides["task1"] = TaskOverride{{50 * kMs, 20 * kMs, 30 * kMs}, {}, {}};
  config.overrides["task2"].importance = 5;  // no number of its timing
  Harness h(config);
  h.open(1, 1, {500 * kMs, 500 * kMs, 5 * kMs});
  CHECK_THAT(h.last<protocol::Verdict>(1)->reason.message,
             contains("what the arbiter's task file says of \"task1\" counts"));
  h.open(2, 1, {50 * kMs, 20 * kMs, 30 * kMs});
  CHECK_THAT(h.last<protocol::Verdict>(2)->reason.message, !contains("task file"));
}

}  // namespace
}  // namespace rtswap::arbiter::test
