// When what promises rest on does not hold: whose promises end, whose do not, and until when the
// bounds of all are suspended.
#include <algorithm>
#include <random>

#include "tests/catch.h"
#include "tests/unit/arbiter/harness.h"

namespace rtswap::arbiter::test {
namespace {

using protocol::kNoDeadline_ns;
using protocol::OnRefusal;
using protocol::TaskState;
using protocol::Timing;
using rtswap::test::contains;

constexpr Timing kSmall{100 * kMs, 100 * kMs, 10 * kMs};

void open(Harness& h, SessionId session, uint32_t chunks, const Timing& timing, int32_t importance,
          OnRefusal on_refusal = OnRefusal::refuse) {
  h.step(SessionOpened{session, static_cast<int64_t>(session) + 100, "user"});
  h.from(session, protocol::Hello{});
  h.from(session, protocol::OpenArena{1, 0, chunks, 0});
  protocol::OpenTask task{1, 1, "task" + std::to_string(session), timing, false, {}, on_refusal};
  task.importance = importance;
  h.from(session, task);
}

TaskState state(const Harness& h, SessionId session) {
  return h.last<protocol::Verdict>(session)->state;
}

bool suspended(const Harness& h, SessionId session) {
  return !h.last<protocol::Verdict>(session)->suspended.empty();
}

size_t traces(const Harness& h, Trace::Kind kind) {
  return static_cast<size_t>(
      std::count_if(h.effects.begin(), h.effects.end(), [kind](const Effect& effect) {
        const auto* trace = std::get_if<Trace>(&effect);
        return trace != nullptr && trace->kind == kind;
      }));
}

// Three alike, of which a link of 1 GB/s can keep two.
struct Three {
  explicit Three(const std::vector<int32_t>& importance, bool busy = false) : h(one_device(12)) {
    for (SessionId session = 1; session <= 3; ++session) {
      open(h, session, 6, {400 * kMs, 400 * kMs, 10 * kMs}, importance[session - 1]);
      REQUIRE(state(h, session) == TaskState::admitted);
    }
    if (busy) h.release(1, 1, h.now_ns + 400 * kMs);
    h.land_everything({1, 2, 3});
  }
  std::vector<SessionId> lost_on_slower_link() {
    h.from(1, protocol::DeviceReport{0, 0, 1'000'000'000, 0});
    h.finish();
    std::vector<SessionId> lost;
    for (SessionId session = 1; session <= 3; ++session) {
      if (state(h, session) != TaskState::admitted) lost.push_back(session);
    }
    return lost;
  }
  Harness h;
};

TEST_CASE("on a slower link the promises of the least important end, of equals the youngest") {
  using Lost = std::vector<SessionId>;
  CHECK(Three({0, 0, 0}).lost_on_slower_link() == Lost{3});
  CHECK(Three({-1, 0, 0}).lost_on_slower_link() == Lost{1});
  CHECK(Three({5, 4, 5}).lost_on_slower_link() == Lost{2});
  CHECK(Three({4, 4, 1000}).lost_on_slower_link() == Lost{2});
}

TEST_CASE("what has landed since the device was idle counts, as bounds are suspended till it is") {
  Three three({0, 0, 0}, true);
  CHECK(three.lost_on_slower_link() == std::vector<SessionId>{3});
  CHECK(suspended(three.h, 1));
}

TEST_CASE("a promise that ends says why and what would help, and can be asked for again") {
  Three three({1, 0, 1});
  three.lost_on_slower_link();
  Harness& h = three.h;
  const auto verdict = *h.last<protocol::Verdict>(2);
  CHECK(verdict.state == TaskState::best_effort);
  CHECK(verdict.response_bound_ns == 0);
  CHECK_THAT(verdict.reason.message, contains("measured to restore 1000 MB/s, and 10000 MB/s") &&
                                         contains("more important or older") &&
                                         contains("it would fit") &&
                                         contains("pause() and resume()"));
  h.from(3, protocol::CloseTask{1});
  h.from(2, protocol::PauseTask{1});
  h.from(2, protocol::ResumeTask{1});
  CHECK(state(h, 2) == TaskState::admitted);
}

TEST_CASE("a promise that cannot be kept at all takes no less important one with it") {
  Harness h(one_device(12));
  open(h, 1, 10, {400 * kMs, 60 * kMs, 10 * kMs}, 5);  // 10 chunks in 50 ms, or 9 of them stay
  open(h, 2, 3, {800 * kMs, 800 * kMs, 10 * kMs}, 0);
  open(h, 3, 3, {800 * kMs, 800 * kMs, 10 * kMs}, 0);
  h.land_everything({1, 2, 3});
  for (const SessionId session : {1, 2, 3}) REQUIRE(state(h, session) == TaskState::admitted);
  h.from(1, protocol::DeviceReport{0, 0, 1'000'000'000, 0});
  h.finish();
  CHECK(state(h, 1) == TaskState::best_effort);
  CHECK(state(h, 2) == TaskState::admitted);
  CHECK(state(h, 3) == TaskState::admitted);
}

TEST_CASE("where many promises end, those that stay are kept by the plan in force") {
  std::mt19937 random(7);
  const auto between = [&random](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random() % static_cast<uint64_t>(high - low + 1));
  };
  constexpr SessionId kTasks = 48;  // more than new plans are sought for
  Harness h(one_device(500));
  std::vector<SessionId> sessions;
  for (SessionId session = 1; session <= kTasks; ++session) {
    const int64_t period_ns = between(1000, 20000) * kMs;
    open(h, session, static_cast<uint32_t>(between(1, 60)),
         {period_ns, period_ns * between(6, 10) / 10, period_ns / 100}, 0, OnRefusal::best_effort);
    sessions.push_back(session);
  }
  h.land_everything(sessions);
  const auto count = [&h](TaskState wanted) {
    const auto tasks = h.arbiter.snapshot().tasks;
    return std::count_if(tasks.begin(), tasks.end(),
                         [wanted](const auto& task) { return task.state == wanted; });
  };
  const auto before = count(TaskState::admitted);
  h.from(1, protocol::DeviceReport{0, 0, 1'500'000'000, 0});
  h.finish();
  CHECK(count(TaskState::admitted) > 3);
  CHECK(before - count(TaskState::admitted) > 3);
  for (const auto& task : h.arbiter.snapshot().tasks) {
    INFO(task.name);
    const bool promised = task.state == TaskState::admitted;
    CHECK((task.response_bound_ns > 0) == promised);
    CHECK(task.response_bound_ns <= task.timing.deadline_ns);
  }
}

TEST_CASE("a newcomer ends no promise, whatever its importance") {
  Harness h(one_device(8));
  open(h, 1, 2, {100 * kMs, 100 * kMs, 60 * kMs}, -1000);
  open(h, 2, 2, {100 * kMs, 100 * kMs, 60 * kMs}, 1000);
  CHECK(state(h, 1) == TaskState::admitted);
  CHECK(state(h, 2) == TaskState::refused);
}

TEST_CASE("of those still loading the least important is refused, of equals the youngest") {
  const auto refused_on_slower_link = [](const std::vector<int32_t>& importance) {
    Harness h(one_device(12));
    open(h, 9, 1, {0, 0, 500 * kMs}, 0);
    h.land_everything({9});
    h.release(9, 1, kNoDeadline_ns);  // the others wait for its end: it is longer than they allow
    std::vector<SessionId> refused;
    for (SessionId session = 1; session <= 3; ++session) {
      open(h, session, 6, {400 * kMs, 400 * kMs, 10 * kMs}, importance[session - 1]);
      REQUIRE(h.all<protocol::Verdict>(session).empty());
    }
    h.from(1, protocol::DeviceReport{0, 0, 1'000'000'000, 0});
    h.from(9, protocol::JobDone{1, 500 * kMs});
    h.land_everything({1, 2, 3});
    for (SessionId session = 1; session <= 3; ++session) {
      if (state(h, session) == TaskState::refused) refused.push_back(session);
    }
    return refused;
  };
  using Refused = std::vector<SessionId>;
  CHECK(refused_on_slower_link({0, 0, 0}) == Refused{3});
  CHECK(refused_on_slower_link({-1, 0, 0}) == Refused{1});
  CHECK(refused_on_slower_link({5, 4, 5}) == Refused{2});
  CHECK(refused_on_slower_link({4, 4, 1000}) == Refused{2});
}

TEST_CASE("work without a promise goes by importance, then by arrival") {
  Harness h(one_device(8));
  const std::vector<int32_t> importance{0, 0, 7, -3, 7};
  for (SessionId session = 1; session <= 5; ++session) {
    open(h, session, 1, {0, 0, 10 * kMs}, importance[session - 1]);
  }
  h.land_everything({1, 2, 3, 4, 5});
  for (SessionId session = 1; session <= 5; ++session) h.release(session, 1, kNoDeadline_ns);
  std::vector<SessionId> order;
  while (order.size() < 5) {
    for (SessionId session = 1; session <= 5; ++session) {
      const bool ran = std::count(order.begin(), order.end(), session) > 0;
      if (ran || !h.last<protocol::Run>(session)) continue;
      order.push_back(session);
      h.from(session, protocol::JobDone{1, kMs});
      break;
    }
  }
  CHECK(order == std::vector<SessionId>{1, 3, 5, 2, 4});  // the first had the device already
}

TEST_CASE("promised jobs go by deadline, whatever their importance") {
  Harness h(one_device(8));
  open(h, 1, 1, {0, 0, kMs}, 0);
  open(h, 2, 1, kSmall, 1000);
  open(h, 3, 1, {90 * kMs, 90 * kMs, 10 * kMs}, -1000);
  h.land_everything({1, 2, 3});
  h.release(1, 1, kNoDeadline_ns);
  h.release(2, 1, h.now_ns + 100 * kMs);
  h.release(3, 1, h.now_ns + 90 * kMs);
  h.from(1, protocol::JobDone{1, kMs});
  CHECK(h.last<protocol::Run>(3));
  CHECK_FALSE(h.last<protocol::Run>(2));
}

TEST_CASE("the task file of the daemon says how important a task is") {
  Config config = one_device(8);
  config.overrides["task1"].importance = -7;
  config.overrides["task2"].resident = true;
  Harness h(config);
  open(h, 1, 1, kSmall, 3);
  open(h, 2, 1, kSmall, 3);
  CHECK(h.last<protocol::Verdict>(1)->importance == -7);
  CHECK(h.last<protocol::Verdict>(2)->importance == 3);
  CHECK(h.arbiter.snapshot().tasks[0].importance == -7);
}

// Two promised tasks; a job of the first has the GPU, one of the second waits if `waits`.
struct Two {
  explicit Two(bool waits, Config config = one_device(8)) : h(std::move(config)) {
    open(h, 1, 2, kSmall, 0);
    open(h, 2, 2, kSmall, 0);
    h.land_everything({1, 2});
    h.release(1, 1, h.now_ns + 100 * kMs);
    if (waits) h.release(2, 1, h.now_ns + 100 * kMs);
    REQUIRE(h.last<protocol::Run>(1));
  }
  Harness h;
};

TEST_CASE("a job that has the GPU for longer than its block suspends promises until it is idle") {
  Two two(true);
  Harness& h = two.h;
  h.pass(25 * kMs);
  CHECK_FALSE(suspended(h, 2));
  SECTION("because it overran") { h.from(1, protocol::JobDone{1, 24 * kMs}); }
  SECTION("because it waited for memory") { h.from(1, protocol::JobDone{1, 10 * kMs}); }
  REQUIRE(h.last<protocol::Run>(2));
  CHECK(suspended(h, 1));
  CHECK(suspended(h, 2));
  const auto device = h.arbiter.snapshot().devices[0];
  CHECK_THAT(device.suspended, contains("task1@101") && contains("25000 us"));
  CHECK(device.suspensions == 1);
  h.pass(5 * kMs);
  h.from(2, protocol::JobDone{1, 5 * kMs});
  CHECK_FALSE(suspended(h, 1));
  CHECK_FALSE(suspended(h, 2));
  CHECK(state(h, 2) == TaskState::admitted);
  CHECK(h.arbiter.snapshot().devices[0].suspended.empty());
  CHECK(traces(h, Trace::Kind::suspended) == 1);
  CHECK(traces(h, Trace::Kind::resumed) == 1);
}

TEST_CASE("nothing is suspended when a job ends within its block, or nobody waits for it") {
  const bool waits = GENERATE(true, false);
  Two two(waits);
  two.h.pass(waits ? 10 * kMs : 25 * kMs);
  two.h.from(1, protocol::JobDone{1, 24 * kMs});
  CHECK(traces(two.h, Trace::Kind::overrun) == 1);
  CHECK(traces(two.h, Trace::Kind::suspended) == 0);
}

TEST_CASE("a suspension lasts while a promised job waits, not while others do") {
  Two two(true);
  Harness& h = two.h;
  open(h, 3, 2, {0, 0, kMs}, 0);
  h.release(3, 1, kNoDeadline_ns);
  h.pass(25 * kMs);
  h.from(1, protocol::JobDone{1, 24 * kMs});
  h.release(1, 2, h.now_ns + 175 * kMs);
  h.from(2, protocol::JobDone{1, 5 * kMs});
  CHECK_FALSE(suspended(h, 1));  // its next job is early and does not compete yet
  CHECK(h.last<protocol::Run>(3));
}

TEST_CASE("a job of unknown length suspends promises from its begin to the next idle instant") {
  Harness h(one_device(8));
  open(h, 1, 2, kSmall, 0);
  open(h, 2, 2, {0, 0, 0}, 0);
  h.land_everything({1, 2});
  h.release(2, 1, kNoDeadline_ns);
  CHECK(suspended(h, 1));
  CHECK_FALSE(suspended(h, 2));  // has no promise
  h.release(1, 1, h.now_ns + 100 * kMs);
  h.from(2, protocol::JobDone{1, kMs});
  CHECK(suspended(h, 1));
  h.from(1, protocol::JobDone{1, kMs});
  CHECK_FALSE(suspended(h, 1));
}

TEST_CASE("who is admitted beside a job of unknown length hears of the suspension at once") {
  Harness h(one_device(8));
  open(h, 1, 2, {0, 0, 0}, 0);
  h.land_everything({1});
  h.release(1, 1, kNoDeadline_ns);
  CHECK(h.arbiter.snapshot().devices[0].suspensions == 0);  // nothing is promised
  open(h, 2, 2, kSmall, 0);
  CHECK(state(h, 2) == TaskState::admitted);
  CHECK(suspended(h, 2));
  h.from(1, protocol::JobDone{1, kMs});
  CHECK_FALSE(suspended(h, 2));
}

TEST_CASE("a hung job suspends promises until it answers or its process dies") {
  Config config = one_device(8);
  config.hang_timeout_ns = 200 * kMs;
  Two two(false, config);
  Harness& h = two.h;
  h.pass(200 * kMs);
  CHECK(suspended(h, 2));
  h.release(2, 1, h.now_ns + 100 * kMs);
  h.land_everything({2});
  h.from(2, protocol::JobDone{1, kMs});
  CHECK(suspended(h, 2));  // the device is idle, as far as anybody can tell
  SECTION("it answers") { h.from(1, protocol::JobDone{1, 300 * kMs}); }
  SECTION("it dies") { h.step(SessionDied{1}); }
  CHECK_FALSE(suspended(h, 2));
}

TEST_CASE("a slower link suspends the promises that stay, while the device is busy") {
  const bool busy = GENERATE(true, false);
  Three three({0, 0, 0});
  Harness& h = three.h;
  if (busy) h.release(1, 1, h.now_ns + 400 * kMs);
  three.lost_on_slower_link();
  REQUIRE(state(h, 1) == TaskState::admitted);
  CHECK(suspended(h, 1) == busy);
  if (busy) h.from(1, protocol::JobDone{1, kMs});
  CHECK_FALSE(suspended(h, 1));
}

TEST_CASE("a faster link suspends nothing") {
  Two two(true);
  two.h.from(1, protocol::DeviceReport{0, 0, 20'000'000'000, 0});
  CHECK(traces(two.h, Trace::Kind::suspended) == 0);
}

TEST_CASE("a link that is slower only for evictions is a slower link") {
  Two two(true);
  two.h.from(1, protocol::DeviceReport{0, 0, 20'000'000'000, 20'000'000'000});
  CHECK_FALSE(suspended(two.h, 1));
  two.h.from(2, protocol::DeviceReport{0, 0, 20'000'000'000, 9'000'000'000});
  CHECK_THAT(two.h.last<protocol::Verdict>(1)->suspended,
             contains("evict 9000 MB/s") && contains("20000 MB/s"));
}

TEST_CASE("a hold that makes only work without a promise late suspends nothing") {
  Two two(false);
  Harness& h = two.h;
  open(h, 3, 1, {100 * kMs, 50 * kMs, 0}, 0);  // no cost: best effort
  h.land_everything({3});
  h.release(3, 1, h.now_ns + 50 * kMs);
  h.pass(200 * kMs);
  CHECK(h.last<protocol::Dropped>(3));
  CHECK(traces(h, Trace::Kind::suspended) == 0);
}

TEST_CASE("the baseline suspends nothing: it promises nothing") {
  Config config = one_device(8);
  config.discipline = Discipline::request_order;
  Two two(true, config);
  two.h.pass(25 * kMs);
  two.h.from(1, protocol::JobDone{1, 24 * kMs});
  CHECK(traces(two.h, Trace::Kind::suspended) == 0);
}

}  // namespace
}  // namespace rtswap::arbiter::test
