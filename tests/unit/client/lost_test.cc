// A lost context: what it is told to whom, and that nobody goes on waiting.
#include "tests/unit/client/scene.h"

using namespace rtswap;
using namespace rtswap::client;
using namespace rtswap::client::test;
using driver::Operation;
using rtswap::test::contains;

namespace {

const Error kLost{ErrorCode::device_lost, "error 700"};

template <class T>
void is_told(const Result<T>& result) {
  REQUIRE_FALSE(result);
  CHECK(result.error().code == ErrorCode::device_lost);
  CHECK_THAT(result.error().message, contains("error 700. "));
}

}  // namespace

TEST_CASE("memory that cannot be saved says why") {
  Scene scene;
  scene.make_resident();
  REQUIRE(scene.start()->end({}));
  REQUIRE(scene.task->close());
  scene.script->device->fail_call(Operation::unmap, 1, {ErrorCode::device_lost, "error 700"});
  const auto saved = scene.session->save_arena(scene.arena);
  REQUIRE_FALSE(saved);
  CHECK(saved.error().code == ErrorCode::device_lost);
  CHECK_THAT(saved.error().message, contains("what the device has of model could not be copied") &&
                                        contains("The reason: error 700"));
}

TEST_CASE("a lost context names the tasks whose memory was not there") {
  const bool guard = GENERATE(false, true);
  ConnectOptions options;
  options.guard = guard;
  Scene scene(options);
  const auto how_to_find_it =
      contains(guard ? "it was a write, or" : "run with rtswap.enable(guard=True)");
  scene.make_resident();
  const auto evicted = scene.session->open_arena(0, "task 'evicted'").value();
  REQUIRE(scene.session->add_segment(evicted, engine::Kind::read_only, kChunk));
  REQUIRE(scene.session->publish_arena(evicted, -1));
  const auto job = scene.start();
  const Error lost{ErrorCode::device_lost, "error 700"};
  SECTION("at the end of a job") {
    scene.script->device->fail_call(Operation::query_event, 1, lost);
    const auto ended = job->end({});
    REQUIRE_FALSE(ended);
    CHECK(ended.error().code == ErrorCode::device_lost);
    CHECK_THAT(ended.error().message, contains("error 700. Not, or not wholly, on the device now: "
                                               "task 'evicted'. If work outside"));
    CHECK_THAT(ended.error().message, how_to_find_it);
  }
  SECTION("when its work is asked after") {
    const auto work = job->queued_work({}).value();
    CHECK(work->completed().value());
    scene.script->device->fail_call(Operation::query_event, 1, lost);
    const auto completed = work->completed();
    REQUIRE_FALSE(completed);
    CHECK(completed.error().code == ErrorCode::device_lost);
    CHECK_THAT(completed.error().message, contains("device now: task 'evicted'. If"));
  }
  SECTION("when the next restore fails") {
    scene.script->device->fail_call(Operation::map, 1, lost);
    scene.script->deliver(protocol::Grant{evicted, 0, {7}});
    const auto failed = scene.script->take<protocol::RestoreFailed>();
    CHECK(failed.error.code == ErrorCode::device_lost);
    CHECK_THAT(failed.error.message, contains("device now: task 'evicted'. If"));
  }
  SECTION("when a model grows") {
    scene.script->device->fail_call(Operation::reserve, 1, lost);
    const auto more = scene.session->add_segment(evicted, engine::Kind::read_only, kChunk);
    REQUIRE_FALSE(more);
    CHECK(more.error().code == ErrorCode::device_lost);
    CHECK_THAT(more.error().message, contains("device now: task 'evicted'. If") && how_to_find_it);
  }
  SECTION("when a model is closed") {
    REQUIRE(scene.session->open_arena(0, "task 'other'"));
    scene.script->device->fail_call(Operation::unreserve, 1, lost);
    const auto closed = scene.session->close_arena(evicted);
    REQUIRE_FALSE(closed);
    CHECK(closed.error().code == ErrorCode::device_lost);
    CHECK_THAT(closed.error().message,
               contains("device now: task 'evicted'. If") && how_to_find_it);
  }
  SECTION("or says that all of it was") {
    scene.script->deliver(protocol::Grant{evicted, 0, {7}});
    scene.script->take<protocol::Restored>();
    scene.script->device->fail_call(Operation::query_event, 1, lost);
    CHECK_THAT(job->end({}).error().message, contains("none of it was missed"));
  }
}

TEST_CASE("whoever waits for a job on a lost device is told") {
  Scene scene;
  std::shared_ptr<Job> waiting;
  std::shared_ptr<Job> granted;
  scene.release(waiting);
  SECTION("when a job ends by it") {
    scene.make_resident();
    const auto job = scene.start();
    scene.script->device->fail_call(Operation::query_event, 1, kLost);
    is_told(job->end({}));
    scene.script->take<protocol::JobDone>();
    is_told(waiting->wait(kPatience_ns));
    scene.script->take<protocol::CancelJob>();
  }
  SECTION("when memory cannot leave") {
    scene.make_resident();
    scene.script->device->fail_call(Operation::unmap, 1, kLost);
    scene.script->deliver(protocol::Revoke{scene.arena, 0});
    CHECK(scene.script->take<protocol::Evicted>().resident_chunks == 3);
    is_told(waiting->wait(kPatience_ns));
    scene.script->take<protocol::CancelJob>();
  }
  SECTION("when memory cannot come") {
    const auto id = scene.release(granted);
    scene.script->deliver(protocol::Run{id});
    scene.script->device->fail_call(Operation::map, 1, kLost);
    scene.grant(0, {4, 5, 6});
    scene.script->take<protocol::RestoreFailed>();
    is_told(waiting->wait(kPatience_ns));
    is_told(granted->wait(kPatience_ns));
    CHECK(scene.script->take<protocol::JobDone>().job == id);  // the arbiter gets the device back
  }
  // Nothing more is asked of the arbiter.
  is_told(scene.task->release(0, true, Start::prefix));
  CHECK(scene.script->count<protocol::Release>() == 0);
}

TEST_CASE("a running job whose memory does not come any more is told, and ends") {
  Scene scene;
  std::shared_ptr<Job> job;
  scene.script->deliver(protocol::Run{scene.release(job), 1});
  scene.grant(0, {4});
  REQUIRE(job->wait(kPatience_ns).value());
  scene.script->device->fail_call(Operation::map, 1, kLost);
  scene.grant(1, {5, 6});
  is_told(job->wait_for_chunks(3, kPatience_ns));
  is_told(job->end({}));
  scene.script->take<protocol::JobDone>();
}

TEST_CASE("a job that was ready, and whose owner did not look yet, gives the device back") {
  Scene scene;
  std::shared_ptr<Job> job;
  const auto id = scene.release(job);
  scene.script->deliver(protocol::Run{id, 1});
  scene.grant(0, {4});
  scene.script->take<protocol::Restored>();
  scene.script->device->fail_call(Operation::map, 1, kLost);
  scene.grant(1, {5, 6});
  scene.script->take<protocol::RestoreFailed>();
  is_told(job->wait(kPatience_ns));
  CHECK(scene.script->take<protocol::JobDone>().job == id);
}
