// Whole sessions with the arbiter in the process, on a simulated device with real bytes.
#include <poll.h>

#include <atomic>
#include <cstring>
#include <optional>
#include <random>
#include <thread>

#include "csrc/base/units.h"
#include "csrc/client/session.h"
#include "tests/catch.h"

using namespace rtswap;
using namespace rtswap::client;
using namespace rtswap::literals;
using rtswap::test::contains;

namespace {

constexpr uint64_t kChunk = 2_MiB;
constexpr int64_t kPatience_ns = 30'000'000'000;  // only a failing test waits so long

std::shared_ptr<Session> embedded(uint32_t chunks, bool guard = false) {
  ConnectOptions options;
  options.choice = ArbiterChoice::embedded;
  options.embedded.simulated_bytes = chunks * kChunk;
  options.embedded.chunk_bytes = kChunk;
  options.embedded.simulated_bytes_per_s = 4'000'000'000;
  options.verify = true;
  options.guard = guard;
  return Session::connect(std::move(options)).value();
}

TaskOptions named(const std::string& name, const Timing& timing = {}) {
  TaskOptions options;
  options.name = name;
  options.timing = timing;
  return options;
}

// A model: weights that stay, state that every job changes, and room for activations.
class Model {
 public:
  Model(Session& session, const std::string& name, uint64_t weight_bytes, uint64_t seed)
      : session_(session), random_(seed), arena_(session.open_arena(0, name).value()) {
    weights_ = fill(engine::Kind::read_only, weight_bytes, expected_weights_);
    state_ = fill(engine::Kind::mutable_state, 4096, expected_state_);
    scratch_ = session.add_segment(arena_, engine::Kind::scratch, kChunk).value();
    REQUIRE(session.publish_arena(arena_, -1));
  }

  engine::ArenaId arena() const { return arena_; }

  std::shared_ptr<Task> open(const std::string& name, Timing timing = {}) {
    auto task = session_.open_task(arena_, named(name, timing)).value();
    REQUIRE(task->wait_verdict(kPatience_ns));
    return task;
  }

  // The host images hold what jobs wrote.
  bool image_is_right() const {
    const auto holds = [](const engine::Segment& segment, const std::vector<std::byte>& expected) {
      return std::memcmp(segment.host, expected.data(), expected.size()) == 0;
    };
    return holds(weights_, expected_weights_) && holds(state_, expected_state_);
  }

  // Inside a job: true when all bytes are right. Then changes the state.
  bool work() {
    const bool right = same(weights_, expected_weights_) && same(state_, expected_state_);
    std::memset(at(scratch_), 0x5a, scratch_.bytes);
    const size_t offset = random_() % expected_state_.size();
    expected_state_[offset] ^= std::byte{1};
    at(state_)[offset] = expected_state_[offset];
    return right;
  }

 private:
  engine::Segment fill(engine::Kind kind, uint64_t bytes, std::vector<std::byte>& expected) {
    const engine::Segment segment = session_.add_segment(arena_, kind, bytes).value();
    expected.resize(bytes);
    for (std::byte& byte : expected) byte = static_cast<std::byte>(random_());
    std::memcpy(segment.host, expected.data(), bytes);
    return segment;
  }
  static std::byte* at(const engine::Segment& segment) {
    return reinterpret_cast<std::byte*>(segment.address);
  }
  static bool same(const engine::Segment& segment, const std::vector<std::byte>& expected) {
    return std::memcmp(at(segment), expected.data(), expected.size()) == 0;
  }

  Session& session_;
  std::mt19937_64 random_;
  engine::ArenaId arena_;
  engine::Segment weights_, state_, scratch_;
  std::vector<std::byte> expected_weights_, expected_state_;
};

std::shared_ptr<Job> started(Task& task) {
  auto job = task.release(0, true, Start::whole).value();
  const auto waited = job->wait(kPatience_ns);
  INFO((waited ? "" : waited.error().message));
  REQUIRE(waited);
  REQUIRE(*waited);
  return job;
}

}  // namespace

TEST_CASE("two models that do not fit together take turns, bit for bit") {
  const bool guard = GENERATE(false, true);
  const auto session = embedded(5, guard);
  CHECK(session->embedded());
  CHECK(session->connected());
  CHECK_THAT(session->arbiter_name(), contains("embedded"));
  REQUIRE(session->devices().size() == 1);
  CHECK(session->find_device(session->devices()[0].uuid).value() == 0);
  CHECK(session->find_device("GPU-none").error().code == ErrorCode::unknown_device);
  Model first(*session, "first", kChunk + 12'345, 1);
  Model second(*session, "second", 2 * kChunk - 1, 2);
  const auto a = first.open("first");
  const auto b = second.open("second");
  uint64_t restored_bytes = 0;
  for (int cycle = 0; cycle < 50; ++cycle) {
    for (const auto& [task, model] : {std::pair(a, &first), std::pair(b, &second)}) {
      const auto job = started(*task);
      REQUIRE(model->work());
      REQUIRE(job->end({}));
      const JobInfo info = job->info();
      CHECK(info.index == static_cast<uint64_t>(cycle));
      CHECK(info.started_ns >= info.release_ns);
      CHECK(info.ended_ns >= info.started_ns);
      CHECK(info.waited_ns >= 0);
      restored_bytes += info.restored_bytes;
    }
  }
  CHECK(restored_bytes > 50 * kChunk);
  CHECK(session->arena_stats(first.arena())->repaired_bytes == 0);
  CHECK(session->arena_stats(first.arena())->written_back_bytes > 0);
  const auto stats = session->arena_stats(first.arena()).value();
  CHECK(stats.guarded_chunks == (guard ? stats.chunks - stats.resident_chunks : 0));
  CHECK(stats.resident_chunks < stats.chunks);
  const auto snapshot = session->snapshot(kPatience_ns);
  REQUIRE(snapshot);
  CHECK(snapshot->tasks.size() == 2);
  REQUIRE(snapshot->devices.size() == 1);
  CHECK(snapshot->devices[0].static_bytes == (guard ? kChunk : 0));
  CHECK(session->close());
}

TEST_CASE("models of several threads exclude each other and lose nothing") {
  const auto session = embedded(5);
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  std::atomic<int> inside = 0;
  std::vector<std::unique_ptr<Model>> models;
  std::vector<std::shared_ptr<Task>> tasks;
  for (int i = 0; i < 3; ++i) {
    const std::string name = "model-" + std::to_string(i);
    models.push_back(std::make_unique<Model>(*session, name, kChunk, i));
    tasks.push_back(models.back()->open(name));
  }
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&, i] {
      for (int cycle = 0; cycle < 15; ++cycle) {
        const auto job = tasks[i]->release(0, true, Start::whole).value();
        wrong += !job->wait(kPatience_ns).value_or(false);
        wrong += inside.fetch_add(1) != 0;
        wrong += !models[i]->work();
        inside.fetch_sub(1);
        wrong += !job->end({}).has_value();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("a waiting job can be waited for, polled, and cancelled; the next one gets the grant") {
  const auto session = embedded(8);
  Model model(*session, "model", kChunk, 3);
  const auto task = model.open("model");
  const auto running = started(*task);
  CHECK(running->wait(0).value());
  const auto waiting = task->release(0, true, Start::whole).value();
  const auto after = task->release(0, true, Start::whole).value();
  CHECK_FALSE(waiting->wait(0).value());
  CHECK_FALSE(after->wait(1'000'000).value());
  CHECK(waiting->end({}).error().code == ErrorCode::invalid_argument);
  pollfd poller{.fd = after->ready_descriptor().value(), .events = POLLIN, .revents = 0};
  CHECK(poll(&poller, 1, 0) == 0);
  waiting->cancel();
  waiting->cancel();
  CHECK(waiting->wait(0).error().code == ErrorCode::interrupted);
  REQUIRE(running->end({}));
  CHECK(running->end({}).error().code == ErrorCode::invalid_argument);
  REQUIRE(poll(&poller, 1, static_cast<int>(kPatience_ns / 1'000'000)) == 1);
  CHECK(after->wait(0).value());
  CHECK(model.work());
  CHECK(after->end({}));
}

TEST_CASE("a job whose last reference goes gives its grant back") {
  const auto session = embedded(8);
  Model model(*session, "model", kChunk, 4);
  const auto task = model.open("model");
  started(*task).reset();                                // started
  task->release(0, true, Start::whole).value().reset();  // granted or on its way
  const auto job = started(*task);
  CHECK(model.work());
  CHECK(job->end({}));
}

TEST_CASE("names are unique in the process, and free again after close") {
  const auto session = embedded(8);
  Model model(*session, "model", kChunk, 5);
  auto task = model.open("same");
  const auto again = session->open_task(model.arena(), named("same"));
  REQUIRE_FALSE(again);
  CHECK(again.error().code == ErrorCode::duplicate_name);
  const auto waiting = task->release(0, true, Start::whole).value();
  const auto blocked = task->release(0, true, Start::whole).value();
  REQUIRE(waiting->wait(kPatience_ns).value());
  CHECK(task->close().error().code == ErrorCode::invalid_argument);
  REQUIRE(waiting->end({}));
  CHECK(session->close_arena(model.arena()).error().code == ErrorCode::invalid_argument);
  CHECK(task->close());
  CHECK(task->close());
  CHECK(blocked->wait(0).error().code == ErrorCode::closed);
  CHECK(task->release(0, true, Start::whole).error().code == ErrorCode::closed);
  CHECK(model.open("same"));
  CHECK(session->close_arena(model.arena()));
  CHECK(session->close_arena(model.arena()).error().code == ErrorCode::closed);
}

TEST_CASE("a refused update keeps the old timing, and says why") {
  const auto session = embedded(8);
  Model model(*session, "model", kChunk, 6);
  const Timing timing{.period_ns = 100'000'000, .deadline_ns = 100'000'000, .wcet_ns = 1'000'000};
  const auto task = model.open("model", timing);
  REQUIRE(task->verdict().state == TaskState::admitted);
  const auto refused = task->update(
      {.period_ns = 10'000'000, .deadline_ns = 10'000'000, .wcet_ns = 9'999'999}, kPatience_ns);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ErrorCode::admission_refused);
  CHECK(task->verdict().timing.period_ns == timing.period_ns);
  CHECK(task->wait_verdict(0)->request_refused);
  const auto slower = task->update(
      {.period_ns = 200'000'000, .deadline_ns = 150'000'000, .wcet_ns = 1'000'000}, kPatience_ns);
  REQUIRE(slower);
  CHECK(slower->timing.period_ns == 200'000'000);
  CHECK(task->release(1000, false, Start::whole).value()->info().deadline_ns == 150'001'000);
  CHECK(task->release(1000, true, Start::whole).value()->info().deadline_ns ==
        protocol::kNoDeadline_ns);

  REQUIRE(task->pause());
  CHECK(task->wait_verdict(kPatience_ns)->state == TaskState::paused);
  CHECK(task->release(0, true, Start::whole).error().code == ErrorCode::job_dropped);
  CHECK(task->resume(kPatience_ns)->state == TaskState::admitted);
}

TEST_CASE("a release that comes early counts from the end of the period, for arbiter and caller") {
  const auto session = embedded(8);
  Model model(*session, "camera", kChunk, 1);
  const auto task =
      model.open("camera", {.period_ns = 200_ms, .deadline_ns = 200_ms, .wcet_ns = 1_ms});
  int64_t first_release_ns = 0;
  for (int i = 0; i < 3; ++i) {  // all at once
    const auto job = task->release(0, false, Start::whole).value();
    REQUIRE(job->wait(kPatience_ns).value());
    CHECK(model.work());
    REQUIRE(job->end({}));
    const JobInfo info = job->info();
    if (i == 0) first_release_ns = info.release_ns;
    CHECK(info.deadline_ns >= first_release_ns + (i + 1) * 200_ms);
    CHECK(info.started_ns >= first_release_ns + i * 200_ms);
  }
}

TEST_CASE("a model larger than the bank is refused, also when it grows to that") {
  const auto session = embedded(4);
  Model model(*session, "model", kChunk, 7);
  const auto task = model.open("model");
  REQUIRE(session->add_segment(model.arena(), engine::Kind::scratch, 2 * kChunk));
  const auto grown = session->publish_arena(model.arena(), -1);
  REQUIRE_FALSE(grown);
  CHECK(grown.error().code == ErrorCode::model_too_large);
  // The old size stays in force, and what was too much stands in nobody's way.
  REQUIRE(session->discard_growth(model.arena()));
  CHECK(session->arena_stats(model.arena())->chunks == 3);
  REQUIRE(session->add_segment(model.arena(), engine::Kind::scratch, kChunk));
  REQUIRE(session->publish_arena(model.arena(), -1));
  const auto job = started(*task);
  CHECK(model.work());
  CHECK(job->end({}));

  const auto large = session->open_arena(0, "large").value();
  REQUIRE(session->add_segment(large, engine::Kind::scratch, 5 * kChunk));
  REQUIRE(session->publish_arena(large, -1));
  const auto refused = session->open_task(large, named("large")).value();
  const auto verdict = refused->wait_verdict(kPatience_ns);
  REQUIRE(verdict);
  CHECK(verdict->request_refused);
  CHECK(verdict->reason.code == ErrorCode::model_too_large);
}

TEST_CASE("an arena that grows is restored with its new part") {
  const auto session = embedded(8);
  Model model(*session, "model", kChunk, 8);
  const auto task = model.open("model");
  REQUIRE(started(*task)->end({}));
  const auto segment = session->add_segment(model.arena(), engine::Kind::read_only, kChunk).value();
  std::memset(segment.host, 0x42, segment.bytes);
  REQUIRE(session->publish_arena(model.arena(), -1));
  const auto job = started(*task);
  CHECK(*reinterpret_cast<const unsigned char*>(segment.address + segment.bytes - 1) == 0x42);
  CHECK(job->end({}));
}

TEST_CASE("what jobs wrote is in the host images once an arena was saved, without another job") {
  const auto session = embedded(8);
  Model model(*session, "model", kChunk, 8);
  auto task = model.open("model");
  const auto job = started(*task);
  CHECK(model.work());
  CHECK(session->save_arena(model.arena()).error().code == ErrorCode::invalid_argument);
  CHECK(job->end({}));
  REQUIRE(task->pause());
  REQUIRE(task->close());
  REQUIRE(session->save_arena(model.arena()));
  CHECK(model.image_is_right());
  CHECK(session->arena_stats(model.arena())->resident_chunks == 0);
  CHECK(session->close_arena(model.arena()));
}

TEST_CASE("others get the memory of an arena once it was saved, before it is closed") {
  const auto session = embedded(4);
  Model saved(*session, "saved", kChunk, 8);
  Model other(*session, "other", kChunk, 9);
  auto task = saved.open("saved");
  const auto next = other.open("other");
  const auto job = started(*task);
  CHECK(saved.work());
  REQUIRE(job->end({}));
  REQUIRE(task->close());
  REQUIRE(session->save_arena(saved.arena()));
  // Now its owner moves the bytes somewhere, which may take long.
  const auto granted = started(*next);
  CHECK(other.work());
  REQUIRE(granted->end({}));
  CHECK(saved.image_is_right());
  CHECK(session->close_arena(saved.arena()));
}

TEST_CASE("closing a session ends whatever waits, in every state") {
  const auto session = embedded(8);
  Model model(*session, "model", kChunk, 9);
  const auto task = model.open("model");
  const auto running = started(*task);
  const auto waiting = task->release(0, true, Start::whole).value();
  std::optional<ErrorCode> seen;
  std::thread waiter([&] { seen = waiting->wait(-1).error().code; });
  CHECK(session->close());
  waiter.join();
  CHECK(seen == ErrorCode::closed);
  CHECK(session->close());
  CHECK(running->end({}).error().code == ErrorCode::closed);
  CHECK(task->release(0, true, Start::whole).error().code == ErrorCode::closed);
  CHECK(task->wait_verdict(-1).error().code == ErrorCode::closed);
  CHECK(session->open_arena(0, "late").error().code == ErrorCode::closed);
  CHECK(session->snapshot(-1).error().code == ErrorCode::closed);
  CHECK(session->arena_stats(model.arena()).error().code == ErrorCode::closed);
  CHECK_FALSE(session->connected());
}

TEST_CASE("handles may outlive their session") {
  auto session = embedded(8);
  std::shared_ptr<Task> task;
  std::shared_ptr<Job> job;
  {
    Model model(*session, "model", kChunk, 10);
    task = model.open("model");
    job = task->release(0, true, Start::whole).value();
  }
  session.reset();
  CHECK(job->wait(-1).error().code == ErrorCode::closed);
  CHECK(task->update({}, -1).error().code == ErrorCode::closed);
}

TEST_CASE("more memory beside the bank than there is is refused before anything is prepared") {
  ConnectOptions options;
  options.choice = ArbiterChoice::embedded;
  options.embedded.simulated_bytes = 4 * kChunk;
  options.embedded.chunk_bytes = kChunk;
  options.static_bytes = 5 * kChunk;  // of the 4 chunks that a simulated device has beside its bank
  const auto session = Session::connect(std::move(options)).value();
  for (int attempt = 0; attempt < 2; ++attempt) {
    const Status used = session->use_device(0);
    REQUIRE_FALSE(used);
    CHECK(used.error().code == ErrorCode::static_memory);
    CHECK_THAT(used.error().message, contains("10 MiB") && contains("8 MiB are left"));
  }
  CHECK(session->connected());
}

TEST_CASE("the guard counts beside the bank") {
  ConnectOptions options;
  options.choice = ArbiterChoice::embedded;
  options.embedded.simulated_bytes = 4 * kChunk;
  options.embedded.chunk_bytes = kChunk;
  options.static_bytes = 4 * kChunk;  // all that a simulated device has there
  CHECK(Session::connect(options).value()->use_device(0));
  options.guard = true;
  const auto session = Session::connect(options).value();
  const Status used = session->use_device(0);
  REQUIRE_FALSE(used);
  CHECK(used.error().code == ErrorCode::static_memory);
  CHECK_THAT(used.error().message, contains("10 MiB beside the bank (static= and one chunk for"));
}
