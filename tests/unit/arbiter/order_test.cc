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

TEST_CASE("an idle instant before the turn of an early job is none between it and the next") {
  Harness h(one_device(64));
  constexpr SessionId kOther = 2;
  h.open(kShort, 2, {450 * kMs, 450 * kMs, 5 * kMs});
  h.open(kOther, 2, {1000 * kMs, 500 * kMs, 5 * kMs});
  for (const SessionId filler : {3, 4}) h.open(filler, 2, {2000 * kMs, 2000 * kMs, 230 * kMs});
  h.land_everything({kShort, kOther, 3, 4});
  const int64_t begin_ns = h.now_ns;
  const auto at = [&](int64_t ms) { h.pass(begin_ns + ms * kMs - h.now_ns); };
  const auto release = [&](protocol::JobId job, int64_t stamp_ms) {
    const int64_t stamp_ns = begin_ns + stamp_ms * kMs;
    h.from(kShort, protocol::Release{job, 1, stamp_ns, stamp_ns + 450 * kMs});
  };
  release(1, -418);  // competes from when it is seen
  at(3);
  release(2, 3);  // early: in the queue from 32 on, competes a period after the first
  at(5);
  h.from(kShort, protocol::JobDone{1, 5 * kMs});  // idle now
  at(32);
  REQUIRE(h.last<protocol::Run>(kShort)->job == 2);
  for (const SessionId filler : {3, 4}) h.release(filler, 1, h.now_ns + 2000 * kMs);
  at(37);
  h.from(kShort, protocol::JobDone{2, 5 * kMs});
  at(260);
  h.from(3, protocol::JobDone{1, 223 * kMs});
  at(482);
  release(3, 482);  // competes a period after the second: it is due behind the other one
  h.release(kOther, 1, h.now_ns + 500 * kMs);
  at(489);
  h.from(4, protocol::JobDone{1, 229 * kMs});
  CHECK(h.last<protocol::Run>(kOther));
  CHECK(h.last<protocol::Run>(kShort)->job == 2);
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
