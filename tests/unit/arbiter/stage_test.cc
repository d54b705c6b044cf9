// Staged tasks: the rules of docs/scheduling.md, one by one.
#include <algorithm>
#include <array>
#include <map>

#include "tests/catch.h"
#include "tests/unit/arbiter/harness.h"

namespace rtswap::arbiter {
namespace {

using protocol::kNoDeadline_ns;
using protocol::LatePolicy;
using protocol::OnRefusal;
using protocol::TaskState;
using protocol::Timing;
using test::Harness;
using test::kMs;
using test::one_device;

constexpr SessionId kCamera = 1;  // direct, always there
constexpr SessionId kSmall = 2;   // direct, keeps nothing
constexpr SessionId kOther = 3;   // direct, keeps a part
constexpr SessionId kNear = 4;    // staged
constexpr SessionId kFar = 5;     // staged, with the later deadline
constexpr std::array<SessionId, 5> kAll{kCamera, kSmall, kOther, kNear, kFar};

// Of nine chunks; one takes 3.4 ms, two may be in flight. Clients do what they are told when a test
// says so.
struct Staged : Harness {
  explicit Staged(Config config = one_device(9)) : Harness(std::move(config)) {
    open(kCamera, 1, Timing{17 * kMs, 17 * kMs, 2 * kMs}, OnRefusal::refuse, true);
    open(kSmall, 1, Timing{200 * kMs, 100 * kMs, 2 * kMs});
    open(kOther, 2, Timing{200 * kMs, 150 * kMs, 2 * kMs});
    open(kNear, 6, Timing{400 * kMs, 400 * kMs, 5 * kMs});
    // Of its last chunk the restore hides behind the execution: its lead has five.
    open(kFar, 6, Timing{600 * kMs, 600 * kMs, 9 * kMs, {{3, 4 * kMs}, {6, 5 * kMs}}});
    answer_all();
    for (const SessionId session : kAll) {
      REQUIRE(last<protocol::Verdict>(session));
      REQUIRE(last<protocol::Verdict>(session)->state == TaskState::admitted);
      REQUIRE(last<protocol::Verdict>(session)->staged == (session >= kNear));
      verdicts[session] = *last<protocol::Verdict>(session);
    }
    effects.clear();
    done.clear();
  }

  // Carries out the next Grant or Revoke for the session, and says so. False: there is none.
  bool answer_one(SessionId session) {
    size_t& next = done[session];
    while (next < effects.size()) {
      const auto* send = std::get_if<Send>(&effects[next++]);
      if (send == nullptr || send->session != session) continue;
      if (const auto* grant = std::get_if<protocol::Grant>(&send->message)) {
        held[session] = grant->first_position + static_cast<uint32_t>(grant->chunks.size());
        from(session, protocol::Restored{1, held[session]});
        return true;
      }
      if (const auto* revoke = std::get_if<protocol::Revoke>(&send->message)) {
        held[session] = std::min(held[session], revoke->keep_chunks);
        from(session, protocol::Evicted{1, held[session], 0});
        return true;
      }
    }
    return false;
  }
  void answer_all() {
    for (bool any = true; any;) {
      any = false;
      for (const SessionId session : kAll) any |= answer_one(session);
    }
  }
  void release(SessionId session, protocol::JobId job) {
    Harness::release(session, job, now_ns + deadline_ns(session));
  }
  static int64_t deadline_ns(SessionId session) {
    return session == kCamera  ? 17 * kMs
           : session == kSmall ? 100 * kMs
           : session == kOther ? 150 * kMs
           : session == kNear  ? 400 * kMs
                               : 600 * kMs;
  }
  // Victims answer, so that the session gets memory; it does not.
  void answer_but(SessionId session) {
    for (bool any = true; any;) {
      any = false;
      for (const SessionId other : kAll) any |= other != session && answer_one(other);
    }
  }
  // One job from release to end, alone.
  void run_once(SessionId session, protocol::JobId job) {
    release(session, job);
    answer_all();
    REQUIRE(runs(session, job));
    finish(session, job);
    answer_all();
  }
  bool runs(SessionId session, protocol::JobId job) const {
    const auto run = last<protocol::Run>(session);
    return run && run->job == job;
  }
  // Chunks that were granted to the session and have not landed.
  uint32_t in_flight(SessionId session) {
    uint32_t chunks = 0;
    for (size_t i = done[session]; i < effects.size(); ++i) {
      const auto* send = std::get_if<Send>(&effects[i]);
      if (send == nullptr || send->session != session) continue;
      const auto* grant = std::get_if<protocol::Grant>(&send->message);
      if (grant != nullptr) chunks += static_cast<uint32_t>(grant->chunks.size());
    }
    return chunks;
  }
  // kFar has all of its chunks, kSmall none, the device is idle.
  void let_far_take_what_small_has() {
    release(kFar, 1);
    release(kCamera, 1);
    answer_all();
    release(kOther, 1);
    finish(kCamera, 1);
    answer_all();
    REQUIRE(runs(kOther, 1));
    finish(kOther, 1);
    answer_all();
    REQUIRE(runs(kFar, 1));
    finish(kFar, 1);
    answer_all();
    REQUIRE(held[kFar] == 6);
    REQUIRE(held[kSmall] == 0);
    pass(700 * kMs);
  }
  void finish(SessionId session, protocol::JobId job) {
    from(session, protocol::JobDone{job, kMs});
  }
  TaskState state(SessionId session) const {
    for (const auto& task : arbiter.snapshot().tasks) {
      if (task.session == session) return task.state;
    }
    return TaskState::refused;
  }

  std::map<SessionId, size_t> done;  // effects looked at
  std::map<SessionId, uint32_t> held;
  std::map<SessionId, protocol::Verdict> verdicts;
};

TEST_CASE("stage: verdicts say who is staged, and what lead and run take") {
  Staged h;
  const protocol::Verdict& near = h.verdicts[kNear];
  CHECK(near.block_ns == 5 * kMs + 200'000);
  CHECK(near.lead_ns > 5 * 3 * kMs);
  const protocol::Verdict& far = h.verdicts[kFar];
  CHECK(far.block_ns == 9 * kMs + 200'000);
  CHECK(far.lead_ns > 5 * 3 * kMs);
  CHECK(h.verdicts[kSmall].lead_ns == 0);
  CHECK(h.verdicts[kSmall].block_ns > 2 * 3 * kMs);
}

TEST_CASE("stage: it is never taken away, not even by an earlier deadline") {
  Staged h;
  h.release(kFar, 1);
  h.release(kNear, 1);
  h.answer_all();
  REQUIRE(h.runs(kFar, 1));
  CHECK_FALSE(h.runs(kNear, 1));
  h.finish(kFar, 1);
  h.answer_all();
  CHECK(h.runs(kNear, 1));
}

TEST_CASE("stage: the earliest deadline that waits gets it") {
  Staged h;
  h.release(kFar, 1);
  h.answer_all();
  REQUIRE(h.runs(kFar, 1));
  h.pass(650 * kMs);
  h.release(kFar, 2);
  h.release(kNear, 1);
  h.finish(kFar, 1);
  h.answer_all();
  CHECK(h.runs(kNear, 1));
  CHECK_FALSE(h.runs(kFar, 2));
}

TEST_CASE("stage: its holder goes after every direct job, whatever their deadlines") {
  Staged h;
  h.release(kNear, 1);
  h.answer_but(kNear);
  h.pass(290 * kMs);
  h.release(kSmall, 1);
  h.answer_all();
  REQUIRE(h.runs(kSmall, 1));
  h.release(kOther, 1);  // due after the staged job
  h.answer_all();
  h.finish(kSmall, 1);
  h.answer_all();
  CHECK(h.runs(kOther, 1));
  CHECK_FALSE(h.runs(kNear, 1));
  h.finish(kOther, 1);
  h.answer_all();
  CHECK(h.runs(kNear, 1));
}

TEST_CASE("stage: a run begins when its lead is there") {
  Staged h;
  h.run_once(kNear, 1);
  h.release(kFar, 1);
  h.answer_but(kFar);
  while (h.held[kFar] < 4) {
    REQUIRE(h.answer_one(kFar));
    h.answer_but(kFar);
    CHECK_FALSE(h.runs(kFar, 1));
  }
  REQUIRE(h.answer_one(kFar));
  CHECK(h.runs(kFar, 1));
  CHECK(h.held[kFar] == 5);
}

// The camera has the device, kFar the stage; a chunk is in flight for kSmall, whose job is gone.
struct Stray : Staged {
  Stray() {
    let_far_take_what_small_has();
    release(kCamera, 2);
    release(kSmall, 1);
    answer_but(kSmall);
    from(kSmall, protocol::CancelJob{1});
    release(kFar, 2);
    answer_but(kSmall);
    REQUIRE(in_flight(kSmall) == 1);
  }
};

TEST_CASE("stage: a run that lacks chunks waits for strays of others") {
  Stray h;
  REQUIRE(h.held[kFar] == 5);
  h.finish(kCamera, 2);
  CHECK_FALSE(h.runs(kFar, 2));
  h.answer_one(kSmall);
  CHECK(h.runs(kFar, 2));
}

// Chunks so small that sixteen may be asked back at a time, for kSmall here, whose job goes away.
TEST_CASE("stage: a run that lacks chunks waits for what was asked back of others") {
  struct Small : Harness {
    using Harness::Harness;
    void open_task(SessionId session, uint32_t chunks, uint32_t mutable_chunks, Timing timing) {
      step(SessionOpened{session, static_cast<int64_t>(session) + 100, "u"});
      from(session, protocol::Hello{});
      from(session, protocol::OpenArena{1, 0, chunks, mutable_chunks});
      const std::string name = "task" + std::to_string(session);
      from(session, protocol::OpenTask{1, 1, name, timing, session == kCamera, {}, {}});
    }
    void answer_all() {
      for (bool any = true; any;) {
        any = false;
        for (; answered < effects.size(); ++answered) {
          const auto* send = std::get_if<Send>(&effects[answered]);
          if (send == nullptr) continue;
          const protocol::ArbiterMessage message = send->message;
          const SessionId session = send->session;
          if (const auto* grant = std::get_if<protocol::Grant>(&message)) {
            held[session] = grant->first_position + static_cast<uint32_t>(grant->chunks.size());
            from(session, protocol::Restored{1, held[session]});
            any = true;
          } else if (const auto* revoke = std::get_if<protocol::Revoke>(&message)) {
            held[session] = std::min(held[session], revoke->keep_chunks);
            from(session, protocol::Evicted{1, held[session], 0});
            any = true;
          }
        }
      }
    }
    void release_in(SessionId session, protocol::JobId job, int64_t deadline_ms) {
      release(session, job, now_ns + deadline_ms * kMs);
    }
    void end(SessionId session, protocol::JobId job) {
      from(session, protocol::JobDone{job, kMs});
      answer_all();
    }
    size_t answered = 0;
    std::map<SessionId, uint32_t> held;
  };
  Config config = one_device(144);
  config.devices[0].description.chunk_bytes = 2 << 20;
  config.devices[0].chunk_cost_ns = 100'000;
  Small h(std::move(config));
  h.open_task(kCamera, 16, 0, Timing{22 * kMs, 22 * kMs, 2 * kMs});
  h.open_task(kSmall, 16, 0, Timing{200 * kMs, 100 * kMs, 2 * kMs});
  h.open_task(kOther, 32, 32, Timing{2000 * kMs, 1900 * kMs, 2 * kMs});
  h.open_task(kNear, 96, 96, Timing{900 * kMs, 900 * kMs, 5 * kMs});
  h.open_task(kFar, 96, 0, Timing{900 * kMs, 900 * kMs, 4 * kMs, {{48, 3 * kMs}, {96, kMs}}});
  h.answer_all();
  REQUIRE(h.last<protocol::Verdict>(kFar)->staged);
  h.release_in(kFar, 1, 900);
  h.release_in(kCamera, 1, 22);
  h.answer_all();
  h.release_in(kOther, 1, 1900);
  h.answer_all();
  for (const SessionId session : {kCamera, kOther, kFar}) h.end(session, 1);
  h.pass(950 * kMs);
  // A job of kFar that is cancelled behind its lead, while the camera has the device.
  h.release_in(kCamera, 2, 22);
  h.release_in(kNear, 1, 900);
  h.answer_all();
  h.from(kNear, protocol::CancelJob{1});
  h.answer_all();
  h.release_in(kFar, 2, 900);
  h.answer_all();
  h.from(kFar, protocol::CancelJob{2});
  h.answer_all();
  h.end(kCamera, 2);
  h.pass(950 * kMs);
  h.answer_all();
  h.release_in(kCamera, 3, 22);
  h.answer_all();
  const size_t runs = h.all<protocol::Run>(kFar).size();
  REQUIRE(h.held[kFar] < 96);
  h.release_in(kSmall, 1, 100);
  REQUIRE(h.last<protocol::Revoke>(kNear)->keep_chunks < h.held[kNear]);
  h.from(kSmall, protocol::CancelJob{1});
  h.release_in(kFar, 3, 900);
  h.from(kCamera, protocol::JobDone{3, kMs});
  CHECK(h.all<protocol::Run>(kFar).size() == runs);
  h.answer_all();
  CHECK(h.all<protocol::Run>(kFar).size() == runs + 1);
}

TEST_CASE("stage: one that lacks nothing begins in spite of them") {
  Staged h;
  h.let_far_take_what_small_has();
  h.release(kCamera, 2);
  h.from(kOther, protocol::CloseTask{1});
  h.from(kOther, protocol::CloseArena{1});
  h.release(kSmall, 1);
  h.from(kSmall, protocol::CancelJob{1});
  h.release(kFar, 2);
  h.answer_but(kSmall);
  REQUIRE(h.in_flight(kSmall) == 1);
  REQUIRE(h.held[kFar] == 6);
  h.finish(kCamera, 2);
  CHECK(h.runs(kFar, 2));
}

TEST_CASE("stage: nothing is restored beside the lead, which ends where it does") {
  Staged h;
  h.let_far_take_what_small_has();
  h.run_once(kNear, 1);
  h.pass(700 * kMs);
  h.release(kFar, 2);
  h.release(kCamera, 2);
  REQUIRE(h.held[kSmall] == 0);
  h.release(kSmall, 1);
  h.answer_all();
  CHECK(h.held[kFar] == 5);
  CHECK(h.held[kSmall] == 0);
}

TEST_CASE("stage: what the job on the device lacks goes before the lead") {
  Staged h;
  h.let_far_take_what_small_has();
  h.release(kNear, 1);
  h.release(kSmall, 1);
  h.answer_but(kSmall);
  REQUIRE(h.in_flight(kSmall) == 1);
  const uint32_t before = h.held[kNear];
  CHECK(before < 6);
  CHECK(h.in_flight(kNear) == 0);
  h.answer_all();
  CHECK(h.runs(kSmall, 1));
  CHECK(h.held[kNear] == 6);
}

TEST_CASE("stage: a lead streams, and no more is in flight than is charged") {
  Staged h;
  h.release(kFar, 1);
  h.answer_but(kFar);
  CHECK(h.in_flight(kFar) == 2);  // a quantum is one chunk; two is what two round trips take
  while (h.held[kFar] < 5) {
    CHECK(h.in_flight(kFar) <= 2);
    REQUIRE(h.answer_one(kFar));
    h.answer_but(kFar);
  }
}

TEST_CASE("stage: the lead of its holder is no victim") {
  Staged h;
  h.release(kNear, 1);
  h.release(kCamera, 1);
  h.answer_all();
  REQUIRE(h.held[kNear] == 6);
  protocol::JobId job = 0;
  for (const SessionId session : {kSmall, kOther}) {
    h.release(session, ++job);
  }
  h.finish(kCamera, 1);
  h.answer_all();
  REQUIRE(h.runs(kSmall, 1));
  h.finish(kSmall, 1);
  h.answer_all();
  REQUIRE(h.runs(kOther, 2));
  CHECK(h.all<protocol::Revoke>(kNear).empty());
  h.finish(kOther, 2);
  CHECK(h.runs(kNear, 1));
}

TEST_CASE("stage: best effort waits while a staged job is there") {
  Staged h;
  const SessionId extra = 9;
  h.open(extra, 1, Timing{0, 0, kMs});
  h.answer_all();
  h.release(kNear, 1);
  h.from(extra, protocol::Release{1, 1, h.now_ns, kNoDeadline_ns});
  CHECK_FALSE(h.last<protocol::Run>(extra));
  h.answer_all();
  REQUIRE(h.runs(kNear, 1));
  h.finish(kNear, 1);
  CHECK(h.last<protocol::Run>(extra));
}

TEST_CASE("stage: a direct job does not start before its competing deadline less D") {
  Staged h;
  h.release(kFar, 1);  // so that no instant is idle
  h.answer_but(kFar);
  // An old stamp: due soon, but it competes as if released now.
  h.from(kSmall, protocol::Release{1, 1, h.now_ns - 80 * kMs, h.now_ns + 20 * kMs});
  h.answer_but(kFar);
  REQUIRE(h.runs(kSmall, 1));
  h.finish(kSmall, 1);
  // A period after the stamp, but not after it came.
  h.pass(120 * kMs);
  h.from(kSmall, protocol::Release{2, 1, h.now_ns, h.now_ns + 100 * kMs});
  h.answer_but(kFar);
  CHECK_FALSE(h.runs(kSmall, 2));
  h.pass(79 * kMs);
  CHECK_FALSE(h.runs(kSmall, 2));
  h.pass(kMs);
  CHECK(h.runs(kSmall, 2));
}

TEST_CASE("stage: a task that joins waits for an idle instant") {
  Staged h;
  const SessionId late = 9;
  h.release(kFar, 1);
  h.open(late, 1, Timing{1'000 * kMs, 1'000 * kMs, kMs / 2});
  CHECK(h.state(late) == TaskState::loading);
  h.answer_all();
  REQUIRE(h.runs(kFar, 1));
  CHECK(h.state(late) == TaskState::loading);
  h.finish(kFar, 1);
  CHECK(h.state(late) == TaskState::admitted);
}

TEST_CASE("stage: a job of one that joins makes another wait for the next idle instant only") {
  Staged h;
  const Timing rare{1'000 * kMs, 1'000 * kMs, kMs / 4};
  h.release(kFar, 1);
  h.open(8, 1, rare);
  h.open(9, 1, rare);
  h.Harness::release(8, 1, h.now_ns + 1'000 * kMs);
  h.answer_all();
  h.finish(kFar, 1);
  CHECK(h.state(8) == TaskState::admitted);
  CHECK(h.state(9) == TaskState::loading);
  h.answer_all();
  h.land(8);
  REQUIRE(h.runs(8, 1));
  h.finish(8, 1);
  h.answer_all();
  CHECK(h.state(9) == TaskState::admitted);
}

TEST_CASE("stage: modes change at idle instants") {
  Staged h;
  h.release(kFar, 1);
  h.from(kCamera, protocol::CloseTask{1});  // without it nobody needs to be staged
  h.answer_all();
  REQUIRE(h.runs(kFar, 1));
  CHECK(h.all<protocol::Verdict>(kFar).empty());
  h.finish(kFar, 1);
  REQUIRE(h.last<protocol::Verdict>(kFar));
  CHECK_FALSE(h.last<protocol::Verdict>(kFar)->staged);
  CHECK(h.last<protocol::Verdict>(kFar)->lead_ns == 0);
}

TEST_CASE("stage: not before what a lead has left in flight is as little as direct jobs expect") {
  Staged h;
  h.release(kFar, 1);
  h.answer_but(kFar);
  REQUIRE(h.in_flight(kFar) == 2);
  h.from(kCamera, protocol::CloseTask{1});
  h.from(kFar, protocol::CancelJob{1});
  CHECK(h.all<protocol::Verdict>(kFar).empty());
  h.from(kFar, protocol::Restored{1, 1});
  REQUIRE(h.last<protocol::Verdict>(kFar));
  CHECK_FALSE(h.last<protocol::Verdict>(kFar)->staged);
}

TEST_CASE("stage: a new timing waits for an idle instant") {
  Staged h;
  h.release(kFar, 1);
  h.from(kFar, protocol::UpdateTask{1, Timing{700 * kMs, 700 * kMs, 6 * kMs}});
  h.answer_all();
  REQUIRE(h.runs(kFar, 1));
  CHECK(h.all<protocol::Verdict>(kFar).empty());
  h.finish(kFar, 1);
  REQUIRE(h.last<protocol::Verdict>(kFar));
  CHECK(h.last<protocol::Verdict>(kFar)->timing.period_ns == 700 * kMs);
  CHECK(h.last<protocol::Verdict>(kFar)->staged);
}

TEST_CASE("stage: tasks that share an arena share its mode") {
  Staged h;
  h.from(kFar,
         protocol::OpenTask{2, 1, "shares", Timing{900 * kMs, 900 * kMs, 3 * kMs}, {}, {}, {}});
  h.answer_all();
  for (const auto& verdict : h.all<protocol::Verdict>(kFar)) {
    CHECK(verdict.state == TaskState::admitted);
    CHECK(verdict.staged);
  }
  REQUIRE(h.last<protocol::Verdict>(kFar)->task == 2);
  h.from(kFar, protocol::Release{1, 2, h.now_ns, h.now_ns + 900 * kMs});
  h.release(kFar, 2);
  h.answer_all();
  REQUIRE(h.runs(kFar, 1));  // it had the stage
  CHECK(h.held[kFar] == 6);  // the other task needs all of it from the start
  h.finish(kFar, 1);
  CHECK(h.runs(kFar, 2));
}

TEST_CASE("stage: a restarted arbiter plans as before with what clients hold") {
  Staged before;
  before.let_far_take_what_small_has();
  Config config = one_device(9);
  config.sessions_to_recover = kAll.size();
  Harness h(config);
  const std::map<SessionId, std::vector<protocol::ChunkId>> resident{
      {kCamera, {0}}, {kSmall, {}}, {kOther, {1, 2}}, {kNear, {}}, {kFar, {3, 4, 5, 6, 7, 8}}};
  for (const SessionId session : kAll) {
    h.step(SessionOpened{session + 10, static_cast<int64_t>(session), "user"});
    protocol::Hello hello;
    hello.resumed_session = session;
    hello.held = {{1, 0, "SIM-0",
                   session >= kNear    ? 6U
                   : session == kOther ? 2U
                                       : 1U,
                   resident.at(session)}};
    h.from(session + 10, hello);
  }
  for (const SessionId session : kAll) {
    h.from(session + 10, protocol::OpenArena{1, 0,
                                             session >= kNear    ? 6U
                                             : session == kOther ? 2U
                                                                 : 1U,
                                             0});
    h.from(session + 10,
           protocol::OpenTask{
               1, 1, "task", before.verdicts[session].timing, session == kCamera, {}, {}});
  }
  for (const SessionId session : kAll) {
    const auto verdict = h.last<protocol::Verdict>(session + 10);
    REQUIRE(verdict);
    CHECK(verdict->state == TaskState::admitted);
    CHECK(verdict->staged == (session >= kNear));
  }
  h.release(kFar + 10, 1, h.now_ns + 600 * kMs);
  CHECK(h.last<protocol::Run>(kFar + 10));
}

TEST_CASE("stage: not even where the link turns out to be slower") {
  Staged h;
  h.release(kFar, 1);
  h.from(kCamera, protocol::CloseTask{1});
  protocol::DeviceReport report;
  report.restore_bytes_per_s = 9'900'000'000;
  h.from(kSmall, report);
  h.answer_all();
  REQUIRE(h.runs(kFar, 1));
  CHECK(h.last<protocol::Verdict>(kFar)->staged);
  h.finish(kFar, 1);
  CHECK_FALSE(h.last<protocol::Verdict>(kFar)->staged);
}

TEST_CASE("stage: whoever cannot have its lead passes it on") {
  Staged h;
  h.release(kFar, 1);
  h.release(kNear, 1);
  h.answer_but(kFar);
  SECTION("its process dies") { h.step(SessionDied{kFar}); }
  SECTION("its job is cancelled") {
    h.from(kFar, protocol::CancelJob{1});
    h.answer_all();
  }
  SECTION("its task is paused") {
    h.from(kFar, protocol::PauseTask{1});
    h.answer_all();
  }
  SECTION("its task is closed") {
    h.from(kFar, protocol::CloseTask{1});
    h.answer_all();
  }
  SECTION("its restores fail") {
    const Error failure{ErrorCode::driver_failure, "the copy failed"};
    for (int answer = 0; answer < 6 && !h.last<protocol::Dropped>(kFar); ++answer) {
      h.from(kFar, protocol::RestoreFailed{1, 0, failure});
      h.answer_but(kFar);
    }
    REQUIRE(h.last<protocol::Dropped>(kFar));
  }
  h.answer_but(kFar);
  CHECK(h.runs(kNear, 1));
}

// What it left in flight delays the next lead by more than that is charged with.
TEST_CASE("stage: a lead that is cancelled keeps it while more than a quantum comes in") {
  Staged h;
  h.release(kFar, 1);
  h.answer_but(kFar);
  REQUIRE(h.in_flight(kFar) == 2);
  h.from(kFar, protocol::CancelJob{1});
  h.pass(650 * kMs);
  h.release(kFar, 2);
  h.release(kNear, 1);  // the earlier deadline, and not too late for it
  h.answer_all();
  CHECK(h.runs(kNear, 1));
  CHECK_FALSE(h.runs(kFar, 2));
  h.finish(kNear, 1);
  h.answer_all();
  CHECK(h.runs(kFar, 2));
}

TEST_CASE("stage: a link that is lost passes it on") {
  Staged h;
  h.release(kFar, 1);
  h.release(kNear, 1);
  h.step(SessionDisconnected{kFar});
  h.answer_but(kFar);
  CHECK(h.runs(kNear, 1));
}

TEST_CASE("stage: a client that does not answer loses it") {
  Config config = one_device(9);
  config.hang_timeout_ns = 100 * kMs;
  Staged h(config);
  h.release(kFar, 1);
  h.release(kNear, 1);
  h.answer_but(kFar);
  REQUIRE(h.in_flight(kFar) > 0);
  h.pass(150 * kMs);
  REQUIRE(h.last<protocol::Dropped>(kFar));
  CHECK(h.last<protocol::Dropped>(kFar)->reason.code == ErrorCode::timed_out);
  h.answer_all();  // late
  CHECK(h.runs(kNear, 1));
}

TEST_CASE("stage: a late job that goes on needs a gap for its lead, too") {
  Staged h;
  h.from(kFar, protocol::CloseTask{1});
  Timing timing = h.verdicts[kFar].timing;
  timing.period_ns *= 2;
  h.from(kFar, protocol::OpenTask{1, 1, "late", timing, false, LatePolicy::run, {}});
  h.answer_all();
  REQUIRE(h.last<protocol::Verdict>(kFar)->staged);
  h.release(kFar, 1);
  h.answer_but(kFar);
  h.pass(600 * kMs);  // too late: without a deadline from now on
  protocol::JobId job = 1;
  for (const SessionId session : {kSmall, kOther, kNear, kCamera}) {
    h.release(session, ++job);
    h.answer_all();
    REQUIRE(h.runs(session, job));
    h.finish(session, job);
  }
  // The camera comes again in 17 ms: time for the run, not for what it lacks.
  CHECK_FALSE(h.runs(kFar, 1));
  h.from(kCamera, protocol::PauseTask{1});
  h.answer_all();
  CHECK(h.runs(kFar, 1));
}

}  // namespace
}  // namespace rtswap::arbiter
