// The plan in force: what is protected, and when changes of the set count.
#include "tests/catch.h"
#include "tests/unit/arbiter/harness.h"

namespace rtswap::arbiter::test {
namespace {

using protocol::OnRefusal;
using protocol::TaskState;
using protocol::Timing;

constexpr Timing kSlow{1000 * kMs, 1000 * kMs, 10 * kMs};

// What a client does: evicts to what it was asked to keep.
void obey_revokes(Harness& h, SessionId session) {
  if (const auto revoke = h.last<protocol::Revoke>(session)) {
    h.from(session, protocol::Evicted{1, revoke->keep_chunks, 0});
  }
}

TaskState state_of(const Harness& h, SessionId session) {
  for (const auto& task : h.arbiter.snapshot().tasks) {
    if (task.session == session) return task.state;
  }
  return TaskState::refused;
}

TEST_CASE("what the plan keeps is no victim, even if its deadline is the latest") {
  Harness h(one_device(11));
  h.open(1, 6, kSlow, OnRefusal::refuse, true);
  h.open(2, 5, Timing{900 * kMs, 900 * kMs, 10 * kMs});
  h.open(3, 5, Timing{800 * kMs, 800 * kMs, 10 * kMs});
  h.land_everything({1, 2, 3});
  REQUIRE(h.free_chunks() == 0);
  h.effects.clear();
  h.release(3, 1, h.now_ns + 800 * kMs);
  CHECK(h.all<protocol::Revoke>(1).empty());
  CHECK_FALSE(h.all<protocol::Revoke>(2).empty());
}

TEST_CASE("a prefix that is not there is restored in the background, at the cost of the rest") {
  Harness h(one_device(8));
  h.open(1, 8, kSlow);
  h.land_everything({1});
  h.from(1, protocol::CloseTask{1});  // its arena stays, and all it holds
  REQUIRE(h.free_chunks() == 0);
  h.open(2, 5, kSlow);
  REQUIRE(h.last<protocol::Revoke>(1));  // and no job has been released
  obey_revokes(h, 1);
  REQUIRE(h.last<protocol::Grant>(2));
  CHECK(h.last<protocol::Grant>(2)->first_position == 0);
}

TEST_CASE("a task is admitted once the memory that its deadline needs has landed") {
  Harness h(one_device(8));
  // Restoring 4 chunks takes 13 ms, executing 10: with a deadline of 20 ms it must be there.
  h.open(1, 4, Timing{100 * kMs, 20 * kMs, 10 * kMs});
  CHECK_FALSE(h.last<protocol::Verdict>(1));
  CHECK(state_of(h, 1) == TaskState::loading);
  h.land_everything({1});
  REQUIRE(h.last<protocol::Verdict>(1));
  CHECK(h.last<protocol::Verdict>(1)->state == TaskState::admitted);
  CHECK(h.last<protocol::Verdict>(1)->response_bound_ns < 20 * kMs);
}

TEST_CASE("a job released before the promise begins counts from there") {
  Harness h(one_device(8));
  h.open(1, 4, Timing{100 * kMs, 20 * kMs, 10 * kMs});
  h.release(1, 1, h.now_ns + 20 * kMs);
  h.pass(50 * kMs);
  CHECK(h.all<protocol::Run>(1).empty());
  CHECK(h.all<protocol::Dropped>(1).empty());
  h.land_everything({1});
  CHECK(h.all<protocol::Run>(1).size() == 1);
  h.pass(15 * kMs);
  h.from(1, protocol::JobDone{1, 10 * kMs});
  CHECK(h.arbiter.snapshot().tasks[0].met == 1);
}

TEST_CASE("a task that needs no prefix is admitted at once, and its bound shrinks as one lands") {
  Harness h(one_device(8));
  h.open(1, 4, kSlow);
  REQUIRE(h.last<protocol::Verdict>(1));
  const auto at_first = h.last<protocol::Verdict>(1)->response_bound_ns;
  h.land_everything({1});
  CHECK(h.last<protocol::Verdict>(1)->response_bound_ns < at_first);
}

// Twenty tasks of 1 ms in 40; "left" takes 8.2 in 10, "joins" 16.2 in 20. With either the set
// passes; in one window both are too much.
struct Crowd {
  Crowd() : h(one_device(32)) {
    for (SessionId session = 1; session <= 20; ++session) {
      h.open(session, 1, Timing{40 * kMs, 40 * kMs, kMs * 8 / 10});
      sessions.push_back(session);
    }
    h.open(kLeaves, 1, Timing{20 * kMs, 10 * kMs, 8 * kMs});
    sessions.push_back(kLeaves);
    h.land_everything(sessions);
    for (const SessionId session : sessions) {
      REQUIRE(state_of(h, session) == TaskState::admitted);
    }
    for (SessionId session = 1; session <= 20; ++session) {
      h.release(session, 1, h.now_ns + 40 * kMs);
    }
    h.release(kLeaves, 1, h.now_ns + 10 * kMs);
    h.from(1, protocol::JobDone{1, kMs});  // it was first, alone
    h.pass(8 * kMs);
    h.from(kLeaves, protocol::JobDone{1, 8 * kMs});
  }
  void finish_others() {
    for (SessionId session = 2; session <= 20; ++session) {
      h.from(session, protocol::JobDone{1, kMs});
    }
  }

  static constexpr SessionId kLeaves = 30;
  static constexpr SessionId kJoins = 31;
  std::vector<SessionId> sessions;
  Harness h;
};

TEST_CASE("what a task did before it left counts until the device is idle") {
  Crowd crowd;
  Harness& h = crowd.h;
  h.from(Crowd::kLeaves, protocol::CloseTask{1});
  h.open(Crowd::kJoins, 1, Timing{40 * kMs, 20 * kMs, 16 * kMs});
  h.land_everything({Crowd::kJoins});
  CHECK(state_of(h, Crowd::kJoins) == TaskState::loading);
  crowd.finish_others();
  CHECK(state_of(h, Crowd::kJoins) == TaskState::admitted);
}

TEST_CASE("a block that shrinks counts from an idle instant on") {
  Harness h(one_device(32));
  // Not there yet, "grows" takes 18.5 ms; when it is, 8.2.
  const SessionId grows = 20;
  h.open(grows, 2, Timing{40 * kMs, 40 * kMs, 8 * kMs});
  for (SessionId session = 1; session <= 10; ++session) {
    h.open(session, 1, Timing{40 * kMs, 40 * kMs, kMs * 8 / 10});
    h.land(session);
  }
  h.release(grows, 1, h.now_ns + 40 * kMs);
  for (SessionId session = 1; session <= 10; ++session) {
    h.release(session, 1, h.now_ns + 40 * kMs);
  }
  h.land(grows);
  h.pass(8 * kMs);
  h.from(grows, protocol::JobDone{1, 8 * kMs});
  // The window has seen the long block, and others of it still wait.
  h.open(21, 1, Timing{40 * kMs, 40 * kMs, 16 * kMs});
  h.land_everything({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 21});
  CHECK(state_of(h, 21) == TaskState::loading);
  for (SessionId session = 1; session <= 10; ++session) {
    h.land_everything({session});
    h.from(session, protocol::JobDone{1, kMs});
  }
  CHECK(state_of(h, 21) == TaskState::admitted);
}

// Best-effort work that does not fit beside task 2, of which all is restored in the background.
struct Loading : Harness {
  Loading(uint32_t chunks, uint32_t bank, int64_t deadline_ns) : Harness(one_device(bank)) {
    open(1, 3, Timing{0, 0, kMs});
    land_everything({1});
    open(2, chunks, Timing{deadline_ns, deadline_ns, kMs});
    REQUIRE(state_of(*this, 2) == TaskState::loading);
  }
};

TEST_CASE("of two that load together neither waits for the other for ever") {
  Loading h(3, 7, 14 * kMs);
  // All of task 3 stays and nobody has to wait until it is copied out: else task 2 would not pass.
  h.step(SessionOpened{3, 103, "user"});
  h.from(3, protocol::Hello{});
  h.from(3, protocol::OpenArena{1, 0, 2, 2});
  h.from(3, protocol::OpenTask{1, 1, "task3", {11 * kMs, 11 * kMs, kMs}, true, {}, {}});
  REQUIRE(state_of(h, 3) == TaskState::loading);
  h.land_everything({2, 3});
  CHECK(state_of(h, 2) == TaskState::admitted);
  CHECK(state_of(h, 3) == TaskState::admitted);
}

TEST_CASE("a task that is loading is in when another plan asks for no more than it has") {
  Loading h(6, 9, 24 * kMs);
  for (uint32_t landed = 1; landed <= 4; ++landed) h.from(2, protocol::Restored{1, landed});
  REQUIRE(state_of(h, 2) == TaskState::loading);
  h.open(3, 1, Timing{1000 * kMs, 1000 * kMs, kMs});
  CHECK(state_of(h, 3) == TaskState::admitted);
  CHECK(state_of(h, 2) == TaskState::admitted);
}

TEST_CASE("a task that pauses and comes back counts once") {
  Crowd crowd;
  Harness& h = crowd.h;
  h.from(Crowd::kLeaves, protocol::PauseTask{1});
  h.from(Crowd::kLeaves, protocol::ResumeTask{1});
  CHECK(state_of(h, Crowd::kLeaves) == TaskState::admitted);
}

// A crowd of fifteen tasks of 1 ms in 40, and two of 10 that have both run in the present window.
struct Window {
  Window() : h(one_device(32)) {
    for (SessionId session = 1; session <= 15; ++session) {
      h.open(session, 1, Timing{40 * kMs, 40 * kMs, kMs * 8 / 10});
    }
    for (const SessionId session : {kTask, kOther}) {
      h.open(session, 1, Timing{40 * kMs, 40 * kMs, kMs * 98 / 10});
    }
    h.land_everything({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, kTask, kOther});
    for (const SessionId session : {kTask, kOther, SessionId{1}}) {
      h.release(session, 1, h.now_ns + 40 * kMs);
    }
    h.pass(10 * kMs);
    h.from(kTask, protocol::JobDone{1, kMs * 98 / 10});
    h.pass(10 * kMs);
    h.from(kOther, protocol::JobDone{1, kMs * 98 / 10});
    REQUIRE(h.last<protocol::Run>(1));  // so that the device is not idle
  }

  static constexpr SessionId kTask = 30;
  static constexpr SessionId kOther = 31;
  static constexpr SessionId kJoins = 32;
  Harness h;
};

TEST_CASE("a task that comes back shorter does not undo what its longer job did to the window") {
  Window window;
  Harness& h = window.h;
  h.from(Window::kTask, protocol::PauseTask{1});
  h.from(Window::kTask, protocol::UpdateTask{1, Timing{40 * kMs, 40 * kMs, kMs}});
  h.from(Window::kTask, protocol::ResumeTask{1});
  h.open(Window::kJoins, 1, Timing{40 * kMs, 40 * kMs, 8 * kMs});  // 15 + 10 + 10 + 8.2 > 40
  h.land_everything({Window::kJoins});
  CHECK(state_of(h, Window::kJoins) == TaskState::loading);
  h.from(1, protocol::JobDone{1, kMs});
  CHECK(state_of(h, Window::kJoins) == TaskState::admitted);
}

TEST_CASE("a task that is on its way back does not hide what it did before it paused") {
  Window window;
  Harness& h = window.h;
  h.from(Window::kOther, protocol::CloseTask{1});
  h.from(Window::kTask, protocol::PauseTask{1});
  h.from(Window::kTask, protocol::UpdateTask{1, Timing{40 * kMs, 40 * kMs, 17 * kMs}});
  h.from(Window::kTask, protocol::ResumeTask{1});
  REQUIRE(state_of(h, Window::kTask) == TaskState::loading);       // 15 + 17.2 + 10 > 40
  h.open(Window::kJoins, 1, Timing{40 * kMs, 40 * kMs, 6 * kMs});  // 15 + 10 + 10 + 6.2 > 40
  h.land_everything({Window::kJoins});
  CHECK(state_of(h, Window::kJoins) == TaskState::loading);
  h.from(1, protocol::JobDone{1, kMs});
  CHECK(state_of(h, Window::kTask) == TaskState::admitted);
  CHECK(state_of(h, Window::kJoins) == TaskState::admitted);
}

TEST_CASE("a new timing waits for an idle device, the old one holds until then") {
  Crowd crowd;
  Harness& h = crowd.h;
  h.effects.clear();
  h.from(Crowd::kLeaves, protocol::UpdateTask{1, Timing{40 * kMs, 20 * kMs, 16 * kMs}});
  CHECK(h.all<protocol::Verdict>(Crowd::kLeaves).empty());
  crowd.finish_others();
  REQUIRE(h.last<protocol::Verdict>(Crowd::kLeaves));
  CHECK(h.last<protocol::Verdict>(Crowd::kLeaves)->timing.period_ns == 40 * kMs);
  CHECK_FALSE(h.last<protocol::Verdict>(Crowd::kLeaves)->request_refused);
}

// Restoring 4 chunks takes 13 ms, executing 10: the new deadline holds once they are there.
struct Restoring : Harness {
  Restoring() : Harness(one_device(8)) {
    open(1, 4, kSlow);
    REQUIRE(state_of(*this, 1) == TaskState::admitted);
    verdicts_before = all<protocol::Verdict>(1).size();
    from(1, protocol::UpdateTask{1, kFast});
    REQUIRE(all<protocol::Verdict>(1).size() == verdicts_before);
  }
  std::optional<protocol::Verdict> answer() const {
    const auto verdicts = all<protocol::Verdict>(1);
    for (size_t i = verdicts_before; i < verdicts.size(); ++i) {
      if (verdicts[i].requests_answered == 2) return verdicts[i];
    }
    return std::nullopt;
  }

  static constexpr Timing kFast{100 * kMs, 20 * kMs, 10 * kMs};
  size_t verdicts_before = 0;
};

TEST_CASE("a new timing waits for the memory that it needs and that is on its way") {
  Restoring h;
  h.from(1, protocol::Restored{1, 1});
  CHECK_FALSE(h.answer());
  h.land_everything({1});
  REQUIRE(h.answer());
  CHECK_FALSE(h.answer()->request_refused);
  CHECK(h.answer()->timing.deadline_ns == Restoring::kFast.deadline_ns);
  CHECK(h.answer()->response_bound_ns < 20 * kMs);
}

TEST_CASE("a new timing that waits for memory is refused when that does not come") {
  Restoring h;
  SECTION("its restore fails") {
    h.from(1, protocol::RestoreFailed{1, 0, {ErrorCode::driver_failure, "no"}});
  }
  SECTION("its client does not answer") { h.pass(one_device(8).hang_timeout_ns); }
  REQUIRE(h.answer());
  CHECK(h.answer()->request_refused);
  CHECK(h.answer()->timing.deadline_ns == kSlow.deadline_ns);
  CHECK(h.answer()->state == TaskState::admitted);
}

TEST_CASE("a new timing does not wait for memory that a client keeps") {
  Harness h(one_device(8));
  h.open(2, 8, Timing{0, 0, 10 * kMs});
  h.land_everything({2});
  h.from(2, protocol::PauseTask{1});
  h.open(1, 4, kSlow);
  h.from(1, protocol::UpdateTask{1, Restoring::kFast});
  REQUIRE(h.last<protocol::Verdict>(1)->requests_answered == 1);
  SECTION("that does not answer") { h.pass(one_device(8).hang_timeout_ns); }
  SECTION("that cannot give it back") { h.from(2, protocol::Evicted{1, 8, 0}); }
  CHECK(h.last<protocol::Verdict>(1)->requests_answered == 2);
  CHECK(h.last<protocol::Verdict>(1)->request_refused);
}

TEST_CASE("the plan for a newcomer suits a timing that waits for memory, too") {
  Harness h(one_device(10));
  h.open(1, 9, kSlow);
  h.from(1, protocol::UpdateTask{1, Timing{100 * kMs, 30 * kMs, 10 * kMs}});
  h.open(2, 2, Timing{0, 0, kMs});
  h.land_everything({1, 2});
  REQUIRE(h.last<protocol::Verdict>(1)->requests_answered == 2);
  CHECK(h.last<protocol::Verdict>(1)->timing.deadline_ns == 30 * kMs);
}

TEST_CASE("a newer timing takes the place of one that waits") {
  Harness h(one_device(8));
  h.open(1, 4, Timing{1000 * kMs, 1000 * kMs, 20 * kMs}, OnRefusal::best_effort);
  h.from(1, protocol::UpdateTask{1, Timing{100 * kMs, 30 * kMs, 20 * kMs}});
  SECTION("though the promise has ended meanwhile") {
    h.from(1, protocol::DeviceReport{0, 0, 100'000'000, 0});
    h.finish();
    REQUIRE(state_of(h, 1) == TaskState::best_effort);
    h.from(1, protocol::UpdateTask{1, Timing{5000 * kMs, 5000 * kMs, 20 * kMs}});
    h.land_everything({1});
    CHECK(h.last<protocol::Verdict>(1)->timing.period_ns == 5000 * kMs);
  }
  SECTION("though it is refused itself") {
    h.from(1, protocol::UpdateTask{1, Timing{100 * kMs, 10 * kMs, 20 * kMs}});
    h.land_everything({1});
    CHECK(h.last<protocol::Verdict>(1)->timing.period_ns == 1000 * kMs);
  }
  CHECK(h.last<protocol::Verdict>(1)->requests_answered == 3);
}

TEST_CASE("a task that asks to go on while its timing waits is answered with that") {
  Restoring h;
  h.from(1, protocol::ResumeTask{1});
  CHECK(h.last<protocol::Verdict>(1)->requests_answered == 1);
  h.land_everything({1});
  CHECK(h.last<protocol::Verdict>(1)->requests_answered == 3);
  CHECK(h.last<protocol::Verdict>(1)->timing.deadline_ns == Restoring::kFast.deadline_ns);
}

TEST_CASE("jobs that came early do not keep the plan from coming in") {
  Harness h(one_device(8));
  h.open(1, 1, Timing{1000 * kMs, 1000 * kMs, kMs});
  h.open(2, 4, Timing{100 * kMs, 100 * kMs, 5 * kMs});
  h.land_everything({1, 2});
  for (protocol::JobId job = 1; job <= 2; ++job) h.release(1, job, h.now_ns + 1000 * kMs);
  h.from(1, protocol::JobDone{1, kMs});
  h.effects.clear();
  h.open(3, 4, Timing{100 * kMs, 33 * kMs, 10 * kMs});
  h.land_everything({3});
  REQUIRE(state_of(h, 3) == TaskState::loading);
  REQUIRE(h.last<protocol::Revoke>(1));
  obey_revokes(h, 1);
  h.land_everything({3});
  CHECK(state_of(h, 3) == TaskState::admitted);
}

TEST_CASE("a job that is too late when its task is in is dropped at once") {
  Harness h(one_device(9));
  h.open(3, 5, kSlow, OnRefusal::refuse, true);
  h.open(1, 1, Timing{0, 0, 500 * kMs});
  h.land_everything({3, 1});
  h.release(1, 1, protocol::kNoDeadline_ns);
  h.open(2, 4, Timing{100 * kMs, 40 * kMs, 10 * kMs}, OnRefusal::best_effort);
  REQUIRE(state_of(h, 2) == TaskState::loading);
  h.release(2, 1, h.now_ns + 40 * kMs);
  h.pass(200 * kMs);
  h.from(3, protocol::DeviceReport{0, 0, 100'000'000, 0});  // nothing can be promised to it now
  h.finish();
  CHECK(h.all<protocol::Dropped>(2).empty());
  h.from(1, protocol::JobDone{1, 200 * kMs});
  h.finish();
  CHECK(state_of(h, 2) == TaskState::best_effort);
  CHECK(h.all<protocol::Dropped>(2).size() == 1);
}

TEST_CASE("a task is not refused for want of a way while memory is on its way") {
  Harness h(one_device(7));
  const auto open_beside = [&h](SessionId session, uint32_t chunks, uint32_t mutable_chunks,
                                Timing timing) {
    h.step(SessionOpened{session, static_cast<int64_t>(session) + 100, "user"});
    h.from(session, protocol::Hello{});
    h.from(session, protocol::OpenArena{1, 0, chunks, mutable_chunks});
    h.from(session, protocol::OpenTask{1, 1, "task", timing, false, {}, {}});
  };
  open_beside(1, 4, 4, Timing{0, 0, kMs});
  h.land_everything({1});
  // Until its chunk has landed, its deadline leaves no time to copy out what others have changed.
  open_beside(2, 1, 0, Timing{50 * kMs, 20 * kMs, 10 * kMs});
  REQUIRE(state_of(h, 2) == TaskState::admitted);
  open_beside(3, 3, 0, Timing{110 * kMs, 66 * kMs, kMs});
  CHECK(state_of(h, 3) == TaskState::loading);
  SECTION("it is there") {
    h.land_everything({2, 3});
    CHECK(state_of(h, 3) == TaskState::admitted);
  }
  SECTION("it does not come") {
    h.pass(one_device(7).hang_timeout_ns);
    CHECK(state_of(h, 3) == TaskState::refused);
  }
}

TEST_CASE("best-effort work that runs now is let end before a promise it could break begins") {
  Harness h(one_device(8));
  h.open(1, 1, Timing{0, 0, 500 * kMs});
  h.land_everything({1});
  h.release(1, 1, protocol::kNoDeadline_ns);
  REQUIRE(h.last<protocol::Run>(1));
  h.open(2, 1, Timing{100 * kMs, 100 * kMs, 10 * kMs});
  h.land_everything({2});
  CHECK(state_of(h, 2) == TaskState::loading);
  h.from(1, protocol::JobDone{1, 500 * kMs});
  CHECK(state_of(h, 2) == TaskState::admitted);
}

TEST_CASE("long best-effort work does not begin before a job that came early") {
  Harness h(one_device(8));
  h.open(1, 1, Timing{100 * kMs, 100 * kMs, 10 * kMs});
  h.open(2, 1, Timing{0, 0, 130 * kMs});
  h.land_everything({1, 2});
  h.release(1, 1, h.now_ns + 100 * kMs);
  h.from(1, protocol::JobDone{1, 10 * kMs});
  h.pass(50 * kMs);
  h.release(1, 2, h.now_ns + 100 * kMs);  // counts from 50 ms later
  h.release(2, 1, protocol::kNoDeadline_ns);
  CHECK_FALSE(h.last<protocol::Run>(2));
  h.pass(50 * kMs);
  CHECK(h.last<protocol::Run>(1)->job == 2);
}

TEST_CASE("early jobs that wait through an idle instant compete from when they count") {
  Harness h(one_device(8));
  h.open(1, 1, Timing{100 * kMs, 60 * kMs, kMs});
  h.open(2, 1, Timing{75 * kMs, 75 * kMs, kMs});
  h.open(3, 1, Timing{75 * kMs, 75 * kMs, kMs});
  h.land_everything({1, 2, 3});
  const int64_t start_ns = h.now_ns;
  const auto at = [&](int64_t ms) { h.pass(start_ns + ms * kMs - h.now_ns); };
  h.release(2, 1, h.now_ns + 75 * kMs);
  // Competes as if released now, 40 ms later than stamped, and the next one a period after that.
  h.from(1, protocol::Release{1, 1, start_ns - 40 * kMs, start_ns + 20 * kMs});
  at(10);
  h.release(1, 2, h.now_ns + 60 * kMs);  // counts from 60 ms
  h.from(2, protocol::JobDone{1, kMs});
  h.from(1, protocol::JobDone{1, kMs});
  at(30);                                // idle
  h.release(1, 3, h.now_ns + 60 * kMs);  // counts from 160 ms, a period after the second
  at(60);
  REQUIRE(h.last<protocol::Run>(1)->job == 2);
  h.from(1, protocol::JobDone{2, kMs});
  at(155);
  h.release(2, 2, h.now_ns + 75 * kMs);
  at(165);
  h.release(3, 1, h.now_ns + 75 * kMs);
  h.from(2, protocol::JobDone{2, kMs});
  CHECK(h.last<protocol::Run>(1)->job == 3);  // due at 220, the other at 240
  CHECK_FALSE(h.last<protocol::Run>(3));
}

// Block of a task whose memory lies with a paused one, of which so much is mutable.
int64_t block_beside_paused_ns(uint32_t mutable_chunks) {
  Harness h(one_device(8));
  h.step(SessionOpened{1, 101, "user"});
  h.from(1, protocol::Hello{});
  h.from(1, protocol::OpenArena{1, 0, 6, mutable_chunks});
  h.from(1, protocol::OpenTask{1, 1, "paused", kSlow, false, {}, {}});
  h.land_everything({1});
  h.from(1, protocol::PauseTask{1});
  h.open(2, 6, kSlow);
  REQUIRE(state_of(h, 2) == TaskState::admitted);
  return h.last<protocol::Verdict>(2)->block_ns;
}

TEST_CASE("what a paused task has to copy out first is charged to others") {
  CHECK(block_beside_paused_ns(6) > block_beside_paused_ns(0));
}

// A job of session 2 has the device, and may have paid for what session 1 had to copy out: in the
// middle of that window memory of session 1 is no longer in the way.
struct CopiedOut : Harness {
  explicit CopiedOut(uint32_t bank) : Harness(one_device(bank)) {
    step(SessionOpened{1, 101, "user"});
    from(1, protocol::Hello{});
    from(1, protocol::OpenArena{1, 0, 6, 6});
    from(1, protocol::OpenTask{1, 1, "first", kSlow, false, {}, {}});
    land_everything({1});
    open(2, 6, kSlow);
    land_everything({2});
    charged_ns = block_ns();
  }
  int64_t block_ns() const { return last<protocol::Verdict>(2)->block_ns; }
  void copy_out() {
    for (const protocol::Revoke& revoke : all<protocol::Revoke>(1)) {
      from(1, protocol::Evicted{1, revoke.keep_chunks, 32 << 20});
    }
    REQUIRE(last<protocol::Revoke>(1)->keep_chunks == 2);
  }
  // Another task, so that blocks are charged anew; then the end of the window.
  void require_kept_until_idle() {
    open(9, 1, kSlow);
    REQUIRE(state_of(*this, 9) == TaskState::admitted);
    CHECK(block_ns() >= charged_ns);
    land_everything({2});
    from(2, protocol::JobDone{1, kMs});
    CHECK(block_ns() < charged_ns);
  }
  int64_t charged_ns = 0;
};

TEST_CASE(
    "memory that was copied out counts until the device is idle, though its arena is closed") {
  CopiedOut h(8);
  h.release(2, 1, h.now_ns + 100 * kMs);
  h.copy_out();
  h.from(1, protocol::CloseTask{1});
  h.from(1, protocol::CloseArena{1});
  h.require_kept_until_idle();
}

TEST_CASE("memory that was copied out counts until the device is idle, though less is left") {
  CopiedOut h(8);
  h.from(1, protocol::PauseTask{1});
  h.charged_ns = h.block_ns();
  h.release(2, 1, h.now_ns + 100 * kMs);
  h.copy_out();
  h.require_kept_until_idle();
}

TEST_CASE("memory that was copied out counts until the device is idle, though it will stay now") {
  CopiedOut h(13);
  h.open(3, 6, kSlow);
  h.charged_ns = h.block_ns();
  h.release(2, 1, h.now_ns + 100 * kMs);
  h.from(1, protocol::OpenTask{2, 1, "stays", kSlow, true, {}, {}});
  h.require_kept_until_idle();
}

// While session 3 has the device, one chunk of session 1, of which so many are mutable, is on its
// way out for session 2, which goes away. Then session 1 is to keep all of its memory.
int64_t block_behind_leaving_ns(uint32_t mutable_chunks) {
  Harness h(one_device(8));
  Timing early = kSlow;
  early.layers = {{1, 10 * kMs - 1}, {6, 1}};
  h.step(SessionOpened{1, 101, "user"});
  h.from(1, protocol::Hello{});
  h.from(1, protocol::OpenArena{1, 0, 6, mutable_chunks});
  h.from(1, protocol::OpenTask{1, 1, "leaves", early, false, {}, {}});
  h.land_everything({1});
  h.open(3, 1, kSlow, OnRefusal::refuse, true);
  h.land_everything({1, 3});
  h.open(2, 6, Timing{900 * kMs, 900 * kMs, 10 * kMs});
  h.land_everything({1, 2, 3});
  h.release(3, 1, h.now_ns + 1000 * kMs);
  h.release(2, 1, h.now_ns + 900 * kMs);
  h.land(2);
  h.land(2);
  REQUIRE(h.all<protocol::Revoke>(1).size() == 1);
  h.from(2, protocol::CloseTask{1});
  h.from(2, protocol::CloseArena{1});
  h.from(3, protocol::JobDone{1, 10 * kMs});
  const int64_t block_ns = h.last<protocol::Verdict>(1)->block_ns;
  // When it is gone that counts no more.
  h.from(1, protocol::Evicted{1, 5, 0});
  h.land_everything({1, 3});
  CHECK(h.last<protocol::Verdict>(1)->block_ns == 10 * kMs + 200'000);
  return block_ns;
}

TEST_CASE("what is on its way out at an idle instant is copied out first") {
  CHECK(block_behind_leaving_ns(6) > block_behind_leaving_ns(0) + 3 * kMs);
}

TEST_CASE("a prefetch takes nothing of an arena that still comes in") {
  Config config = one_device(9);
  config.devices[0].description.chunk_bytes = 16 << 20;
  Harness h(std::move(config));
  h.open(5, 1, Timing{1000 * kMs, 113 * kMs, 10 * kMs}, OnRefusal::refuse, true);
  h.land_everything({5});
  h.open(2, 6, kSlow);
  h.land_everything({2, 5});
  h.open(1, 6, Timing{1100 * kMs, 1100 * kMs, 100 * kMs});
  h.from(1, protocol::Restored{1, 1});  // the second is granted
  h.open(3, 2, Timing{900 * kMs, 900 * kMs, 10 * kMs});
  h.release(5, 1, h.now_ns + 113 * kMs);
  h.release(3, 1, h.now_ns + 900 * kMs);
  CHECK(h.all<protocol::Revoke>(1).empty());  // though its deadline is the latest
  CHECK(h.all<protocol::Revoke>(2).size() == 1);
}

// Memory that the device gets back late: "best effort" has 7 chunks, two of which a job that was
// cancelled has asked back while they came in.
TEST_CASE("the device is not idle while memory is asked back that still comes in") {
  Config config = one_device(9);
  config.devices[0].description.chunk_bytes = 8 << 20;
  Harness h(std::move(config));
  h.open(5, 1, Timing{100 * kMs, 40 * kMs, 10 * kMs}, OnRefusal::refuse, true);
  h.land_everything({5});
  h.open(2, 7, Timing{0, 0, kMs});
  h.from(2, protocol::Restored{1, 4});
  h.from(2, protocol::Restored{1, 5});
  h.open(3, 3, kSlow);
  h.from(3, protocol::Release{1, 1, h.now_ns, h.now_ns + 1000 * kMs});
  REQUIRE(h.last<protocol::Revoke>(2)->keep_chunks == 5);
  const int64_t beside_ns = h.last<protocol::Verdict>(5)->response_bound_ns;
  h.from(3, protocol::JobDone{1, 0});
  h.from(3, protocol::CloseTask{1});
  h.release(5, 1, h.now_ns + 40 * kMs);
  CHECK(h.all<protocol::Run>(5).empty());
  CHECK(h.last<protocol::Verdict>(5)->response_bound_ns == beside_ns);
  h.from(2, protocol::Restored{1, 7});
  CHECK(h.all<protocol::Run>(5).size() == 1);
  h.from(5, protocol::JobDone{1, 10 * kMs});
  CHECK(h.last<protocol::Verdict>(5)->response_bound_ns < beside_ns);
}

TEST_CASE("best-effort work of earlier windows keeps nobody waiting") {
  Harness h(one_device(8));
  h.open(1, 1, Timing{100 * kMs, 100 * kMs, 10 * kMs});
  h.open(2, 1, Timing{0, 0, 60 * kMs});
  h.land_everything({1, 2});
  h.from(2, protocol::Release{1, 1, h.now_ns, protocol::kNoDeadline_ns});
  h.pass(60 * kMs);
  h.from(2, protocol::JobDone{1, 60 * kMs});
  h.pass(50 * kMs);
  h.release(1, 1, h.now_ns + 100 * kMs);
  h.open(3, 1, Timing{50 * kMs, 50 * kMs, 10 * kMs});  // has no room for it
  CHECK(state_of(h, 3) == TaskState::admitted);
}

TEST_CASE("best-effort work keeps nobody waiting where nothing is promised") {
  Config config = one_device(8);
  config.discipline = Discipline::request_order;
  Harness h(std::move(config));
  h.open(1, 1, Timing{100 * kMs, 100 * kMs, 10 * kMs});
  h.open(2, 4, Timing{0, 0, 10 * kMs});
  h.land_everything({1});
  h.from(2, protocol::Release{1, 1, h.now_ns, protocol::kNoDeadline_ns});
  h.release(1, 1, h.now_ns + 100 * kMs);  // waits all the time
  h.land_everything({2});
  h.from(2, protocol::JobDone{1, 10 * kMs});
  h.open(3, 1, Timing{50 * kMs, 50 * kMs, 10 * kMs});
  CHECK(state_of(h, 3) != TaskState::loading);
}

TEST_CASE("what the plan keeps of a client that comes back is no victim") {
  Harness h(one_device(12));
  h.step(SessionOpened{1, 101, "user"});
  h.from(1, protocol::Hello{});
  h.from(1, protocol::OpenArena{1, 0, 6, 6});
  h.from(1, protocol::OpenTask{1, 1, "keeps", kSlow, true, {}, {}});
  h.open(2, 6, kSlow);
  h.land_everything({1, 2});
  h.open(3, 6, kSlow);
  h.land_everything({1, 2, 3});
  h.release(2, 1, h.now_ns + 1000 * kMs);
  protocol::HeldArena held{1, 0, "SIM-0", 6, {}};
  for (const protocol::Grant& grant : h.all<protocol::Grant>(1)) {
    held.resident.insert(held.resident.end(), grant.chunks.begin(), grant.chunks.end());
  }
  REQUIRE(held.resident.size() == 6);
  h.step(SessionDisconnected{1});
  h.step(SessionOpened{4, 101, "user"});
  protocol::Hello hello;
  hello.resumed_session = 1;
  hello.held.push_back(held);
  h.from(4, hello);
  REQUIRE_FALSE(h.closed(4));
  h.release(3, 1, h.now_ns + 1000 * kMs);
  h.from(2, protocol::JobDone{1, 10 * kMs});
  CHECK(h.all<protocol::Revoke>(4).empty());
  CHECK(h.last<protocol::Revoke>(2)->keep_chunks == 0);
}

}  // namespace
}  // namespace rtswap::arbiter::test
