// A session against a scripted arbiter, with something to run.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/catch.h"
#include "tests/unit/client/scripted_arbiter.h"

namespace rtswap::client::test {

// A session with one arena of three chunks (two of weights, one of state) and one task.
struct Scene {
  explicit Scene(const ConnectOptions& connect = {}) {
    session = connect_through(std::make_unique<ScriptedSource>(script), connect).value();
    CHECK(script->take<protocol::Hello>().resumed_session == 0);
    arena = session->open_arena(0, "model").value();
    CHECK(script->take<protocol::DeviceReport>().restore_bytes_per_s == 1'000'000'000);
    weights = session->add_segment(arena, engine::Kind::read_only, 2 * kChunk).value();
    state = session->add_segment(arena, engine::Kind::mutable_state, 100).value();
    REQUIRE(session->publish_arena(arena, -1));
    const auto opened = script->take<protocol::OpenArena>();
    CHECK(opened.chunks == 3);
    CHECK(opened.mutable_chunks == 1);
    TaskOptions options;
    options.name = "task";
    task = session->open_task(arena, options).value();
    task_id = script->take<protocol::OpenTask>().task;
    answer(1, TaskState::best_effort);
  }

  void answer(uint32_t request, TaskState state_now, std::optional<Error> refusal = std::nullopt,
              Timing timing = {}) {
    protocol::Verdict verdict;
    verdict.task = task_id;
    verdict.state = state_now;
    verdict.request_refused = refusal.has_value();
    if (refusal) verdict.reason = *refusal;
    verdict.timing = timing;
    verdict.requests_answered = request;
    script->deliver(verdict);
  }
  protocol::JobId release(std::shared_ptr<Job>& job) {
    job = task->release(0, true, Start::prefix).value();
    return script->take<protocol::Release>().job;
  }
  void grant(uint32_t first, std::vector<uint32_t> chunks) {
    script->deliver(protocol::Grant{arena, first, std::move(chunks)});
  }
  void make_resident() {
    grant(0, {4, 5, 6});
    while (script->take<protocol::Restored>().landed_chunks < 3) {
    }
  }
  std::shared_ptr<Job> start() {
    std::shared_ptr<Job> job;
    const auto id = release(job);
    script->deliver(protocol::Run{id});
    REQUIRE(job->wait(kPatience_ns).value());
    return job;
  }
  void reconnect(const std::string& bank_id = {}) {
    if (!bank_id.empty()) {
      const std::lock_guard lock(script->mutex);
      script->welcome.devices[0].bank_id = bank_id;
    }
    script->allow_connections(true);
  }

  const std::shared_ptr<ScriptedArbiter> script = std::make_shared<ScriptedArbiter>();
  std::shared_ptr<Session> session;
  engine::ArenaId arena = 0;
  engine::Segment weights, state;
  std::shared_ptr<Task> task;
  protocol::TaskId task_id = 0;
};

}  // namespace rtswap::client::test
