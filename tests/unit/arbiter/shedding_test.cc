// Promises that are gone through in slices: what goes on meanwhile, and what is waited for.
#include <algorithm>
#include <random>

#include "tests/catch.h"
#include "tests/unit/arbiter/harness.h"

namespace rtswap::arbiter::test {
namespace {

using protocol::kNoDeadline_ns;
using protocol::OnRefusal;
using protocol::TaskState;
using rtswap::test::contains;

constexpr SessionId kTasks = 48;
constexpr int64_t kLong_ns = 60'000 * kMs;

// So many that a link of 1.5 GB/s takes many slices, all landed; the least important come first.
// The first step after the report has been taken.
struct Shedding {
  explicit Shedding(bool busy = false) : h(one_device(500)) {
    std::mt19937 random(7);
    const auto between = [&random](int64_t low, int64_t high) {
      return low + static_cast<int64_t>(random() % static_cast<uint64_t>(high - low + 1));
    };
    for (SessionId session = 1; session <= kTasks; ++session) {
      const int64_t period_ns = between(1000, 20000) * kMs;
      h.step(SessionOpened{session, static_cast<int64_t>(session) + 100, "user"});
      h.from(session, protocol::Hello{});
      h.from(session, protocol::OpenArena{1, 0, static_cast<uint32_t>(between(1, 60)), 0});
      protocol::OpenTask task{1,
                              1,
                              "task" + std::to_string(session),
                              {period_ns, period_ns * between(6, 10) / 10, period_ns / 100},
                              false,
                              {},
                              OnRefusal::best_effort};
      task.importance = static_cast<int32_t>(session);
      h.from(session, task);
      sessions.push_back(session);
    }
    h.land_everything(sessions);
    before = with(TaskState::admitted);
    if (busy) h.release(before.back(), 1, h.now_ns + kLong_ns);
    h.land_everything(sessions);
    measured(1'500'000'000);
    REQUIRE(h.has_more_to_do());
  }
  void measured(uint64_t bytes_per_s) { h.from(1, protocol::DeviceReport{0, 0, bytes_per_s, 0}); }
  std::vector<SessionId> with(TaskState wanted) const {
    std::vector<SessionId> found;
    const auto tasks = h.arbiter.snapshot().tasks;
    for (SessionId session = 1; session <= kTasks; ++session) {
      const std::string name = "task" + std::to_string(session) + "@";
      for (const auto& task : tasks) {
        if (task.name.starts_with(name) && task.state == wanted) found.push_back(session);
      }
    }
    return found;
  }
  bool suspended() const { return !h.arbiter.snapshot().devices[0].suspended.empty(); }
  size_t slices_to_the_end() {
    size_t slices = 0;
    for (; h.has_more_to_do(); ++slices) h.step(TimerFired{});
    return slices;
  }
  // Everybody knows what holds now.
  void check_end() {
    CHECK_FALSE(h.has_more_to_do());
    for (const auto& task : h.arbiter.snapshot().tasks) {
      INFO(task.name);
      CHECK((task.response_bound_ns > 0) == (task.state == TaskState::admitted));
      CHECK(task.response_bound_ns <= task.timing.deadline_ns);
    }
  }
  void end_job(SessionId session) {
    h.land_everything(sessions);
    REQUIRE(h.last<protocol::Run>(session));
    h.from(session, protocol::JobDone{1, kMs});
    h.land_everything(sessions);
  }
  Harness h;
  std::vector<SessionId> sessions;
  std::vector<SessionId> before;  // who had a promise
};

TEST_CASE("shedding: it takes many steps, and the end is the same whenever they come") {
  Shedding at_once;
  Shedding later;
  CHECK(at_once.slices_to_the_end() > 5);
  while (later.h.has_more_to_do()) later.h.pass(5 * kMs);
  CHECK(at_once.with(TaskState::admitted) == later.with(TaskState::admitted));
  CHECK(at_once.with(TaskState::admitted).size() < at_once.before.size());
  CHECK(at_once.with(TaskState::admitted).size() > 3);
  at_once.check_end();
}

TEST_CASE("shedding: memory that goes out of reach meanwhile puts all promises in question again") {
  Shedding whole;
  Shedding damaged;
  for (Shedding* all : {&whole, &damaged}) {
    while (all->h.free_chunks() > 0) all->h.land_everything(all->sessions);
  }
  const size_t slices = whole.slices_to_the_end();
  for (size_t slice = 1; slice < slices; ++slice) damaged.h.step(TimerFired{});
  // Sessions that were ended and live on keep their memory.
  for (const SessionId session : damaged.with(TaskState::best_effort)) {
    damaged.h.from(session, protocol::Evicted{1, 0, 0});
    REQUIRE(damaged.h.closed(session));
  }
  damaged.slices_to_the_end();
  damaged.check_end();
  CHECK(damaged.with(TaskState::admitted).size() < whole.with(TaskState::admitted).size());
}

TEST_CASE("shedding: promises are suspended until it is over, though the device is idle") {
  Shedding shedding;
  while (shedding.h.has_more_to_do()) {
    CHECK(shedding.suspended());
    shedding.h.step(TimerFired{});
  }
  CHECK_FALSE(shedding.suspended());
  for (const SessionId session : shedding.with(TaskState::admitted)) {
    const auto verdict = *shedding.h.last<protocol::Verdict>(session);
    CHECK(verdict.suspended.empty());
    CHECK(verdict.response_bound_ns > 0);
  }
}

TEST_CASE("shedding: and where the device is busy at the end, until it is idle") {
  Shedding shedding(true);
  shedding.h.finish();
  CHECK(shedding.suspended());
  shedding.end_job(shedding.before.back());
  CHECK_FALSE(shedding.suspended());
}

TEST_CASE("shedding: jobs go on meanwhile, by their deadlines, in question or not") {
  Shedding shedding(true);
  Harness& h = shedding.h;
  const SessionId last = shedding.before[0];  // whose turn comes last
  const SessionId sooner = shedding.before[1];
  h.release(last, 1, h.now_ns + kLong_ns);
  h.release(sooner, 1, h.now_ns + kLong_ns / 2);
  shedding.end_job(shedding.before.back());
  CHECK(h.last<protocol::Run>(sooner));
  CHECK_FALSE(h.last<protocol::Run>(last));
  shedding.end_job(sooner);
  CHECK(h.last<protocol::Run>(last));
  CHECK(h.has_more_to_do());
}

TEST_CASE("shedding: messages do no part of it") {
  Shedding shedding;
  const auto ended = shedding.with(TaskState::best_effort);
  for (int i = 0; i < 200; ++i) shedding.measured(1'500'000'000);  // as it is
  CHECK(shedding.with(TaskState::best_effort) == ended);
  CHECK(shedding.h.has_more_to_do());
}

TEST_CASE("shedding: a newcomer is answered after it, and ends no promise") {
  Shedding alone;
  alone.h.finish();
  Shedding joined;
  Harness& h = joined.h;
  h.open(kTasks + 1, 1, {kLong_ns, kLong_ns, kMs}, OnRefusal::best_effort);
  h.step(TimerFired{});
  REQUIRE(h.has_more_to_do());
  CHECK(h.all<protocol::Verdict>(kTasks + 1).empty());
  h.finish();
  CHECK(joined.with(TaskState::admitted) == alone.with(TaskState::admitted));
  CHECK_FALSE(h.all<protocol::Verdict>(kTasks + 1).empty());
  joined.check_end();
}

TEST_CASE("shedding: who is in question may leave, pause, come back or die") {
  Shedding shedding;
  Harness& h = shedding.h;
  // Their turns come last.
  const SessionId paused = shedding.before[0];
  h.from(paused, protocol::PauseTask{1});
  h.from(shedding.before[1], protocol::CloseTask{1});
  h.step(SessionDied{shedding.before[2]});
  h.from(shedding.before[3], protocol::PauseTask{1});
  h.from(shedding.before[3], protocol::ResumeTask{1});
  REQUIRE(h.has_more_to_do());
  CHECK(h.last<protocol::Verdict>(paused)->state == TaskState::paused);
  h.finish();
  CHECK(shedding.with(TaskState::paused) == std::vector<SessionId>{paused});
  shedding.check_end();
}

TEST_CASE("shedding: the search for one that leaves does not count for the next") {
  // In which slice each promise ended.
  Shedding reference;
  std::vector<std::pair<size_t, SessionId>> ends;
  for (size_t slice = 0; reference.h.has_more_to_do(); ++slice) {
    for (const SessionId session : reference.with(TaskState::best_effort)) {
      const auto known = [session](const auto& end) { return end.second == session; };
      if (std::none_of(ends.begin(), ends.end(), known)) ends.emplace_back(slice, session);
    }
    reference.h.step(TimerFired{});
  }
  const auto kept = reference.with(TaskState::admitted);
  size_t left = 0;
  for (size_t i = 1; i < ends.size(); ++i) {
    const auto [slice, session] = ends[i];
    if (slice < ends[i - 1].first + 3) continue;
    INFO("session " << session << " leaves before slice " << slice);
    Shedding shedding;
    for (size_t taken = 0; taken + 1 < slice; ++taken) shedding.h.step(TimerFired{});
    shedding.h.from(session, protocol::CloseTask{1});
    shedding.h.finish();
    CHECK(shedding.with(TaskState::admitted) == kept);
    ++left;
  }
  CHECK(left > 3);
}

// Until it is known who keeps a promise it would be tested without those whose turn has not come.
TEST_CASE("shedding: arenas grow after it") {
  Shedding shedding;
  Harness& h = shedding.h;
  const SessionId last = shedding.before[0];
  h.effects.clear();
  h.from(last, protocol::ResizeArena{1, 200, 0});
  REQUIRE(h.last<protocol::Verdict>(last));
  CHECK(h.last<protocol::Verdict>(last)->request_refused);
  CHECK_THAT(h.last<protocol::Verdict>(last)->reason.message, contains("try again"));
  h.finish();
  shedding.check_end();
}

TEST_CASE("shedding: it ends when nobody is in question any more") {
  Shedding shedding;
  for (SessionId session = 2; session <= kTasks; ++session) {
    shedding.h.step(SessionDied{session});
  }
  CHECK(shedding.slices_to_the_end() < 3);
  CHECK(shedding.with(TaskState::admitted) == std::vector<SessionId>{1});
  CHECK_FALSE(shedding.suspended());
}

TEST_CASE("shedding: a new timing comes into force after it") {
  Shedding shedding;
  Harness& h = shedding.h;
  const auto timing = h.last<protocol::Verdict>(kTasks)->timing;
  protocol::Timing slower = timing;
  slower.period_ns *= 2;
  slower.deadline_ns *= 2;
  h.from(kTasks, protocol::UpdateTask{1, slower});
  CHECK(h.last<protocol::Verdict>(kTasks)->timing.period_ns == timing.period_ns);
  h.finish();
  CHECK(h.last<protocol::Verdict>(kTasks)->timing.period_ns == slower.period_ns);
  shedding.check_end();
}

TEST_CASE("shedding: it begins anew when the link is measured slower again") {
  Shedding once;
  once.h.finish();
  Shedding twice;
  for (int i = 0; i < 5; ++i) twice.h.step(TimerFired{});
  twice.measured(800'000'000);
  twice.h.finish();
  CHECK(twice.with(TaskState::admitted).size() < once.with(TaskState::admitted).size());
  CHECK_FALSE(twice.suspended());
  twice.check_end();
  const auto keeps = twice.with(TaskState::admitted);
  for (const SessionId session : once.with(TaskState::admitted)) {
    if (std::find(keeps.begin(), keeps.end(), session) != keeps.end()) continue;
    CHECK_THAT(twice.h.last<protocol::Verdict>(session)->reason.message, contains("800 MB/s"));
  }
}

}  // namespace
}  // namespace rtswap::arbiter::test
