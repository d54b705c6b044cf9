// Races and failures that an arbiter of its own seldom makes: every message is chosen by the test.
#include <poll.h>
#include <sys/resource.h>

#include <cstring>
#include <optional>
#include <string>
#include <thread>

#include "tests/catch.h"
#include "tests/unit/client/scene.h"

using namespace rtswap;
using namespace rtswap::client;
using namespace rtswap::client::test;
using rtswap::test::contains;

TEST_CASE("a job starts when it has the device and all its memory, in either order") {
  Scene scene;
  std::shared_ptr<Job> job;
  const auto id = scene.release(job);
  SECTION("Run first") {
    scene.script->deliver(protocol::Run{id});
    scene.grant(0, {4, 5});
    scene.script->take<protocol::Restored>();
    CHECK_FALSE(job->wait(0).value());
    scene.grant(2, {6});
  }
  SECTION("memory first") {
    scene.make_resident();
    CHECK_FALSE(job->wait(0).value());
    pollfd poller{.fd = job->ready_descriptor().value(), .events = POLLIN, .revents = 0};
    CHECK(poll(&poller, 1, 0) == 0);
    scene.script->deliver(protocol::Run{id});
    CHECK(poll(&poller, 1, 0) == 1);
  }
  REQUIRE(job->wait(kPatience_ns).value());
  CHECK(job->info().restored_bytes == 2 * kChunk + 100);
  REQUIRE(job->end({}));
  CHECK(scene.script->take<protocol::JobDone>().job == id);
}

TEST_CASE("a job that no file can be opened for is waited for by wait() alone") {
  Scene scene;
  std::shared_ptr<Job> job;
  scene.release(job);
  rlimit limit{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  const rlimit none{.rlim_cur = 0, .rlim_max = limit.rlim_max};
  REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
  const Result<int> refused = job->ready_descriptor();
  REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  CHECK(refused.error().code == ErrorCode::descriptor_limit);
  CHECK(job->ready_descriptor().value() >= 0);
}

TEST_CASE("a cancellation that crosses Run gives the grant back at once") {
  Scene scene;
  std::shared_ptr<Job> job;
  const auto id = scene.release(job);
  job->cancel();
  CHECK(scene.script->take<protocol::CancelJob>().job == id);
  scene.script->deliver(protocol::Run{id});
  const auto done = scene.script->take<protocol::JobDone>();
  CHECK(done.job == id);
  CHECK(done.execution_ns == 0);
  CHECK(job->wait(0).error().code == ErrorCode::interrupted);
}

TEST_CASE("a granted job that its owner gives up is done, not cancelled") {
  Scene scene;
  std::shared_ptr<Job> job;
  const auto id = scene.release(job);
  scene.script->deliver(protocol::Run{id});
  job.reset();
  CHECK(scene.script->take<protocol::JobDone>().job == id);
  CHECK(scene.script->count<protocol::CancelJob>() == 0);
}

TEST_CASE("the handle of a job that is over ends without a turn of the arbiter") {
  Scene scene;
  scene.make_resident();
  std::shared_ptr<Job> job = scene.start();
  REQUIRE(job->end({}));
  scene.script->take<protocol::JobDone>();
  const auto flushes = [&] {
    const std::lock_guard lock(scene.script->mutex);
    return scene.script->flushes;
  };
  const int before = flushes();
  CHECK(before > 0);
  job.reset();
  CHECK(flushes() == before);
}

TEST_CASE("an arena grows once the arbiter has let go of the job that was cancelled") {
  Scene scene;
  std::shared_ptr<Job> job;
  const auto id = scene.release(job);
  job->cancel();
  scene.script->take<protocol::CancelJob>();
  REQUIRE(scene.session->add_segment(scene.arena, engine::Kind::scratch, kChunk));
  CHECK(scene.session->publish_arena(scene.arena, 0).error().code == ErrorCode::timed_out);
  CHECK(scene.script->count<protocol::ResizeArena>() == 0);
  SECTION("and then asks") {
    scene.script->deliver(protocol::Run{id});  // had crossed the cancellation
    CHECK(scene.session->publish_arena(scene.arena, 0).error().code == ErrorCode::timed_out);
    CHECK(scene.script->take<protocol::JobDone>().job == id);
    CHECK(scene.script->take<protocol::ResizeArena>().chunks == 4);
    scene.answer(2, TaskState::best_effort);
    CHECK(scene.session->publish_arena(scene.arena, 0));
  }
  SECTION("or is as it was") {
    REQUIRE(scene.session->discard_growth(scene.arena));
    CHECK(scene.session->publish_arena(scene.arena, 0));
    CHECK(scene.session->arena_stats(scene.arena)->chunks == 3);
  }
  SECTION("and is told later that it may not, when it did not wait") {
    scene.script->deliver(protocol::Dropped{id, {ErrorCode::interrupted, "cancelled"}});
    CHECK(scene.session->publish_arena(scene.arena, 0).error().code == ErrorCode::timed_out);
    scene.answer(2, TaskState::best_effort, Error{ErrorCode::model_too_large, "too large"});
    CHECK(scene.session->publish_arena(scene.arena, 0).error().code == ErrorCode::model_too_large);
    CHECK(scene.script->count<protocol::ResizeArena>() == 1);
  }
}

TEST_CASE("a dropped job fails with the arbiter's reason, unless its owner uses the memory") {
  Scene scene;
  std::shared_ptr<Job> job;
  scene.script->deliver(
      protocol::Dropped{scene.release(job), {ErrorCode::job_dropped, "too late"}});
  CHECK(job->wait(-1).error().message == "too late");
  scene.make_resident();
  const auto running = scene.start();
  const auto id = scene.script->count<protocol::JobDone>();
  CHECK(id == 0);
  scene.script->deliver(protocol::Dropped{2, {ErrorCode::timed_out, "given up"}});
  CHECK(running->end({}));
  CHECK(scene.script->take<protocol::JobDone>().job == 2);
}

TEST_CASE("messages for what is closed are ignored") {
  Scene scene;
  std::shared_ptr<Job> job;
  const auto id = scene.release(job);
  REQUIRE(scene.task->close());
  CHECK(job->wait(0).error().code == ErrorCode::closed);
  CHECK(scene.script->take<protocol::CloseTask>().task == scene.task_id);
  scene.script->deliver(protocol::Run{id});
  scene.grant(0, {4, 5, 6});
  REQUIRE(scene.session->close_arena(scene.arena));
  CHECK(scene.script->take<protocol::CloseArena>().arena == scene.arena);
  scene.grant(0, {4, 5, 6});
  scene.script->deliver(protocol::Revoke{scene.arena, 0});
  scene.answer(2, TaskState::admitted);
  CHECK(scene.script->count<protocol::JobDone>() == 0);
  CHECK(scene.session->connected());
}

TEST_CASE("a change that crosses a request is not taken for its answer") {
  Scene scene;
  CHECK(scene.task->update({.period_ns = 7, .deadline_ns = 7, .wcet_ns = 1}, 0).error().code ==
        ErrorCode::timed_out);
  scene.answer(1, TaskState::best_effort);
  CHECK(scene.task->wait_verdict(0).error().code == ErrorCode::timed_out);
  scene.answer(2, TaskState::best_effort, Error{ErrorCode::admission_refused, "no room"});
  scene.answer(2, TaskState::best_effort);  // a later change keeps the answer
  const auto verdict = scene.task->wait_verdict(0);
  REQUIRE(verdict);
  CHECK(verdict->request_refused);
  CHECK(verdict->reason.message == "no room");
}

TEST_CASE("each grant that a failed restore takes with it is answered") {
  Scene scene;
  scene.script->device->fail_call(driver::Operation::map, 2, {ErrorCode::driver_failure, "no map"});
  scene.grant(0, {4});
  scene.script->take<protocol::Restored>();
  scene.grant(1, {5});
  const auto failed = scene.script->take<protocol::RestoreFailed>();
  CHECK(failed.resident_chunks == 1);
  CHECK_THAT(failed.error.message, contains("no map"));
  scene.grant(2, {6});  // was on its way
  CHECK(scene.script->take<protocol::RestoreFailed>().resident_chunks == 1);
  scene.grant(1, {5, 6});
  while (scene.script->take<protocol::Restored>().landed_chunks < 3) {
  }
  CHECK(scene.start()->end({}));
}

TEST_CASE("a device without room for the guard is not used") {
  const auto script = std::make_shared<ScriptedArbiter>();
  REQUIRE(script->device->create_chunk(kChunk));  // somebody else's
  ConnectOptions options;
  options.guard = true;
  const auto session = connect_through(std::make_unique<ScriptedSource>(script), options).value();
  const auto arena = session->open_arena(0, "model");
  REQUIRE_FALSE(arena);
  CHECK(arena.error().code == ErrorCode::out_of_memory);
  CHECK_THAT(arena.error().message, contains("guard=True"));
  CHECK(session->connected());
}

TEST_CASE("an eviction that fails is answered with what is still mapped") {
  Scene scene;
  scene.make_resident();
  CHECK(scene.start()->end({}));
  scene.script->device->fail_call(driver::Operation::copy_to_host, 1,
                                  {ErrorCode::driver_failure, "no copy"});
  scene.script->deliver(protocol::Revoke{scene.arena, 1});
  CHECK(scene.script->take<protocol::Evicted>().resident_chunks == 3);
  scene.script->deliver(protocol::Revoke{scene.arena, 1});
  const auto evicted = scene.script->take<protocol::Evicted>();
  CHECK(evicted.resident_chunks == 1);
  CHECK(evicted.written_back_bytes == 100);
  std::shared_ptr<Job> job;
  scene.script->deliver(protocol::Run{scene.release(job)});
  CHECK_FALSE(job->wait(0).value());
  scene.grant(1, {2, 3});
  CHECK(job->wait(kPatience_ns).value());
}

TEST_CASE("a lost link fails what waits, keeps what runs, and resumes with what is held") {
  Scene scene;
  scene.make_resident();
  const auto running = scene.start();
  std::shared_ptr<Job> waiting;
  scene.release(waiting);
  scene.script->allow_connections(false);
  scene.script->lose_link();
  const auto failed = waiting->wait(-1);
  REQUIRE_FALSE(failed);
  CHECK(failed.error().code == ErrorCode::daemon_unavailable);
  CHECK_THAT(failed.error().message, contains("resumes by itself"));
  CHECK_FALSE(scene.session->connected());
  CHECK(scene.task->release(0, true, Start::whole).error().code == ErrorCode::daemon_unavailable);
  CHECK(running->wait(0).value());
  scene.script->allow_connections(true);
  CHECK(running->end({}));

  const auto hello = scene.script->take<protocol::Hello>();
  CHECK(hello.resumed_session == 7);
  REQUIRE(hello.held.size() == 1);
  CHECK(hello.held[0].arena == scene.arena);
  CHECK(hello.held[0].chunks == 3);
  CHECK(hello.held[0].resident == std::vector<uint32_t>{4, 5, 6});
  scene.script->take<protocol::DeviceReport>();
  CHECK(scene.script->take<protocol::OpenArena>().mutable_chunks == 1);
  CHECK(scene.script->take<protocol::OpenTask>().task == scene.task_id);
  CHECK(scene.script->offers >= 1);
  CHECK(scene.script->count<protocol::JobDone>() == 0);
  scene.answer(1, TaskState::best_effort);
  CHECK(scene.session->connected());
  CHECK(scene.start()->end({}));
}

TEST_CASE("memory that was given up after it was reported to a new link goes back on it") {
  Scene scene;
  scene.make_resident();
  REQUIRE(scene.task->close());
  {
    const std::lock_guard lock(scene.script->mutex);
    scene.script->answers_hello = false;
  }
  scene.script->lose_link();
  REQUIRE(scene.script->take<protocol::Hello>().held.size() == 1);
  REQUIRE(scene.session->save_arena(scene.arena));
  CHECK(scene.script->count<protocol::CloseArena>() == 0);
  scene.script->deliver(scene.script->welcome);
  CHECK(scene.script->take<protocol::CloseArena>().arena == scene.arena);
  CHECK(scene.script->count<protocol::OpenArena>() == 0);
  CHECK(scene.session->close_arena(scene.arena));
  CHECK(scene.script->count<protocol::CloseArena>() == 0);
}

TEST_CASE("what is closed while the link is lost is not opened again") {
  Scene scene;
  scene.make_resident();
  REQUIRE(scene.task->pause());
  scene.script->take<protocol::PauseTask>();
  const auto other = scene.session->open_arena(0, "other").value();
  scene.script->allow_connections(false);
  scene.script->lose_link();
  CHECK(scene.session->publish_arena(other, -1).error().code == ErrorCode::daemon_unavailable);
  CHECK(scene.session->close_arena(other));
  SECTION("nothing") {
    scene.script->allow_connections(true);
    scene.script->take<protocol::OpenTask>();
    scene.script->take<protocol::PauseTask>();
    CHECK(scene.script->count<protocol::OpenArena>() == 1);
  }
  SECTION("the task and its arena") {
    CHECK(scene.task->close());
    CHECK(scene.session->close_arena(scene.arena));
    scene.script->allow_connections(true);
    CHECK(scene.script->take<protocol::Hello>().held.empty());
    scene.script->take<protocol::DeviceReport>();
    CHECK(scene.session->open_arena(0, "new").has_value());
    CHECK(scene.script->count<protocol::OpenTask>() == 0);
    CHECK(scene.script->count<protocol::OpenArena>() == 0);
  }
}

TEST_CASE(
    "an arbiter that is back with other memory ends the session; the data is in host memory") {
  Scene scene;
  scene.make_resident();
  const auto job = scene.start();
  std::memset(reinterpret_cast<void*>(scene.state.address), 0x17, 100);
  REQUIRE(job->end({}));
  scene.script->allow_connections(false);
  scene.script->lose_link();
  scene.reconnect("another bank");
  scene.script->take<protocol::Hello>();
  const auto ended = [&] {
    const auto released = scene.task->release(0, true, Start::whole);
    return !released &&
           std::string(released.error().message).find("other memory") != std::string::npos;
  };
  while (!ended()) std::this_thread::yield();
  CHECK(scene.session->snapshot(0).error().code == ErrorCode::daemon_unavailable);
  while (scene.session->arena_stats(scene.arena)->resident_chunks > 0) std::this_thread::yield();
  CHECK(scene.state.host[99] == std::byte{0x17});
}

TEST_CASE("an arbiter that is back without a device ends the tasks there, and nothing else") {
  Scene scene;
  scene.make_resident();
  const auto job = scene.start();
  std::memset(reinterpret_cast<void*>(scene.state.address), 0x17, 100);
  REQUIRE(job->end({}));
  scene.script->take<protocol::JobDone>();
  scene.script->allow_connections(false);
  scene.script->lose_link();
  {
    const std::lock_guard lock(scene.script->mutex);
    scene.script->welcome.devices.clear();
  }
  scene.reconnect();
  CHECK(scene.script->take<protocol::Hello>().held.size() == 1);  // it could not know
  while (!scene.session->connected()) std::this_thread::yield();
  const auto expect_gone = [](const auto& result) {
    REQUIRE_FALSE(result);
    CHECK(result.error().code == ErrorCode::unknown_device);
    CHECK_THAT(result.error().message, contains("SIM-script") && contains("safe in host memory"));
  };
  expect_gone(scene.task->release(0, true, Start::whole));
  expect_gone(scene.task->pause());
  expect_gone(scene.session->open_arena(0, "other"));
  expect_gone(scene.session->add_segment(scene.arena, engine::Kind::read_only, 1));
  while (scene.session->arena_stats(scene.arena)->resident_chunks > 0) std::this_thread::yield();
  CHECK(scene.state.host[99] == std::byte{0x17});

  SECTION("also after the next lost link") {
    scene.script->lose_link();
    CHECK(scene.script->take<protocol::Hello>().held.empty());
    while (!scene.session->connected()) std::this_thread::yield();
    expect_gone(scene.task->release(0, true, Start::whole));
  }
  CHECK(scene.task->close());
  CHECK(scene.session->close_arena(scene.arena));
  CHECK(scene.session->close());
  // The arbiter has heard nothing about what it does not know.
  CHECK(scene.script->count<protocol::DeviceReport>() == 0);
  CHECK(scene.script->count<protocol::OpenArena>() == 0);
  CHECK(scene.script->count<protocol::OpenTask>() == 0);
  CHECK(scene.script->count<protocol::Evicted>() == 0);
  CHECK(scene.script->count<protocol::CloseTask>() == 0);
  CHECK(scene.script->count<protocol::CloseArena>() == 0);
}

TEST_CASE("a fault of the arbiter ends the session with its words") {
  Scene scene;
  std::shared_ptr<Job> job;
  scene.release(job);
  scene.script->deliver(protocol::Fault{{ErrorCode::static_memory, "too much beside the bank"}});
  scene.script->lose_link();
  CHECK(job->wait(-1).error().code == ErrorCode::static_memory);
  CHECK(scene.task->wait_verdict(-1).error().message == "too much beside the bank");
  CHECK(scene.session->open_arena(0, "late").error().code == ErrorCode::static_memory);
  CHECK(scene.session->close());
  CHECK(scene.script->connections == 1);
}

TEST_CASE("a session can be closed while it is lost, and while a verdict is waited for") {
  Scene scene;
  SECTION("lost") {
    scene.script->allow_connections(false);
    scene.script->lose_link();
    CHECK(scene.session->close());
  }
  SECTION("connected again to an arbiter that hangs") {
    scene.script->shortcut_hangs = true;
    scene.script->lose_link();
    scene.script->take<protocol::Hello>();
    const auto begun = [&] {
      const std::lock_guard lock(scene.script->mutex);
      return scene.script->shortcuts_begun;
    };
    while (begun() < 2) std::this_thread::yield();
    CHECK(scene.session->close());
    CHECK(scene.script->shortcuts_interrupted == 1);
  }
  SECTION("waiting") {
    std::optional<ErrorCode> seen;
    std::thread waiter([&] { seen = scene.task->update({}, -1).error().code; });
    scene.script->take<protocol::UpdateTask>();
    CHECK(scene.session->close());
    waiter.join();
    CHECK(seen == ErrorCode::closed);
    scene.script->take<protocol::Goodbye>();
  }
}

TEST_CASE("an arbiter that refuses the connection is an error of connect") {
  const auto script = std::make_shared<ScriptedArbiter>();
  script->reachable = false;
  CHECK(connect_through(std::make_unique<ScriptedSource>(script), {}).error().message ==
        "nobody listens");
  script->reachable = true;
  script->answers_hello = false;
  std::thread refusal([&] {
    script->take<protocol::Hello>();
    script->deliver(protocol::Fault{{ErrorCode::protocol_mismatch, "too old"}});
  });
  CHECK(connect_through(std::make_unique<ScriptedSource>(script), {}).error().message == "too old");
  refusal.join();
}

TEST_CASE("only a job that runs has work queued; what is asked after may outlive it") {
  Scene scene;
  std::shared_ptr<Job> waiting;
  scene.release(waiting);
  CHECK(waiting->queued_work({}).error().code == ErrorCode::invalid_argument);
  waiting.reset();
  scene.make_resident();
  const auto job = scene.start();
  const auto work = job->queued_work({}).value();
  REQUIRE(job->end({}));
  CHECK(job->queued_work({}).error().code == ErrorCode::invalid_argument);
  CHECK(work->completed().value());
  REQUIRE(scene.session->close());
  CHECK(work->completed().value());
}

TEST_CASE("waiting for the answer to Hello ends when the caller says so") {
  const auto script = std::make_shared<ScriptedArbiter>();
  script->answers_hello = false;
  int questions = 0;
  ConnectOptions options;
  options.interrupted = [&questions] { return ++questions > 1; };
  const auto session = connect_through(std::make_unique<ScriptedSource>(script), options);
  REQUIRE_FALSE(session.has_value());
  CHECK(session.error().code == ErrorCode::interrupted);
}

TEST_CASE("the common start is known when the arbiter tells it") {
  const auto script = std::make_shared<ScriptedArbiter>();
  const auto at_once = connect_through(std::make_unique<ScriptedSource>(script), {}).value();
  CHECK_FALSE(at_once->common_start_ns().has_value());
  const auto later = std::make_shared<ScriptedArbiter>();
  later->welcome.wait_for_tasks = 2;
  const auto session = connect_through(std::make_unique<ScriptedSource>(later), {}).value();
  CHECK(session->common_start_ns() == 0);
  later->deliver(protocol::Begin{12345});
  CHECK(session->common_start_ns() == 12345);
}
