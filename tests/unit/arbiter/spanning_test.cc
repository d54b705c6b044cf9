// Tasks that span two devices: all of their devices at one instant, or none.
#include <algorithm>

#include "tests/catch.h"
#include "tests/unit/arbiter/harness.h"

namespace rtswap::arbiter {
namespace {

using protocol::Dropped;
using protocol::Grant;
using protocol::kNoDeadline_ns;
using protocol::OnRefusal;
using protocol::Revoke;
using protocol::Run;
using protocol::TaskState;
using protocol::Timing;
using protocol::Verdict;
using test::kMs;

// Two devices of ten chunks; a chunk takes 3.4 ms.
constexpr uint32_t kChunks = 10;
constexpr SessionId kSpan = 1;  // arenas 1 and 2 on devices 0 and 1, task 1
constexpr SessionId kFirst = 2;
constexpr SessionId kSecond = 3;

Config two_devices() {
  Config config = test::one_device(kChunks);
  config.devices.push_back(config.devices[0]);
  config.devices[1].description.uuid = "SIM-1";
  config.hang_timeout_ns = 100 * kMs;
  return config;
}

class Scene : public test::Harness {
 public:
  explicit Scene(const Config& config = two_devices()) : Harness(config) {}

  void connect(SessionId session) {
    step(SessionOpened{session, static_cast<int64_t>(session) + 100, "user"});
    from(session, protocol::Hello{});
  }
  void open_spanning(SessionId session, uint32_t first, uint32_t second, Timing timing,
                     OnRefusal on_refusal = OnRefusal::refuse) {
    connect(session);
    from(session, protocol::OpenArena{1, 0, first, 0});
    from(session, protocol::OpenArena{2, 1, second, 0});
    protocol::OpenTask task{1, 1, "span", timing, false, {}, on_refusal, {2}};
    from(session, task);
  }
  void open_on(uint32_t device, SessionId session, uint32_t chunks, Timing timing,
               int32_t importance = 0) {
    connect(session);
    from(session, protocol::OpenArena{1, device, chunks, 0});
    protocol::OpenTask task{1, 1, "task" + std::to_string(session), timing};
    task.importance = importance;
    from(session, task);
  }
  void release_best_effort(SessionId session, protocol::JobId job) {
    release(session, job, kNoDeadline_ns);
  }
  // Everything granted to this arena has landed.
  void land(SessionId session, protocol::ArenaId arena) {
    uint32_t end = 0;
    for (const Grant& grant : all<Grant>(session)) {
      if (grant.arena != arena) continue;
      end = grant.first_position + static_cast<uint32_t>(grant.chunks.size());
    }
    if (end > 0) from(session, protocol::Restored{arena, end});
  }
  void land_all() {
    for (int round = 0; round < 16; ++round) {
      land(kSpan, 1);
      land(kSpan, 2);
      for (const SessionId session : {kFirst, kSecond}) land(session, 1);
    }
  }
  // Answers the revokes that were not answered yet.
  void evict(SessionId session) {
    const auto revokes = all<Revoke>(session);
    for (size_t& next = answered_[session]; next < revokes.size(); ++next) {
      from(session, protocol::Evicted{revokes[next].arena, revokes[next].keep_chunks, 0});
    }
  }
  std::string running(size_t device) const { return arbiter.snapshot().devices[device].running; }
  bool holds_both(const std::string& task) const {
    return running(0) == task && running(1) == task;
  }
  bool both_idle() const { return running(0).empty() && running(1).empty(); }
  size_t runs(SessionId session) const { return all<Run>(session).size(); }
  // Devices on which this was traced, in order.
  std::vector<uint32_t> traced(Trace::Kind kind) const {
    std::vector<uint32_t> devices;
    for (const Effect& effect : effects) {
      const auto* trace = std::get_if<Trace>(&effect);
      if (trace != nullptr && trace->kind == kind) devices.push_back(trace->device);
    }
    return devices;
  }
  void done(SessionId session, protocol::JobId job) { from(session, protocol::JobDone{job, kMs}); }

 private:
  std::map<SessionId, size_t> answered_;
};

const std::string kSpanName = "span@101";
const Timing kAperiodic{0, 0, 2 * kMs};

TEST_CASE("a spanning task is best effort and says why") {
  Scene scene;
  scene.open_spanning(kSpan, 4, 4, kAperiodic);
  const Verdict verdict = *scene.last<Verdict>(kSpan);
  CHECK(verdict.state == TaskState::best_effort);
  CHECK_FALSE(verdict.request_refused);
  CHECK(verdict.response_bound_ns == 0);
  CHECK_THAT(verdict.reason.message, rtswap::test::contains("several devices is not offered"));
  CHECK(scene.all<Verdict>(kSpan).size() == 1);
}

TEST_CASE("a spanning task that insists on a promise is refused") {
  Scene scene;
  const Timing periodic{100 * kMs, 100 * kMs, kMs};
  scene.open_spanning(kSpan, 4, 4, periodic);
  CHECK(scene.last<Verdict>(kSpan)->state == TaskState::refused);
  CHECK(scene.last<Verdict>(kSpan)->request_refused);

  scene.open_spanning(kFirst, 4, 4, periodic, OnRefusal::best_effort);
  CHECK(scene.last<Verdict>(kFirst)->state == TaskState::best_effort);

  // The same for a change of its timing.
  scene.open_spanning(kSecond, 4, 4, kAperiodic);
  scene.from(kSecond, protocol::UpdateTask{1, periodic});
  CHECK(scene.last<Verdict>(kSecond)->request_refused);
  CHECK(scene.last<Verdict>(kSecond)->state == TaskState::best_effort);
}

TEST_CASE("a spanning task that does not fit one of its devices is refused on both") {
  Scene scene;
  scene.open_spanning(kSpan, 4, kChunks + 1, kAperiodic);
  const Verdict verdict = *scene.last<Verdict>(kSpan);
  CHECK(verdict.state == TaskState::refused);
  CHECK(verdict.reason.code == ErrorCode::model_too_large);
  CHECK_THAT(verdict.reason.message, rtswap::test::contains("SIM-1"));
  for (const auto& task : scene.arbiter.snapshot().tasks) CHECK(task.state == TaskState::refused);
}

TEST_CASE("two arenas of a task on one device break the protocol") {
  Scene scene;
  scene.connect(kSpan);
  scene.from(kSpan, protocol::OpenArena{1, 0, 2, 0});
  scene.from(kSpan, protocol::OpenArena{2, 0, 2, 0});
  scene.from(kSpan, protocol::OpenTask{1, 1, "span", kAperiodic, false, {}, {}, {2}});
  CHECK(scene.closed(kSpan));
}

TEST_CASE("one job gets both devices, one Run, and ends on both") {
  Scene scene;
  scene.open_spanning(kSpan, 4, 6, kAperiodic);
  scene.release_best_effort(kSpan, 1);
  CHECK(scene.holds_both(kSpanName));
  CHECK(scene.runs(kSpan) == 1);
  scene.land(kSpan, 1);
  CHECK(scene.traced(Trace::Kind::run_begin).empty());
  scene.land_all();
  CHECK(scene.traced(Trace::Kind::run_begin) == std::vector<uint32_t>{0, 1});
  CHECK(scene.traced(Trace::Kind::run_end).empty());
  for (const auto& task : scene.arbiter.snapshot().tasks) {
    CHECK(task.resident_chunks == task.arena_chunks);
  }
  scene.done(kSpan, 1);
  CHECK(scene.both_idle());
  CHECK(scene.traced(Trace::Kind::run_end) == std::vector<uint32_t>{0, 1});
  for (const auto& task : scene.arbiter.snapshot().tasks) CHECK(task.met == 1);
  CHECK(scene.all<Dropped>(kSpan).empty());
}

TEST_CASE("it starts only when all of its devices are free, and holds none before") {
  Scene scene;
  scene.open_spanning(kSpan, 4, 4, kAperiodic);
  const uint32_t busy = GENERATE(0u, 1u);
  scene.open_on(busy, kFirst, 4, kAperiodic);
  scene.land_all();
  scene.release_best_effort(kFirst, 1);
  scene.release_best_effort(kSpan, 1);
  CHECK(scene.running(1 - busy).empty());
  CHECK(scene.runs(kSpan) == 0);
  scene.done(kFirst, 1);
  CHECK(scene.holds_both(kSpanName));
  CHECK(scene.runs(kSpan) == 1);
}

TEST_CASE("later best-effort work does not overtake it while a device only ends its job") {
  Scene scene;
  scene.open_spanning(kSpan, 2, 2, kAperiodic);
  scene.open_on(0, kFirst, 2, kAperiodic);
  scene.open_on(1, kSecond, 2, kAperiodic);
  scene.land_all();
  scene.release_best_effort(kSecond, 1);
  scene.release_best_effort(kSpan, 1);
  scene.release_best_effort(kFirst, 1);   // could have device 0
  scene.release_best_effort(kSecond, 2);  // and this device 1, next
  CHECK(scene.running(0).empty());
  scene.done(kSecond, 1);
  CHECK(scene.holds_both(kSpanName));
  scene.done(kSpan, 1);
  CHECK(scene.running(0) == "task2@102");
  CHECK(scene.running(1) == "task3@103");
}

TEST_CASE("more important work overtakes it where it waits, less important work does not") {
  Scene scene;
  constexpr SessionId kThird = 4;
  scene.open_spanning(kSpan, 2, 2, kAperiodic);
  scene.open_on(0, kFirst, 2, kAperiodic, 1);
  scene.open_on(1, kSecond, 2, kAperiodic, 1);
  scene.open_on(0, kThird, 2, kAperiodic, -1);
  scene.land_all();
  scene.land(kThird, 1);
  scene.release_best_effort(kSecond, 1);
  scene.release_best_effort(kThird, 1);  // comes first, finds device 0 free
  scene.release_best_effort(kThird, 2);
  scene.release_best_effort(kSpan, 1);
  scene.release_best_effort(kFirst, 1);
  scene.done(kThird, 1);
  CHECK(scene.running(0) == "task2@102");
  scene.done(kFirst, 1);
  CHECK(scene.running(0).empty());
  scene.done(kSecond, 1);
  CHECK(scene.holds_both(kSpanName));
  scene.done(kSpan, 1);
  CHECK(scene.running(0) == "task4@104");
}

TEST_CASE("promised work goes first on each device, and holds nobody else up for it") {
  Scene scene;
  constexpr SessionId kThird = 4;
  const Timing promised{100 * kMs, 100 * kMs, 2 * kMs};
  scene.open_on(1, kSecond, 2, promised);
  scene.open_on(1, kThird, 2, promised);
  scene.open_on(0, kFirst, 2, kAperiodic);
  scene.open_spanning(kSpan, 2, 2, kAperiodic);
  scene.land_all();
  REQUIRE(scene.last<Verdict>(kThird)->state == TaskState::admitted);
  // One promised job has device 1 and another waits for it.
  scene.release(kSecond, 1, scene.now_ns + 100 * kMs);
  scene.release(kThird, 1, scene.now_ns + 100 * kMs);
  scene.release_best_effort(kSpan, 1);
  scene.release_best_effort(kFirst, 1);
  CHECK(scene.running(0) == "task2@102");
  scene.land_all();
  scene.done(kSecond, 1);
  CHECK(scene.running(1) == "task4@104");
  scene.done(kFirst, 1);
  CHECK(scene.running(0).empty());
  scene.land(kThird, 1);
  scene.done(kThird, 1);
  CHECK(scene.holds_both(kSpanName));
}

TEST_CASE("of two spanning jobs the older one goes first, whatever device is asked") {
  Config config = two_devices();
  config.devices.push_back(config.devices[0]);
  config.devices[2].description.uuid = "SIM-2";
  Scene scene(config);
  scene.open_spanning(kSpan, 2, 2, kAperiodic);  // devices 0 and 1
  scene.connect(kFirst);                         // devices 1 and 2
  scene.from(kFirst, protocol::OpenArena{1, 1, 2, 0});
  scene.from(kFirst, protocol::OpenArena{2, 2, 2, 0});
  scene.from(kFirst, protocol::OpenTask{1, 1, "other", kAperiodic, false, {}, {}, {2}});
  scene.open_on(2, kSecond, 2, kAperiodic);
  scene.release_best_effort(kSecond, 1);
  scene.release_best_effort(kFirst, 1);
  scene.release_best_effort(kSpan, 1);
  CHECK(scene.both_idle());
  scene.land_all();
  scene.done(kSecond, 1);
  CHECK(scene.running(0).empty());
  CHECK(scene.running(1) == "other@102");
  CHECK(scene.running(2) == "other@102");
  scene.land(kFirst, 1);
  scene.land(kFirst, 2);
  scene.done(kFirst, 1);
  CHECK(scene.holds_both(kSpanName));
}

TEST_CASE("its hold of each device is the longest of them, and fits the promises of each") {
  // On device 1 a promise that leaves little room; the part there is small, the one on device 0
  // takes long to restore.
  const bool room = GENERATE(false, true);
  Scene scene;
  const int64_t period_ns = room ? 200 * kMs : 20 * kMs;
  scene.open_on(1, kSecond, 2, {period_ns, period_ns, 2 * kMs});
  scene.open_on(0, kFirst, 8, kAperiodic);
  scene.open_spanning(kSpan, 8, 2, kAperiodic);
  scene.land_all();
  REQUIRE(scene.last<Verdict>(kSecond)->state == TaskState::admitted);
  const int64_t block_ns = scene.last<Verdict>(kSpan)->block_ns;
  CHECK(block_ns > 20 * kMs);  // eight chunks and more
  scene.pass(kMs);
  scene.release_best_effort(kSpan, 1);
  if (room) {
    CHECK(scene.holds_both(kSpanName));
    return;
  }
  // A release may come at any time: no gap is known, on either device it waits.
  CHECK(scene.both_idle());
  CHECK(scene.runs(kSpan) == 0);
}

TEST_CASE("restores go on at both devices at once and the faster one waits") {
  Scene scene;
  scene.open_spanning(kSpan, 6, 6, kAperiodic);
  scene.open_on(0, kFirst, 8, kAperiodic);
  scene.release_best_effort(kFirst, 1);
  scene.land_all();
  scene.done(kFirst, 1);
  scene.release_best_effort(kSpan, 1);
  CHECK(scene.holds_both(kSpanName));
  scene.land(kSpan, 2);
  // Device 0 still evicts; device 1 is complete, and held.
  CHECK(scene.holds_both(kSpanName));
  scene.evict(kFirst);
  scene.land_all();
  scene.done(kSpan, 1);
  CHECK(scene.both_idle());
}

TEST_CASE("cancelled while it waits, it waits nowhere") {
  Scene scene;
  scene.open_spanning(kSpan, 4, 4, kAperiodic);
  scene.open_on(1, kSecond, 4, kAperiodic);
  scene.release_best_effort(kSecond, 1);
  scene.release_best_effort(kSpan, 1);
  scene.from(kSpan, protocol::CancelJob{1});
  CHECK(scene.all<Dropped>(kSpan).size() == 1);
  scene.land_all();
  scene.done(kSecond, 1);
  CHECK(scene.both_idle());
  scene.release_best_effort(kSpan, 2);
  CHECK(scene.holds_both(kSpanName));
}

TEST_CASE("given up on one device, it is given up on all") {
  Scene scene;
  scene.open_spanning(kSpan, 4, 4, kAperiodic);
  scene.release_best_effort(kSpan, 1);
  REQUIRE(scene.holds_both(kSpanName));
  scene.land(kSpan, 1);
  // Device 1 cannot restore, three times; grants under way are answered each.
  for (int answer = 0; answer < 8 && !scene.both_idle(); ++answer) {
    scene.from(kSpan, protocol::RestoreFailed{2, 0, {ErrorCode::driver_failure, "no"}});
  }
  CHECK(scene.both_idle());
  REQUIRE(scene.all<Dropped>(kSpan).size() == 1);
  CHECK(scene.last<Dropped>(kSpan)->reason.code == ErrorCode::driver_failure);
  scene.done(kSpan, 1);  // crossed the drop
  CHECK_FALSE(scene.closed(kSpan));
}

TEST_CASE("a client that does not restore on one device loses the job on both") {
  Scene scene;
  scene.open_spanning(kSpan, 9, 4, kAperiodic);
  scene.open_on(0, kFirst, 8, kAperiodic);
  scene.release_best_effort(kFirst, 1);
  scene.land_all();
  scene.done(kFirst, 1);
  scene.release_best_effort(kSpan, 1);
  REQUIRE(scene.holds_both(kSpanName));
  scene.land(kSpan, 2);
  scene.pass(150 * kMs);
  CHECK(scene.both_idle());
  CHECK(scene.last<Dropped>(kSpan).has_value());
}

TEST_CASE("a job that hangs gives both devices to others and keeps its memory on both") {
  Scene scene;
  scene.open_spanning(kSpan, 4, 4, kAperiodic);
  scene.open_on(0, kFirst, 8, kAperiodic);
  scene.open_on(1, kSecond, 6, kAperiodic);
  scene.release_best_effort(kSpan, 1);
  scene.land_all();
  scene.pass(150 * kMs);
  CHECK(scene.both_idle());
  // What needs the memory of the lost job waits, what does not goes on.
  scene.release_best_effort(kFirst, 1);
  scene.release_best_effort(kSecond, 1);
  CHECK(scene.running(0).empty());
  CHECK(scene.running(1) == "task3@103");
  CHECK(scene.all<Revoke>(kSpan).empty());
  scene.done(kSpan, 1);
  CHECK(scene.running(0) == "task2@102");
}

TEST_CASE("death of the client frees both devices, whatever its job was at") {
  enum class At { waiting, restoring, half_there, running, hung };
  const At at = GENERATE(At::waiting, At::restoring, At::half_there, At::running, At::hung);
  const bool link_first = GENERATE(false, true);
  CAPTURE(at, link_first);
  Scene scene;
  scene.open_spanning(kSpan, 4, 4, kAperiodic);
  scene.open_on(1, kSecond, 6, kAperiodic);
  if (at == At::waiting) scene.release_best_effort(kSecond, 1);
  scene.release_best_effort(kSpan, 1);
  if (at == At::half_there) scene.land(kSpan, 2);
  if (at == At::running || at == At::hung) scene.land_all();
  if (at == At::hung) scene.pass(150 * kMs);
  if (link_first) scene.step(SessionDisconnected{kSpan});
  scene.step(SessionDied{kSpan});
  CHECK(scene.running(0).empty());
  CHECK(scene.arbiter.snapshot().devices[0].free_chunks == kChunks);
  if (at != At::waiting) scene.release_best_effort(kSecond, 1);
  scene.land_all();
  CHECK(scene.running(1) == "task3@103");
  scene.done(kSecond, 1);
  for (const auto& task : scene.arbiter.snapshot().tasks) CHECK(task.name == "task3@103");
}

TEST_CASE("closing the task takes its jobs from both devices") {
  Scene scene;
  scene.open_spanning(kSpan, 4, 4, kAperiodic);
  scene.release_best_effort(kSpan, 1);
  scene.release_best_effort(kSpan, 2);
  scene.from(kSpan, protocol::CloseTask{1});
  CHECK(scene.both_idle());
  CHECK(scene.arbiter.snapshot().tasks.empty());
  scene.from(kSpan, protocol::CloseArena{1});
  scene.from(kSpan, protocol::CloseArena{2});
  CHECK_FALSE(scene.closed(kSpan));
  for (const auto& device : scene.arbiter.snapshot().devices) CHECK(device.free_chunks == kChunks);
}

TEST_CASE("paused and resumed on both devices") {
  Scene scene;
  scene.open_spanning(kSpan, 4, 4, kAperiodic);
  scene.from(kSpan, protocol::PauseTask{1});
  CHECK(scene.last<Verdict>(kSpan)->state == TaskState::paused);
  scene.release_best_effort(kSpan, 1);
  CHECK(scene.last<Dropped>(kSpan).has_value());
  CHECK(scene.both_idle());
  scene.from(kSpan, protocol::ResumeTask{1});
  CHECK(scene.last<Verdict>(kSpan)->state == TaskState::best_effort);
  CHECK(scene.last<Verdict>(kSpan)->requests_answered == 3);
  scene.release_best_effort(kSpan, 2);
  CHECK(scene.holds_both(kSpanName));
}

TEST_CASE("either arena grows, and the one verdict answers") {
  Scene scene;
  scene.open_spanning(kSpan, 4, 4, kAperiodic);
  scene.from(kSpan, protocol::ResizeArena{2, 6, 0});
  CHECK(scene.last<Verdict>(kSpan)->requests_answered == 2);
  CHECK_FALSE(scene.last<Verdict>(kSpan)->request_refused);
  scene.from(kSpan, protocol::ResizeArena{2, kChunks + 1, 0});
  CHECK(scene.last<Verdict>(kSpan)->requests_answered == 3);
  CHECK(scene.last<Verdict>(kSpan)->request_refused);
}

TEST_CASE("a restarted arbiter takes both arenas back and links them again") {
  Config config = two_devices();
  config.sessions_to_recover = 1;
  Scene scene(config);
  scene.step(SessionOpened{kSpan, 101, "user"});
  protocol::Hello hello;
  hello.resumed_session = 77;
  hello.held = {{1, 0, "SIM-0", 4, {3, 1, 2, 0}}, {2, 1, "SIM-1", 4, {5, 6}}};
  scene.from(kSpan, hello);
  scene.from(kSpan, protocol::OpenArena{1, 0, 4, 0});
  scene.from(kSpan, protocol::OpenArena{2, 1, 4, 0});
  scene.from(kSpan, protocol::OpenTask{1, 1, "span", kAperiodic, false, {}, {}, {2}});
  scene.release_best_effort(kSpan, 1);
  CHECK(scene.holds_both(kSpanName));
  for (const Grant& grant : scene.all<Grant>(kSpan)) {
    CHECK(grant.arena == 2);
    CHECK(grant.first_position >= 2);
  }
  scene.from(kSpan, protocol::Restored{2, 4});
  scene.done(kSpan, 1);
  CHECK(scene.both_idle());
}

TEST_CASE("a client that comes back links its arenas again; what it waited for is gone") {
  Scene scene;
  scene.open_spanning(kSpan, 4, 4, kAperiodic);
  scene.release_best_effort(kSpan, 1);
  scene.step(SessionDisconnected{kSpan});
  CHECK(scene.both_idle() == false);  // all was granted: it may run
  constexpr SessionId kAgain = 9;
  scene.step(SessionOpened{kAgain, 101, "user"});
  protocol::Hello hello;
  hello.resumed_session = kSpan;
  scene.from(kAgain, hello);
  CHECK(scene.both_idle());
  scene.from(kAgain, protocol::OpenArena{1, 0, 4, 0});
  scene.from(kAgain, protocol::OpenArena{2, 1, 4, 0});
  scene.from(kAgain, protocol::OpenTask{1, 1, "span", kAperiodic, false, {}, {}, {2}});
  scene.release_best_effort(kAgain, 1);
  CHECK(scene.holds_both(kSpanName));
}

}  // namespace
}  // namespace rtswap::arbiter
