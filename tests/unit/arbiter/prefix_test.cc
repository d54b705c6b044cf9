// Jobs that begin on a prefix of their memory.
#include <algorithm>

#include "tests/catch.h"
#include "tests/unit/arbiter/harness.h"

namespace rtswap::arbiter {
namespace {

using protocol::kNoDeadline_ns;
using protocol::TaskState;
using protocol::Timing;
using test::Harness;
using test::kMs;
using test::one_device;

const Timing kLayered{0, 0, 10 * kMs, {{1, 4 * kMs}, {3, 6 * kMs}}};
const Timing kWhole{0, 0, 10 * kMs};
const Error kFailure{ErrorCode::driver_failure, "the copy failed"};

size_t granted(const Harness& h, SessionId session) {
  size_t chunks = 0;
  for (const auto& grant : h.all<protocol::Grant>(session)) chunks += grant.chunks.size();
  return chunks;
}

Config hangs_after_200_ms() {
  Config config = one_device(8);
  config.hang_timeout_ns = 200 * kMs;
  config.devices[0].description.chunk_bytes = 2 << 20;  // a quantum of prefetch is more than all
  return config;
}

// Task 1 holds the device with one of its four chunks there, all of them granted; task 2 waits.
struct BegunOnAPrefix : Harness {
  BegunOnAPrefix() : Harness(hangs_after_200_ms()) {
    open(1, 4, kLayered);
    release(1, 1, kNoDeadline_ns);
    from(1, protocol::Restored{1, 1});
    open(2, 4, kWhole);
    release(2, 1, kNoDeadline_ns);
    REQUIRE(granted(*this, 1) == 4);
  }
};

TEST_CASE("a job with layers is told what its first needs, one without that it needs all") {
  BegunOnAPrefix h;
  REQUIRE(h.last<protocol::Run>(1));
  CHECK(h.last<protocol::Run>(1)->first_chunks == 1);
  h.land(1);
  h.from(1, protocol::JobDone{1, 10 * kMs});
  REQUIRE(h.last<protocol::Run>(2));
  CHECK(h.last<protocol::Run>(2)->first_chunks == 0);
}

TEST_CASE("nothing else is restored beside a job that has begun and still restores") {
  BegunOnAPrefix h;
  CHECK(granted(h, 2) == 0);
  h.from(1, protocol::Restored{1, 3});
  CHECK(granted(h, 2) == 0);
  h.from(1, protocol::Restored{1, 4});
  CHECK(granted(h, 2) > 0);
  CHECK_FALSE(h.last<protocol::Run>(2));
}

// Of six chunks, task 1 had four. Task 2 takes one of them for a job that is cancelled, and the
// next is on its way out when task 1 gets the device from task 3.
struct LeavingPrefix : Harness {
  LeavingPrefix() : Harness(one_device(6)) {
    open(1, 4, kLayered);
    open(3, 1, kWhole);
    for (const SessionId session : {1, 3}) {
      release(session, 1, kNoDeadline_ns);
      land_everything({1, 3});
      from(session, protocol::JobDone{1, 10 * kMs});
    }
    open(2, 4, Timing{1000 * kMs, 1000 * kMs, 10 * kMs});
    land(2);
    release(3, 2, kNoDeadline_ns);
    release(2, 1, now_ns + 1000 * kMs);
    from(1, protocol::Evicted{1, 3, 0});
    land(2);
    REQUIRE(last<protocol::Revoke>(1)->keep_chunks == 2);
    from(2, protocol::CancelJob{1});
    release(1, 2, kNoDeadline_ns);
    effects.clear();
    from(3, protocol::JobDone{2, 10 * kMs});
  }
  size_t begun() const {
    return static_cast<size_t>(std::count_if(effects.begin(), effects.end(), [](const auto& it) {
      const auto* trace = std::get_if<Trace>(&it);
      return trace != nullptr && trace->kind == Trace::Kind::run_begin;
    }));
  }
};

TEST_CASE("a job is told to run while its tail leaves, and begins when that is gone") {
  LeavingPrefix h;
  REQUIRE(h.last<protocol::Run>(1));
  CHECK(h.last<protocol::Run>(1)->first_chunks == 1);
  CHECK(h.begun() == 0);
  CHECK(granted(h, 1) == 0);
  h.from(1, protocol::Evicted{1, 2, 0});
  CHECK(h.begun() == 1);
  CHECK(granted(h, 1) == 1);
}

TEST_CASE("and what it lacks beside that is asked for at once") {
  LeavingPrefix h;
  CHECK(h.all<protocol::Revoke>(2).empty());
  REQUIRE(h.last<protocol::Revoke>(3));
  h.from(3, protocol::Evicted{1, 0, 0});
  CHECK(granted(h, 1) == 0);
  h.from(1, protocol::Evicted{1, 2, 0});
  CHECK(granted(h, 1) == 2);
}

TEST_CASE("a job that has begun and cannot be fed keeps the device until it has ended") {
  BegunOnAPrefix h;
  for (int attempt = 0; attempt < 3; ++attempt) {
    CHECK_FALSE(h.last<protocol::Dropped>(1));
    h.from(1, protocol::RestoreFailed{1, 1, kFailure});
  }
  REQUIRE(h.last<protocol::Dropped>(1));
  CHECK(h.last<protocol::Dropped>(1)->reason.message == kFailure.message);
  const size_t given = granted(h, 1);
  h.pass(kMs);
  CHECK(granted(h, 1) == given);
  CHECK_FALSE(h.last<protocol::Run>(2));
  h.from(1, protocol::JobDone{1, 4 * kMs});
  CHECK(h.last<protocol::Run>(2));
  CHECK(h.arbiter.snapshot().tasks[0].dropped == 1);
  CHECK(h.arbiter.snapshot().tasks[0].met == 0);
}

TEST_CASE("one that cannot have begun is dropped at once") {
  Harness h(one_device(8));
  h.open(1, 4, kLayered);
  h.open(2, 4, kWhole);
  h.release(1, 1, kNoDeadline_ns);
  h.release(2, 1, kNoDeadline_ns);
  // Three attempts, and an answer to each grant that had followed the first.
  for (int answer = 0; answer < 4 && !h.last<protocol::Dropped>(1); ++answer) {
    h.from(1, protocol::RestoreFailed{1, 0, kFailure});
  }
  REQUIRE(h.last<protocol::Dropped>(1));
  REQUIRE(h.last<protocol::Run>(2));
  h.from(1, protocol::JobDone{1, 0});  // as it had been told to run
  CHECK_FALSE(h.closed(1));
}

TEST_CASE("a job that began and hangs loses the device, keeps its memory, and is told") {
  BegunOnAPrefix h;
  h.pass(1'000 * kMs);
  REQUIRE(h.last<protocol::Dropped>(1));
  CHECK(h.last<protocol::Dropped>(1)->reason.code == ErrorCode::timed_out);
  CHECK(h.last<protocol::Run>(2));
  CHECK(h.all<protocol::Revoke>(1).empty());
  h.from(1, protocol::JobDone{1, 10 * kMs});
  CHECK_FALSE(h.closed(1));
}

TEST_CASE("a job that waits for the memory of a client that hangs gets other memory, and time") {
  Config config = hangs_after_200_ms();
  config.devices[0].description.chunk_count = 12;
  Harness h(config);
  for (const SessionId idle : {2, 3}) h.open(idle, 5, kWhole);
  h.land_everything({2, 3});
  h.open(1, 4, kLayered);
  h.release(1, 1, kNoDeadline_ns);
  h.from(1, protocol::Restored{1, 1});
  const SessionId hung = h.last<protocol::Revoke>(2) ? 2 : 3;
  const SessionId other = hung == 2 ? 3 : 2;
  REQUIRE(h.last<protocol::Revoke>(hung));
  REQUIRE_FALSE(h.last<protocol::Revoke>(other));
  h.pass(200 * kMs);
  CHECK_FALSE(h.last<protocol::Dropped>(1));
  REQUIRE(h.last<protocol::Revoke>(other));
  h.from(other, protocol::Evicted{1, h.last<protocol::Revoke>(other)->keep_chunks, 0});
  h.land(1);
  CHECK(granted(h, 1) == 4);
  h.from(1, protocol::JobDone{1, 10 * kMs});
  CHECK_FALSE(h.last<protocol::Dropped>(1));
}

TEST_CASE("a client that dies in such a job leaves everything behind") {
  BegunOnAPrefix h;
  h.step(SessionDied{1});
  REQUIRE(h.last<protocol::Run>(2));
  CHECK(h.free_chunks() + granted(h, 2) == 8);
}

TEST_CASE("an arena that grew is waited for until its tasks are measured again") {
  Harness h(one_device(8));
  h.open(1, 4, kLayered);
  h.land_everything({1});
  h.from(1, protocol::ResizeArena{1, 5, 0});
  h.release(1, 1, kNoDeadline_ns);
  REQUIRE(h.last<protocol::Run>(1));
  CHECK(h.last<protocol::Run>(1)->first_chunks == 0);
  CHECK(h.last<protocol::Verdict>(1)->timing.layers.empty());
}

TEST_CASE("growth that is refused leaves the layers as they were") {
  Harness h(one_device(8));
  h.open(1, 4, kLayered);
  h.land_everything({1});
  h.from(1, protocol::ResizeArena{1, 9, 0});
  REQUIRE(h.last<protocol::Verdict>(1)->request_refused);
  CHECK(h.last<protocol::Verdict>(1)->timing.layers == kLayered.layers);
}

TEST_CASE("layers that make no sense are refused") {
  using Layers = std::vector<protocol::LayerNeed>;
  const auto layers =
      GENERATE(Layers{{0, 10 * kMs}},               // needs nothing
               Layers{{5, 10 * kMs}},               // more than there is
               Layers{{2, 5 * kMs}, {1, 5 * kMs}},  // less than before
               Layers{{1, 5 * kMs}, {2, 4 * kMs}},  // shorter than the job
               Layers{{1, 5 * kMs}, {2, 6 * kMs}},  // longer
               Layers{{1, 10 * kMs}, {2, 0}},       // executes nothing
               Layers{{1, -1}, {2, 10 * kMs + 1}}, Layers(300, {1, 10 * kMs / 300}));  // too many
  Harness h(one_device(8));
  h.open(1, 4, Timing{0, 0, 10 * kMs, layers});
  REQUIRE(h.last<protocol::Verdict>(1));
  CHECK(h.last<protocol::Verdict>(1)->state == TaskState::refused);
  CHECK(h.last<protocol::Verdict>(1)->reason.code == ErrorCode::invalid_argument);
}

TEST_CASE("a cost of the task file replaces that of the layers") {
  Config config = one_device(8);
  config.overrides["task1"].timing.wcet_ns = 7 * kMs;
  Harness h(config);
  h.open(1, 4, kLayered);
  CHECK(h.last<protocol::Verdict>(1)->timing.wcet_ns == 7 * kMs);
  CHECK(h.last<protocol::Verdict>(1)->timing.layers.empty());
}

}  // namespace
}  // namespace rtswap::arbiter
