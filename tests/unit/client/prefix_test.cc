// Jobs that start on a prefix of their arena, and wait for the rest while they run.
#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

#include "tests/unit/client/scene.h"

using namespace rtswap;
using namespace rtswap::client;
using namespace rtswap::client::test;
using rtswap::test::contains;

namespace {

// A job that was told to start when the first chunk of three is there, and has.
struct PrefixScene : Scene {
  explicit PrefixScene(bool start = true) {
    id = release(job);
    script->deliver(protocol::Run{id, 1});
    CHECK_FALSE(job->wait(0).value());
    grant(0, {4});
    await_landed(1);
    if (start) REQUIRE(job->wait(kPatience_ns).value());
  }
  void await_landed(uint32_t chunks) {
    while (script->take<protocol::Restored>().landed_chunks < chunks) {
    }
  }
  // What a thread that waits for all chunks gets, once `happens` has.
  template <class Event>
  Result<uint32_t> wait_while(Event happens) {
    Result<uint32_t> seen = 0;
    std::thread waiter([&] { seen = job->wait_for_chunks(3, -1); });
    happens();
    waiter.join();
    return seen;
  }

  std::shared_ptr<Job> job;
  protocol::JobId id = 0;
};

}  // namespace

TEST_CASE("a job starts with its first chunks there and waits for the others") {
  PrefixScene scene;
  CHECK(scene.job->info().first_chunks == 1);
  CHECK(scene.job->info().arena_chunks == 3);
  CHECK(scene.job->info().chunks_waited_ns == 0);
  CHECK(scene.job->wait_for_chunks(1, 0).value() == 1);
  CHECK(scene.job->wait_for_chunks(2, 0).value() == 1);
  CHECK(scene.job->wait_for_chunks(4, -1).error().code == ErrorCode::invalid_argument);
  std::memset(scene.weights.host, 0x5a, 2 * kChunk);
  const auto landed = scene.wait_while([&] { scene.grant(1, {5, 6}); });
  CHECK(landed.value() == 3);
  CHECK(*reinterpret_cast<const char*>(scene.weights.address + 2 * kChunk - 1) == 0x5a);
  CHECK(scene.job->info().chunks_waited_ns > 0);
  REQUIRE(scene.job->end({}));
  CHECK(scene.job->info().restored_bytes == 2 * kChunk + 100);
  const auto info = scene.job->info();
  CHECK(scene.script->take<protocol::JobDone>().execution_ns == info.execution_ns);
  // Its owner wakes up some time after the start.
  CHECK(info.execution_ns <= info.ended_ns - info.started_ns - info.chunks_waited_ns);
  CHECK(scene.job->wait_for_chunks(1, 0).error().code == ErrorCode::invalid_argument);
}

TEST_CASE("a job that asked for all its memory does not start without, whatever Run says") {
  Scene scene;
  const auto job = scene.task->release(0, true, Start::whole).value();
  scene.script->deliver(protocol::Run{scene.script->take<protocol::Release>().job, 1});
  scene.grant(0, {4});
  scene.script->take<protocol::Restored>();
  CHECK_FALSE(job->wait(0).value());
  scene.grant(1, {5, 6});
  CHECK(job->wait(kPatience_ns).value());
  CHECK(job->info().first_chunks == 3);
}

TEST_CASE("a job that ends before its memory is there is reported done behind its last Restored") {
  PrefixScene scene;
  if (GENERATE(true, false)) {
    REQUIRE(scene.job->end({}));
  } else {
    scene.job->cancel();
  }
  CHECK(scene.job->info().ended_ns > 0);
  CHECK(scene.script->count<protocol::JobDone>() == 0);
  SECTION("then everything lands") {
    std::shared_ptr<Job> next;
    scene.release(next);
    scene.grant(1, {5});
    scene.await_landed(2);
    CHECK(scene.script->count<protocol::JobDone>() == 0);
    scene.grant(2, {6});
    CHECK(scene.script->take<protocol::JobDone>().job == scene.id);
    const std::lock_guard lock(scene.script->mutex);
    const auto last = std::get<protocol::Restored>(scene.script->sent.back());
    CHECK(last.landed_chunks == 3);
  }
  SECTION("then the arbiter gives up") {
    scene.script->deliver(protocol::Dropped{scene.id, {ErrorCode::out_of_memory, "none left"}});
    CHECK(scene.script->take<protocol::JobDone>().job == scene.id);
  }
  SECTION("then its task is closed, which says it all") {
    REQUIRE(scene.task->close());
    CHECK(scene.script->take<protocol::CloseTask>().task == scene.task_id);
    scene.grant(1, {5, 6});
    scene.await_landed(3);
    CHECK(scene.script->count<protocol::JobDone>() == 0);
  }
  SECTION("then its arena grows: the arbiter is asked once the job is done") {
    REQUIRE(scene.session->add_segment(scene.arena, engine::Kind::scratch, kChunk));
    CHECK(scene.session->publish_arena(scene.arena, 0).error().code == ErrorCode::timed_out);
    CHECK(scene.script->count<protocol::ResizeArena>() == 0);
    scene.grant(1, {5, 6});
    CHECK(scene.script->take<protocol::JobDone>().job == scene.id);
    CHECK(scene.session->publish_arena(scene.arena, 0).error().code == ErrorCode::timed_out);
    CHECK(scene.script->take<protocol::ResizeArena>().chunks == 4);
  }
  SECTION("then the link is lost: the next Hello tells what is held") {
    scene.script->lose_link();
    CHECK(scene.script->take<protocol::Hello>().held.at(0).resident == std::vector<uint32_t>{4});
    CHECK(scene.script->count<protocol::JobDone>() == 0);
  }
  SECTION("then the session is closed") {
    REQUIRE(scene.session->close());
    scene.script->take<protocol::Goodbye>();
    CHECK(scene.script->count<protocol::JobDone>() == 0);
  }
}

TEST_CASE("a job that is given up before its owner knew of the start is done when all has landed") {
  PrefixScene scene(/*start=*/false);
  scene.job->cancel();
  CHECK(scene.job->wait(0).error().code == ErrorCode::interrupted);
  CHECK(scene.script->count<protocol::JobDone>() == 0);
  scene.grant(1, {5, 6});
  const auto done = scene.script->take<protocol::JobDone>();
  CHECK(done.job == scene.id);
  CHECK(done.execution_ns == 0);
}

TEST_CASE("a restore that fails under a running job may be tried again") {
  PrefixScene scene;
  scene.script->device->fail_call(driver::Operation::copy_to_device, 1,
                                  {ErrorCode::driver_failure, "no copy"});
  const auto landed = scene.wait_while([&] {
    scene.grant(1, {5, 6});
    CHECK(scene.script->take<protocol::RestoreFailed>().resident_chunks == 1);
    scene.grant(1, {2, 3});
  });
  CHECK(landed.value() == 3);
  REQUIRE(scene.job->end({}));
  CHECK(scene.script->take<protocol::JobDone>().job == scene.id);
}

TEST_CASE("a running job that the arbiter gives up keeps what has landed until it ends") {
  PrefixScene scene;
  const auto landed = scene.wait_while([&] {
    scene.script->deliver(protocol::Dropped{scene.id, {ErrorCode::driver_failure, "no copy"}});
  });
  REQUIRE_FALSE(landed);
  CHECK(landed.error().code == ErrorCode::driver_failure);
  CHECK(landed.error().message == "no copy");
  CHECK(scene.job->wait_for_chunks(2, -1).error().message == "no copy");
  std::memset(reinterpret_cast<void*>(scene.weights.address), 0x11, kChunk);
  CHECK(scene.session->arena_stats(scene.arena)->resident_chunks == 1);
  REQUIRE(scene.job->end({}));
  CHECK(scene.script->take<protocol::JobDone>().job == scene.id);
  scene.grant(1, {2, 3});
  scene.await_landed(3);
  CHECK(scene.start()->end({}));
}

TEST_CASE("after a lost link a job gets the chunks that were granted, and no others") {
  PrefixScene scene;
  scene.script->allow_connections(false);
  SECTION("granted before") {
    scene.grant(1, {5, 6});
    scene.script->lose_link();
    CHECK(scene.job->wait_for_chunks(3, -1).value() == 3);
  }
  SECTION("not granted") {
    const auto landed = scene.wait_while([&] { scene.script->lose_link(); });
    REQUIRE_FALSE(landed);
    CHECK(landed.error().code == ErrorCode::daemon_unavailable);
  }
  SECTION("given up before") {
    scene.script->deliver(protocol::Dropped{scene.id, {ErrorCode::timed_out, "too long"}});
    scene.script->lose_link();
  }
  CHECK(scene.job->end({}));
  const size_t resident = scene.session->arena_stats(scene.arena)->resident_chunks;
  scene.script->allow_connections(true);
  CHECK(scene.script->take<protocol::Hello>().held.at(0).resident.size() == resident);
  CHECK(scene.script->count<protocol::JobDone>() == 0);
}

TEST_CASE("a task whose arena has grown is opened again without its layers") {
  Scene scene;
  const Timing timing{.wcet_ns = 5, .layers = {{1, 2}, {3, 3}}};
  CHECK(scene.task->update(timing, 0).error().code == ErrorCode::timed_out);
  CHECK(scene.script->take<protocol::UpdateTask>().timing.layers == timing.layers);
  scene.answer(2, TaskState::best_effort);
  REQUIRE(scene.session->add_segment(scene.arena, engine::Kind::scratch, kChunk));
  CHECK_FALSE(scene.session->publish_arena(scene.arena, 0));
  const bool refused = GENERATE(true, false);
  const Error too_large{ErrorCode::model_too_large, "too large"};
  scene.answer(3, TaskState::best_effort, refused ? std::optional(too_large) : std::nullopt);
  CHECK(scene.session->publish_arena(scene.arena, -1).has_value() == !refused);
  scene.script->lose_link();
  const auto reopened = scene.script->take<protocol::OpenTask>();
  CHECK(reopened.timing.layers == (refused ? timing.layers : decltype(timing.layers)()));
}

TEST_CASE("whoever waits for chunks of a job that ends elsewhere is told so") {
  PrefixScene scene;
  const auto landed = scene.wait_while([&] {
    SECTION("ended") { CHECK(scene.job->end({})); }
    SECTION("cancelled") { scene.job->cancel(); }
    SECTION("session closed") { CHECK(scene.session->close()); }
  });
  REQUIRE_FALSE(landed);
  // The other one where the end came before the thread began to wait.
  const ErrorCode code = landed.error().code;
  CHECK((code == ErrorCode::closed || code == ErrorCode::invalid_argument));
}
