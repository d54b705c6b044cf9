// Arenas that grow and are shared, tasks that pause and close, jobs that are cancelled, devices
// side by side.
#include "tests/catch.h"
#include "tests/unit/arbiter/harness.h"

namespace rtswap::arbiter::test {
namespace {

using protocol::OnRefusal;
using protocol::TaskState;
using protocol::Timing;
using rtswap::test::contains;

constexpr Timing kSlow{1000 * kMs, 1000 * kMs, 10 * kMs};

TEST_CASE("an arena grows outside its jobs, and its tasks are tested again") {
  Harness h(one_device(8));
  h.open(1, 2, kSlow);
  h.land_everything({1});

  SECTION("what fits") {
    h.from(1, protocol::ResizeArena{1, 6, 0});
    CHECK_FALSE(h.last<protocol::Verdict>(1)->request_refused);
    h.land_everything({1});
    CHECK(h.free_chunks() == 2);
  }
  SECTION("what does not fit leaves it as it was") {
    h.from(1, protocol::ResizeArena{1, 9, 0});
    CHECK(h.last<protocol::Verdict>(1)->request_refused);
    CHECK(h.last<protocol::Verdict>(1)->state == TaskState::admitted);
    CHECK(h.last<protocol::Verdict>(1)->reason.code == ErrorCode::model_too_large);
    h.release(1, 1, h.now_ns + 1000 * kMs);
    h.from(1, protocol::JobDone{1, kMs});  // two chunks are enough to run
    CHECK(h.arbiter.snapshot().tasks[0].met == 1);
  }
  SECTION("it never shrinks") {
    h.from(1, protocol::ResizeArena{1, 1, 0});
    CHECK(h.last<protocol::Fault>(1)->error.code == ErrorCode::protocol_violation);
  }
  SECTION("nor changes under a job") {
    h.release(1, 1, h.now_ns + 1000 * kMs);
    h.from(1, protocol::ResizeArena{1, 6, 0});
    CHECK(h.last<protocol::Fault>(1)->error.code == ErrorCode::protocol_violation);
  }
}

TEST_CASE("two tasks of one arena share its memory, and it is closed after both") {
  Harness h(one_device(4));
  h.open(1, 4, kSlow);
  h.from(1, protocol::OpenTask{2, 1, "second", kSlow, false, {}, {}});
  CHECK(h.last<protocol::Verdict>(1)->state == TaskState::admitted);
  h.land_everything({1});
  CHECK(h.free_chunks() == 0);
  h.effects.clear();
  h.from(1, protocol::Release{1, 1, h.now_ns, h.now_ns + 1000 * kMs});
  h.from(1, protocol::Release{2, 2, h.now_ns, h.now_ns + 1000 * kMs});
  CHECK(h.all<protocol::Run>(1).size() == 1);
  h.from(1, protocol::JobDone{1, kMs});
  REQUIRE(h.all<protocol::Run>(1).size() == 2);
  CHECK(h.last<protocol::Run>(1)->job == 2);
  h.from(1, protocol::JobDone{2, kMs});
  CHECK(h.all<protocol::Grant>(1).empty());
  CHECK(h.all<protocol::Revoke>(1).empty());

  h.from(1, protocol::CloseTask{1});
  SECTION("in order") {
    h.from(1, protocol::CloseTask{2});
    h.from(1, protocol::CloseArena{1});
    CHECK(h.free_chunks() == 4);
    CHECK_FALSE(h.closed(1));
  }
  SECTION("too early") {
    h.from(1, protocol::CloseArena{1});
    CHECK(h.last<protocol::Fault>(1)->error.code == ErrorCode::protocol_violation);
    CHECK(h.free_chunks() == 0);
  }
}

TEST_CASE("a paused task gives its share of the test to others and no job is run for it") {
  Harness h(one_device(8));
  h.open(1, 2, Timing{100 * kMs, 100 * kMs, 60 * kMs});
  h.land_everything({1});
  h.open(2, 2, Timing{100 * kMs, 100 * kMs, 60 * kMs});
  REQUIRE(h.last<protocol::Verdict>(2)->state == TaskState::refused);

  h.from(1, protocol::PauseTask{1});
  CHECK(h.last<protocol::Verdict>(1)->state == TaskState::paused);
  CHECK(h.last<protocol::Verdict>(1)->response_bound_ns == 0);
  h.release(1, 1, h.now_ns + 100 * kMs);
  REQUIRE(h.last<protocol::Dropped>(1));
  CHECK_THAT(h.last<protocol::Dropped>(1)->reason.message, contains("call its resume()"));

  SECTION("back, as it was") {
    h.from(1, protocol::ResumeTask{1});
    CHECK(h.last<protocol::Verdict>(1)->state == TaskState::admitted);
    CHECK_FALSE(h.last<protocol::Verdict>(1)->request_refused);
    h.pass(100 * kMs);
    h.release(1, 2, h.now_ns + 100 * kMs);
    REQUIRE(h.last<protocol::Run>(1));
    CHECK(h.last<protocol::Run>(1)->job == 2);
  }
  SECTION("the place is taken: it stays paused") {
    h.from(2, protocol::ResumeTask{1});
    h.land_everything({2});
    REQUIRE(h.last<protocol::Verdict>(2)->state == TaskState::admitted);
    h.from(1, protocol::ResumeTask{1});
    CHECK(h.last<protocol::Verdict>(1)->request_refused);
    CHECK(h.last<protocol::Verdict>(1)->state == TaskState::paused);
  }
}

TEST_CASE("pausing drops the jobs that wait, not the one that runs") {
  Harness h(one_device(8));
  h.open(1, 2, Timing{0, 0, 10 * kMs});
  h.land_everything({1});
  h.release(1, 1, protocol::kNoDeadline_ns);
  h.release(1, 2, protocol::kNoDeadline_ns);
  h.from(1, protocol::PauseTask{1});
  REQUIRE(h.all<protocol::Dropped>(1).size() == 1);
  CHECK(h.last<protocol::Dropped>(1)->job == 2);
  h.from(1, protocol::JobDone{1, kMs});
  CHECK(h.arbiter.snapshot().tasks[0].met == 1);
}

TEST_CASE("a job is cancelled while it waits; later its end is the client's to report") {
  Config config = one_device(8);
  config.hang_timeout_ns = 200 * kMs;
  Harness h(config);
  h.open(1, 4, kSlow);
  h.open(2, 4, kSlow);

  SECTION("waiting") {
    h.release(1, 1, h.now_ns + 1000 * kMs);
    h.release(2, 1, h.now_ns + 1000 * kMs);
    h.from(2, protocol::CancelJob{1});
    CHECK(h.last<protocol::Dropped>(2)->reason.code == ErrorCode::interrupted);
    h.from(1, protocol::JobDone{1, kMs});
    CHECK(h.all<protocol::Run>(2).empty());
  }
  SECTION("holding the device while its memory comes in") {
    h.release(1, 1, h.now_ns + 1000 * kMs);
    h.from(1, protocol::CancelJob{1});
    CHECK(h.all<protocol::Dropped>(1).empty());
    h.from(1, protocol::JobDone{1, 0});
    CHECK(h.arbiter.snapshot().tasks[0].dropped == 1);
  }
  SECTION("running") {
    h.land_everything({1, 2});
    h.release(1, 1, h.now_ns + 1000 * kMs);
    h.from(1, protocol::CancelJob{1});
    CHECK(h.all<protocol::Dropped>(1).empty());
    h.release(2, 1, h.now_ns + 1000 * kMs);
    CHECK(h.all<protocol::Run>(2).empty());
    h.from(1, protocol::JobDone{1, kMs});
    CHECK(h.last<protocol::Run>(2));
  }
  SECTION("given up as hung") {
    h.land_everything({1, 2});
    h.release(1, 1, h.now_ns + 1000 * kMs);
    h.pass(200 * kMs);
    h.from(1, protocol::CancelJob{1});
    CHECK(h.all<protocol::Dropped>(1).empty());
    h.from(1, protocol::JobDone{1, kMs});
  }
  SECTION("done already, or never heard of") { h.from(1, protocol::CancelJob{7}); }
  CHECK_FALSE(h.closed(1));
  CHECK_FALSE(h.closed(2));
}

TEST_CASE("closing a task frees the device, and the answer of a job that crossed is accepted") {
  Harness h(one_device(8));
  h.open(1, 4, kSlow);
  h.open(2, 4, kSlow);
  h.land_everything({1, 2});
  h.release(1, 1, h.now_ns + 1000 * kMs);
  h.release(2, 1, h.now_ns + 1000 * kMs);
  h.from(1, protocol::CloseTask{1});
  CHECK(h.last<protocol::Run>(2));
  h.from(1, protocol::JobDone{1, 0});
  CHECK_FALSE(h.closed(1));
  h.from(1, protocol::JobDone{1, 0});  // once
  CHECK(h.last<protocol::Fault>(1)->error.code == ErrorCode::protocol_violation);
}

TEST_CASE("goodbye ends the work at once; the memory follows when the stream has ended") {
  Harness h(one_device(8));
  h.open(1, 4, kSlow);
  h.land_everything({1});
  h.from(1, protocol::Goodbye{});
  CHECK(h.closed(1));
  CHECK(h.arbiter.snapshot().tasks.empty());
  CHECK(h.free_chunks() == 4);
  h.release(1, 1, h.now_ns + 1000 * kMs);  // nobody's
  CHECK(h.all<protocol::Dropped>(1).empty());
  h.step(SessionDied{1});
  CHECK(h.free_chunks() == 8);
}

TEST_CASE("two devices have their own memory and run their own jobs") {
  Config config = one_device(4);
  config.devices.push_back(config.devices[0]);
  config.devices[1].description.uuid = "SIM-1";
  Harness h(config);
  h.open(1, 4, kSlow);
  h.step(SessionOpened{2, 102, "user"});
  h.from(2, protocol::Hello{});
  h.from(2, protocol::OpenArena{1, 1, 4, 0});
  h.from(2, protocol::OpenTask{1, 1, "other", kSlow, false, {}, {}});
  h.land_everything({1, 2});
  CHECK(h.arbiter.snapshot().devices[0].free_chunks == 0);
  CHECK(h.arbiter.snapshot().devices[1].free_chunks == 0);
  h.release(1, 1, h.now_ns + 1000 * kMs);
  h.release(2, 1, h.now_ns + 1000 * kMs);
  CHECK(h.last<protocol::Run>(1));
  CHECK(h.last<protocol::Run>(2));  // beside the other
  CHECK(h.all<protocol::Revoke>(1).empty());
  CHECK(h.all<protocol::Revoke>(2).empty());
  h.from(2, protocol::OpenArena{2, 2, 1, 0});
  CHECK(h.last<protocol::Fault>(2)->error.code == ErrorCode::unknown_device);
}

// Of three tasks in 8 chunks the third (6 chunks) is on the device and gets the memory of the first
// (6) in several grants; the second keeps 2.
struct FailedRestore {
  explicit FailedRestore(bool one_by_one) : h(one_device(8)) {
    for (const SessionId large : {1, 3}) {
      h.open(large, 6, {1000 * kMs, 1000 * kMs, 10 * kMs});
      if (large == 1) h.open(2, 2, {200 * kMs, 200 * kMs, 10 * kMs}, OnRefusal::refuse, true);
    }
    h.land_everything({1, 2, 3});
    h.release(3, 1, h.now_ns + 1000 * kMs);
    if (one_by_one) {
      for (const auto& revoke : h.all<protocol::Revoke>(1)) {
        h.from(1, protocol::Evicted{1, revoke.keep_chunks, 0});
      }
    } else {
      h.step(SessionDied{1});
    }
    grants = h.all<protocol::Grant>(3);
    REQUIRE(grants.size() == (one_by_one ? 3 : 1));
  }
  void fail(uint32_t resident_chunks) {
    h.from(3, protocol::RestoreFailed{1, resident_chunks, {ErrorCode::driver_failure, "no"}});
  }
  void check_second_runs() {
    h.pass(11'000 * kMs);
    h.release(2, 1, h.now_ns + 200 * kMs);
    CHECK(h.last<protocol::Run>(2));
  }
  Harness h;
  std::vector<protocol::Grant> grants;
};

TEST_CASE("a client that freezes between the answers to a failed restore keeps nobody waiting") {
  FailedRestore scene(true);
  scene.fail(scene.grants.front().first_position);
  scene.h.pass(9'000 * kMs);
  CHECK_FALSE(scene.h.last<protocol::Dropped>(3));
  scene.h.pass(2'000 * kMs);
  CHECK(scene.h.last<protocol::Dropped>(3));
  scene.check_second_runs();
}

TEST_CASE("chunks that a failed restore names as resident have landed") {
  FailedRestore scene(false);
  const protocol::Grant& last = scene.grants.back();
  const uint32_t end = last.first_position + static_cast<uint32_t>(last.chunks.size());
  for (int attempt = 0; attempt < 3; ++attempt) scene.fail(end - 1);  // the job is given up
  REQUIRE(scene.h.last<protocol::Dropped>(3));
  scene.h.from(3, protocol::PauseTask{1});
  scene.check_second_runs();
}

TEST_CASE("a task whose memory never comes in is refused for the driver's reason") {
  Harness h(one_device(8));
  h.open(1, 4, {100 * kMs, 20 * kMs, 10 * kMs});
  REQUIRE_FALSE(h.last<protocol::Verdict>(1));
  for (size_t attempt = 1; attempt <= 3; ++attempt) {
    REQUIRE(h.all<protocol::Grant>(1).size() == attempt);
    const uint32_t first = h.last<protocol::Grant>(1)->first_position;
    h.from(1, protocol::RestoreFailed{1, first, {ErrorCode::driver_failure, "ECC"}});
    h.pass(1'500 * kMs);
  }
  const auto verdict = h.last<protocol::Verdict>(1);
  REQUIRE(verdict);
  CHECK(verdict->state == TaskState::refused);
  CHECK(verdict->reason.code == ErrorCode::driver_failure);
}

}  // namespace
}  // namespace rtswap::arbiter::test
