// A task with an arena on each of two devices: what its jobs wait for, and what becomes of both.
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "tests/catch.h"
#include "tests/unit/client/scripted_arbiter.h"

using namespace rtswap;
using namespace rtswap::client;
using namespace rtswap::client::test;
using rtswap::test::contains;

namespace {

// Arenas of two chunks on the first device and three on the second, and a task on both.
struct SpanningScene {
  SpanningScene() {
    session = connect_through(std::make_unique<ScriptedSource>(script), {}).value();
    script->take<protocol::Hello>();
    first = open_arena(0, 2);
    second = open_arena(1, 3);
    TaskOptions options;
    options.name = "span";
    options.further_arenas = {second.id};
    task = session->open_task(first.id, options).value();
    const auto opened = script->take<protocol::OpenTask>();
    CHECK(opened.arena == first.id);
    CHECK(opened.further_arenas == std::vector{second.id});
    task_id = opened.task;
  }

  struct OpenedArena {
    engine::ArenaId id = 0;
    engine::Segment state;
  };
  OpenedArena open_arena(uint32_t device, uint32_t chunks) {
    OpenedArena arena{session->open_arena(device, "half").value(), {}};
    script->take<protocol::DeviceReport>();
    arena.state =
        session->add_segment(arena.id, engine::Kind::mutable_state, chunks * kChunk).value();
    REQUIRE(session->publish_arena(arena.id, -1));
    const auto opened = script->take<protocol::OpenArena>();
    CHECK(opened.device == device);
    CHECK(opened.chunks == chunks);
    return arena;
  }
  protocol::JobId release() {
    job = task->release(0, true, Start::prefix).value();
    return script->take<protocol::Release>().job;
  }
  void land(const OpenedArena& arena, std::vector<uint32_t> chunks) {
    const auto all = static_cast<uint32_t>(chunks.size());
    script->deliver(protocol::Grant{arena.id, 0, std::move(chunks)});
    while (script->take<protocol::Restored>().landed_chunks < all) {
    }
  }
  protocol::JobId start() {
    const auto id = release();
    script->deliver(protocol::Run{id});
    land(first, {0, 1});
    land(second, {4, 5, 6});
    REQUIRE(job->wait(kPatience_ns).value());
    return id;
  }
  // The link breaks, and an arbiter with these of the devices takes its place.
  void resume_with(const std::vector<size_t>& devices) {
    script->allow_connections(false);
    script->lose_link();
    {
      const std::lock_guard lock(script->mutex);
      script->welcome.devices.clear();
      for (const size_t i : devices) {
        script->welcome.devices.push_back(script->devices[i].description());
      }
    }
    script->allow_connections(true);
    hello = script->take<protocol::Hello>();
    while (!session->connected()) std::this_thread::yield();
  }

  const std::shared_ptr<ScriptedArbiter> script =
      std::make_shared<ScriptedArbiter>(8, std::vector<std::string>{"first", "second"});
  std::shared_ptr<Session> session;
  OpenedArena first, second;
  std::shared_ptr<Task> task;
  protocol::TaskId task_id = 0;
  std::shared_ptr<Job> job;
  protocol::Hello hello;
};

}  // namespace

TEST_CASE("a job that spans devices starts when all memory is there on each, in any order") {
  SpanningScene scene;
  const auto id = scene.release();
  const bool run_first = GENERATE(true, false);
  if (run_first) scene.script->deliver(protocol::Run{id});
  // A prefix that Run might name counts for nothing.
  if (GENERATE(true, false)) {
    scene.land(scene.first, {0, 1});
    CHECK_FALSE(scene.job->wait(0).value());
    scene.land(scene.second, {4, 5, 6});
  } else {
    scene.land(scene.second, {4, 5, 6});
    CHECK_FALSE(scene.job->wait(0).value());
    scene.land(scene.first, {0, 1});
  }
  if (!run_first) {
    CHECK_FALSE(scene.job->wait(0).value());
    scene.script->deliver(protocol::Run{id, 1});
  }
  REQUIRE(scene.job->wait(kPatience_ns).value());
  CHECK(scene.job->info().first_chunks == 5);
  CHECK(scene.job->info().arena_chunks == 5);
  CHECK(scene.job->info().restored_bytes == 5 * kChunk);
  CHECK(scene.job->wait_for_chunks(5, 0).value() == 5);
  REQUIRE(scene.job->end_on_all({}));
  CHECK(scene.script->take<protocol::JobDone>().job == id);
  CHECK(scene.script->count<protocol::JobDone>() == 0);
}

TEST_CASE("work of each device is waited for on its own streams, and a failure hides no other") {
  SpanningScene scene;
  const auto id = scene.start();
  const auto recorded = [&](size_t device) {
    return scene.script->devices[device].driver->calls(driver::Operation::record_event);
  };
  const uint64_t before[] = {recorded(0), recorded(1)};
  const size_t failing = GENERATE(size_t{0}, size_t{1});
  scene.script->devices[failing].driver->fail_call(driver::Operation::query_event, 1,
                                                   {ErrorCode::driver_failure, "injected"});
  const driver::StreamHandle stream{0};
  const std::vector<std::vector<driver::StreamHandle>> streams{{stream}, {stream, stream}};
  CHECK(scene.job->end_on_all(streams).error().message == "injected");
  CHECK(recorded(0) == before[0] + 1);
  CHECK(recorded(1) == before[1] + 2);
  CHECK(scene.script->take<protocol::JobDone>().job == id);
  CHECK(scene.job->info().ended_ns > 0);
}

TEST_CASE("revokes on either device take what a job waits for, and it starts when it is back") {
  SpanningScene scene;
  scene.land(scene.first, {0, 1});
  scene.land(scene.second, {4, 5, 6});
  const auto& arena = GENERATE(true, false) ? scene.first : scene.second;
  const auto id = scene.release();
  scene.script->deliver(protocol::Revoke{arena.id, 1});
  CHECK(scene.script->take<protocol::Evicted>().resident_chunks == 1);
  scene.script->deliver(protocol::Run{id});
  CHECK_FALSE(scene.job->wait(0).value());
  const std::vector<uint32_t> back =
      &arena == &scene.first ? std::vector<uint32_t>{1} : std::vector<uint32_t>{5, 6};
  scene.script->deliver(protocol::Grant{arena.id, 1, back});
  CHECK(scene.job->wait(kPatience_ns).value());
}

TEST_CASE("after a lost link both arenas are reported, and opened again before their task") {
  SpanningScene scene;
  scene.start();
  REQUIRE(scene.job->end_on_all({}));
  REQUIRE(scene.task->pause());
  scene.resume_with({1, 0});  // in another order
  std::map<engine::ArenaId, protocol::HeldArena> held;
  for (const protocol::HeldArena& each : scene.hello.held) held[each.arena] = each;
  REQUIRE(held.size() == 2);
  CHECK(held[scene.first.id].device_uuid == "SIM-first");
  CHECK(held[scene.first.id].resident == std::vector<uint32_t>{0, 1});
  CHECK(held[scene.second.id].device_uuid == "SIM-second");
  CHECK(held[scene.second.id].resident == std::vector<uint32_t>{4, 5, 6});
  std::map<engine::ArenaId, uint32_t> opened;
  for (int i = 0; i < 2; ++i) {
    const auto arena = scene.script->take<protocol::OpenArena>();
    opened[arena.arena] = arena.device;
  }
  CHECK(opened == std::map<engine::ArenaId, uint32_t>{{scene.first.id, 1}, {scene.second.id, 0}});
  const auto task = scene.script->take<protocol::OpenTask>();
  CHECK(task.arena == scene.first.id);
  CHECK(task.further_arenas == std::vector{scene.second.id});
  for (int i = 0; i < 2; ++i) {  // when it was asked for, and that it still holds
    CHECK(scene.script->take<protocol::PauseTask>().task == scene.task_id);
  }
}

TEST_CASE(
    "an arbiter that is back without one of its devices ends the task, and no bytes are lost") {
  SpanningScene scene;
  const size_t gone = GENERATE(size_t{0}, size_t{1});
  const auto& lost = gone == 0 ? scene.first : scene.second;
  const auto& left = gone == 0 ? scene.second : scene.first;
  scene.start();
  for (const auto* arena : {&lost, &left}) {
    std::memset(reinterpret_cast<void*>(arena->state.address), 0x17, kChunk);
  }
  REQUIRE(scene.job->end_on_all({}));
  scene.resume_with({1 - gone});
  const auto expect_gone = [&](const auto& result) {
    REQUIRE_FALSE(result);
    CHECK(result.error().code == ErrorCode::unknown_device);
    CHECK_THAT(result.error().message, contains(gone == 0 ? "SIM-first" : "SIM-second"));
  };
  expect_gone(scene.task->release(0, true, Start::whole));
  expect_gone(scene.task->wait_verdict(0));
  TaskOptions options;
  options.name = "again";
  options.further_arenas = {scene.second.id};
  expect_gone(scene.session->open_task(scene.first.id, options));
  // The arbiter hears of the arena that it still has, and of no task but a new one there.
  CHECK(scene.script->take<protocol::OpenArena>().arena == left.id);
  options.further_arenas = {};
  CHECK(scene.session->open_task(left.id, options).value()->close());
  CHECK(scene.script->take<protocol::OpenTask>().name == "again");
  CHECK(scene.script->count<protocol::OpenTask>() == 0);

  REQUIRE(scene.task->close());
  for (const auto* arena : {&lost, &left}) {
    REQUIRE(scene.session->save_arena(arena->id));
    CHECK(arena->state.host[kChunk - 1] == std::byte{0x17});
    REQUIRE(scene.session->close_arena(arena->id));
  }
  CHECK(scene.script->take<protocol::CloseArena>().arena == left.id);
  CHECK(scene.script->count<protocol::CloseArena>() == 0);
}

TEST_CASE("arenas of one task lie on devices of their own, and are published") {
  SpanningScene scene;
  const auto third = scene.session->open_arena(1, "third").value();
  TaskOptions options;
  options.name = "other";
  options.further_arenas = {scene.second.id};
  CHECK_THAT(scene.session->open_task(third, options).error().message,
             contains("must be published"));
  scene.session->add_segment(third, engine::Kind::read_only, 1).value();
  REQUIRE(scene.session->publish_arena(third, -1));
  CHECK_THAT(scene.session->open_task(third, options).error().message,
             contains("two arenas on SIM-second"));
  CHECK(scene.session->close_arena(scene.second.id).error().code == ErrorCode::invalid_argument);
}
