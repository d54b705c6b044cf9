// Which of two jobs competes with the earlier deadline, and what a window remembers of timings that
// have changed.
#include "tests/catch.h"
#include "tests/unit/arbiter/harness.h"

namespace rtswap::arbiter::test {
namespace {

using protocol::OnRefusal;
using protocol::TaskState;
using protocol::Timing;
using rtswap::test::contains;

constexpr SessionId kShort = 1;
constexpr SessionId kLong = 2;
constexpr SessionId kBestEffort = 3;

struct ThreeTasks {
  ThreeTasks(const Timing& shorter, const Timing& longer) : h(one_device(64)) {
    h.open(kShort, 2, shorter);
    h.open(kLong, 2, longer);
    h.open(kBestEffort, 2, {0, 0, 20 * kMs}, OnRefusal::best_effort);
    h.land_everything({kShort, kLong, kBestEffort});
  }
  // A first job of the short one, and then a shorter deadline of it.
  void run_short() {
    h.release(kShort, 1, h.now_ns + 1000 * kMs);
    REQUIRE(h.last<protocol::Run>(kShort));
    h.pass(5 * kMs);
    h.from(kShort, protocol::JobDone{1, 5 * kMs});
  }
  void shorten() {
    h.from(kShort, protocol::UpdateTask{1, {1000 * kMs, 91 * kMs, 5 * kMs}});
    REQUIRE(h.last<protocol::Verdict>(kShort)->timing.deadline_ns == 91 * kMs);
  }
  void begin_best_effort() {
    h.release(kBestEffort, 1, protocol::kNoDeadline_ns);
    REQUIRE(h.last<protocol::Run>(kBestEffort));
  }
  void check_second_of_short_goes_first() {
    h.from(kBestEffort, protocol::JobDone{1, 19 * kMs});
    CHECK(h.last<protocol::Run>(kShort)->job == 2);
    CHECK_FALSE(h.last<protocol::Run>(kLong));
  }
  Harness h;
};

TEST_CASE("jobs of a new timing compete with its deadline, not with that of the last old job") {
  ThreeTasks tasks({1000 * kMs, 1000 * kMs, 5 * kMs}, {2000 * kMs, 400 * kMs, 60 * kMs});
  Harness& h = tasks.h;
  tasks.run_short();
  h.pass(45 * kMs);
  tasks.shorten();
  h.pass(940 * kMs);
  tasks.begin_best_effort();
  h.pass(10 * kMs);
  h.release(kLong, 1, h.now_ns + 400 * kMs);
  h.release(kShort, 2, h.now_ns + 91 * kMs);
  h.pass(9 * kMs);
  tasks.check_second_of_short_goes_first();
}

TEST_CASE("a job that came early competes with the deadline of the timing that it will run in") {
  ThreeTasks tasks({1000 * kMs, 1000 * kMs, 5 * kMs}, {2000 * kMs, 400 * kMs, 60 * kMs});
  Harness& h = tasks.h;
  tasks.run_short();
  h.pass(495 * kMs);
  h.release(kShort, 2, h.now_ns + 1000 * kMs);  // counts in half a second
  tasks.shorten();
  h.pass(490 * kMs);
  tasks.begin_best_effort();
  h.pass(10 * kMs);
  h.release(kLong, 1, h.now_ns + 400 * kMs);
  h.pass(9 * kMs);
  tasks.check_second_of_short_goes_first();
}

TEST_CASE("an idle instant ends the distance to a job that had an old stamp") {
  ThreeTasks tasks({200 * kMs, 200 * kMs, 5 * kMs}, {2000 * kMs, 300 * kMs, 60 * kMs});
  Harness& h = tasks.h;
  const int64_t begin_ns = h.now_ns;
  h.pass(150 * kMs);
  h.from(kShort, protocol::Release{1, 1, begin_ns, begin_ns + 200 * kMs});
  h.pass(2 * kMs);
  h.release(kShort, 2, h.now_ns + 200 * kMs);  // early by 48
  h.pass(3 * kMs);
  h.from(kShort, protocol::JobDone{1, 5 * kMs});
  h.pass(35 * kMs);
  tasks.begin_best_effort();
  h.pass(5 * kMs);
  h.release(kLong, 1, h.now_ns + 300 * kMs);
  h.pass(10 * kMs);
  h.from(kBestEffort, protocol::JobDone{1, 15 * kMs});
  CHECK(h.last<protocol::Run>(kShort)->job == 2);
  CHECK_FALSE(h.last<protocol::Run>(kLong));
}

TEST_CASE("a job that lost its deadline is not in the clock of a new timing") {
  Harness h(one_device(8));
  h.step(SessionOpened{1, 101, "user"});
  h.from(1, protocol::Hello{});
  h.from(1, protocol::OpenArena{1, 0, 1, 0});
  protocol::OpenTask task{1, 1, "task", {100 * kMs, 100 * kMs, 10 * kMs}, false, {}, {}};
  task.late = protocol::LatePolicy::run;
  h.from(1, task);
  h.land_everything({1});
  h.release(1, 1, h.now_ns + 100 * kMs);
  h.pass(100 * kMs);
  h.release(1, 2, h.now_ns + 100 * kMs);
  h.pass(150 * kMs);  // too late for the second
  h.from(1, protocol::UpdateTask{1, {100 * kMs, 100 * kMs, 20 * kMs}});
  h.pass(10 * kMs);
  h.from(1, protocol::JobDone{1, 260 * kMs});
  REQUIRE(h.last<protocol::Verdict>(1)->timing.wcet_ns == 20 * kMs);
  REQUIRE(h.last<protocol::Run>(1)->job == 2);
  h.pass(15 * kMs);
  h.from(1, protocol::JobDone{2, 10 * kMs});
  h.pass(25 * kMs);
  h.release(1, 3, h.now_ns + 100 * kMs);  // two periods after the second
  CHECK(h.last<protocol::Run>(1)->job == 3);
}

TEST_CASE("a job of unknown length suspends the promise that its task gets meanwhile") {
  Harness h(one_device(8));
  h.open(1, 1, {100 * kMs, 100 * kMs, 0});
  h.land_everything({1});
  h.release(1, 1, h.now_ns + 100 * kMs);
  REQUIRE(h.last<protocol::Run>(1));
  h.pass(10 * kMs);
  h.from(1, protocol::UpdateTask{1, {100 * kMs, 100 * kMs, 20 * kMs}});
  REQUIRE(h.last<protocol::Verdict>(1)->state == TaskState::admitted);
  CHECK_FALSE(h.last<protocol::Verdict>(1)->suspended.empty());
  h.pass(90 * kMs);
  h.from(1, protocol::JobDone{1, 100 * kMs});
  CHECK(h.last<protocol::Verdict>(1)->suspended.empty());
}

TEST_CASE("a flood of early releases is no way to the front") {
  Harness h(one_device(8));
  constexpr int64_t kYear_ns = int64_t{366} * 24 * 3600 * 1000 * kMs;
  h.open(1, 1, {kYear_ns, 20 * kMs, 5 * kMs});
  h.open(2, 1, {100 * kMs, 30 * kMs, 5 * kMs});
  h.land_everything({1, 2});
  h.release(1, 1, h.now_ns + 20 * kMs);
  REQUIRE(h.last<protocol::Run>(1));
  for (protocol::JobId job = 2; job <= 1000; ++job) h.release(1, job, h.now_ns + 20 * kMs);
  CHECK(h.last<protocol::Fault>(1)->error.code == ErrorCode::protocol_violation);
  CHECK(h.all<protocol::Run>(1).size() == 1);
  h.release(2, 1, h.now_ns + 30 * kMs);
  h.step(SessionDied{1});
  CHECK(h.last<protocol::Run>(2));
}

TEST_CASE("more jobs than any program has end the session") {
  Harness h(one_device(8));
  h.open(1, 1, {100 * kMs, 100 * kMs, 5 * kMs});
  for (protocol::JobId job = 1; job <= 10'001 && !h.closed(1); ++job) {
    h.release(1, job, protocol::kNoDeadline_ns);
  }
  CHECK_THAT(h.last<protocol::Fault>(1)->error.message, contains("10000 jobs"));
}

TEST_CASE("old stamps with deadlines far ahead keep nobody from an answer") {
  Harness h(one_device(8));
  h.open(1, 1, {100 * kMs, 100 * kMs, 5 * kMs});
  h.open(2, 1, {200 * kMs, 200 * kMs, 5 * kMs});
  h.land_everything({1, 2});
  h.pass(int64_t{24} * 3600 * 1000 * kMs);
  for (protocol::JobId job = 1; job <= 50; ++job) {
    h.from(1, protocol::Release{job, 1, static_cast<int64_t>(job) * 100 * kMs, INT64_MAX - 1});
    CHECK(h.last<protocol::Dropped>(1)->job == job);
  }
  h.from(2, protocol::UpdateTask{1, {150 * kMs, 150 * kMs, 5 * kMs}});
  CHECK(h.last<protocol::Verdict>(2)->timing.period_ns == 150 * kMs);
}

TEST_CASE("an idle instant counts though best effort begins in it") {
  ThreeTasks tasks({100 * kMs, 91 * kMs, 5 * kMs}, {1000 * kMs, 160 * kMs, 84 * kMs});
  Harness& h = tasks.h;
  // Its stamp is old: the next job would have to keep its distance from when it was seen.
  h.from(kShort, protocol::Release{1, 1, h.now_ns - 80 * kMs, h.now_ns + 11 * kMs});
  REQUIRE(h.last<protocol::Run>(kShort));
  h.pass(4 * kMs);
  h.release(kBestEffort, 1, protocol::kNoDeadline_ns);
  h.pass(1 * kMs);
  h.from(kShort, protocol::JobDone{1, 5 * kMs});
  REQUIRE(h.last<protocol::Run>(kBestEffort));
  h.pass(15 * kMs);
  h.release(kShort, 2, h.now_ns + 91 * kMs);
  h.release(kLong, 1, h.now_ns + 160 * kMs);
  h.pass(4 * kMs);
  tasks.check_second_of_short_goes_first();
}

TEST_CASE("what a task did counts until the device is idle, however often it changes its mind") {
  Config config = one_device(4);
  config.devices[0].chunk_cost_ns = 0;
  config.devices[0].assumed_restore_bytes_per_s = 100'000'000'000;
  Harness h(config);
  constexpr protocol::TaskId kFillers = 20;
  const Timing filler{40 * kMs, 40 * kMs, kMs * 3 / 4};
  h.open(1, 1, filler, OnRefusal::refuse, true);
  for (protocol::TaskId id = 2; id <= kFillers; ++id) {
    h.from(1, protocol::OpenTask{
                  id, 1, "filler" + std::to_string(id), filler, true, {}, OnRefusal::refuse});
  }
  const Timing timing{20 * kMs, 10 * kMs, 8 * kMs};
  h.open(2, 2, timing);
  h.open(3, 3, {1000 * kMs, 1000 * kMs, kMs / 10});
  h.land_everything({1, 2, 3});
  h.release(2, 1, h.now_ns + 10 * kMs);
  for (protocol::TaskId id = 1; id <= kFillers; ++id) {
    h.from(1, protocol::Release{id, id, h.now_ns, h.now_ns + 40 * kMs});
  }
  h.pass(8 * kMs);
  h.from(2, protocol::JobDone{1, 8 * kMs});
  h.from(2, protocol::PauseTask{1});
  h.open(4, 1, {1000 * kMs, 1000 * kMs, kMs / 100});
  h.effects.clear();
  h.from(2, protocol::ResumeTask{1});
  REQUIRE_FALSE(h.last<protocol::Verdict>(2));  // its memory went to the one that joined
  h.from(2, protocol::UpdateTask{1, {40 * kMs, 40 * kMs, kMs / 2}});
  h.open(5, 1, {40 * kMs, 20 * kMs, 14 * kMs});
  CHECK_FALSE(h.last<protocol::Verdict>(5));  // 8 + 20 * 0.75 + 14 are too much for 40 ms
}

TEST_CASE("an arena grows though its task is refused, and is told so") {
  Harness h(one_device(64));
  h.open(1, 2, {100 * kMs, 100 * kMs, 80 * kMs});
  h.open(2, 2, {100 * kMs, 100 * kMs, 50 * kMs});
  REQUIRE(h.last<protocol::Verdict>(2)->state == TaskState::refused);
  h.from(2, protocol::ResizeArena{1, 5, 0});
  CHECK_FALSE(h.last<protocol::Verdict>(2)->request_refused);
  CHECK(h.last<protocol::Verdict>(2)->state == TaskState::refused);
}

TEST_CASE("an arena does not grow while a new timing waits, which is given up with it") {
  Harness h(one_device(64));
  h.open(1, 2, {100 * kMs, 100 * kMs, 20 * kMs});
  h.open(2, 2, {100 * kMs, 100 * kMs, 20 * kMs});
  h.land_everything({1, 2});
  h.release(2, 1, h.now_ns + 100 * kMs);
  REQUIRE(h.last<protocol::Run>(2));
  h.from(1,
         protocol::UpdateTask{1, {100 * kMs, 100 * kMs, 10 * kMs, {{1, 4 * kMs}, {2, 6 * kMs}}}});
  h.from(1, protocol::ResizeArena{1, 3, 0});
  CHECK(h.last<protocol::Verdict>(1)->request_refused);
  h.pass(kMs);
  h.from(2, protocol::JobDone{1, kMs});
  CHECK(h.last<protocol::Verdict>(1)->timing.wcet_ns == 20 * kMs);
  CHECK(h.last<protocol::Verdict>(1)->state == TaskState::admitted);
  h.from(1, protocol::ResizeArena{1, 3, 0});
  CHECK_FALSE(h.last<protocol::Verdict>(1)->request_refused);
}

}  // namespace
}  // namespace rtswap::arbiter::test
