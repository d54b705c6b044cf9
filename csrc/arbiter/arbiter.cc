#include "csrc/arbiter/arbiter.h"

#include <algorithm>

#include "csrc/arbiter/state.h"
#include "csrc/base/check.h"

namespace rtswap::arbiter {

Arbiter::State::State(Config config) : config_(std::move(config)) {
  for (const DeviceConfig& device : config_.devices) {
    devices_.emplace_back(device);
    devices_.back().restore_bytes_per_s = device.assumed_restore_bytes_per_s;
  }
  sessions_to_recover_ = config_.sessions_to_recover;
}

std::vector<Effect> Arbiter::State::step(int64_t now_ns, const Event& event) {
  RTSWAP_CHECK(now_ns >= now_ns_, "time went backwards");
  now_ns_ = now_ns;
  effects_.clear();
  std::visit([this](const auto& typed) { on(typed); }, event);
  settle_all();
  set_timer();
  return std::move(effects_);
}

void Arbiter::State::check() const {
  for (const Device& device : devices_) {
    device.ledger.check();
    uint64_t owned = 0;
    uint64_t planned = 0;
    for (const Arena* arena : device.arenas) {
      owned += device.ledger.owned(arena->key);
      planned += arena->planned_chunks;
      RTSWAP_CHECK(arena->guaranteed_chunks <= arena->planned_chunks &&
                       arena->planned_chunks <= arena->chunks,
                   "more is guaranteed than planned, or planned than there is");
      RTSWAP_CHECK(arena->landed_chunks <= device.ledger.held(arena->key), "landed but not held");
    }
    RTSWAP_CHECK(planned <= device.ledger.chunk_count(), "memory is planned twice");
    for (const Task* task : device.tasks) {
      const bool promised = edf() && task->state == TaskState::admitted;
      RTSWAP_CHECK(!promised || !device.shedding || !device.suspended.empty(),
                   "bounds hold before it is known whose");
      RTSWAP_CHECK(!task->in_question || (device.shedding && task->state == TaskState::admitted),
                   "a promise is in question that nobody asks about");
    }
    if (const Job* job = device.stage) {
      const auto& queue = device.waiting;
      RTSWAP_CHECK(
          device.holder == job || (job->state == Job::State::waiting &&
                                   std::find(queue.begin(), queue.end(), job) != queue.end()),
          "the stage is held by a job that is gone");
      RTSWAP_CHECK(lead_end(device, *job->task->arena) > 0, "a direct job holds the stage");
    }
    RTSWAP_CHECK(owned + device.ledger.free_chunks() == device.ledger.chunk_count(),
                 "chunks of an arena that is gone");
  }
  for (const auto& [id, session] : sessions_) {
    for (const auto& [job_id, job] : session->jobs) {
      for (const Job* part : parts_of(*job)) {
        const bool holds = device_of(*part->task->arena).holder == part;
        RTSWAP_CHECK(part->state == job->state && holds == (job->state == Job::State::holding),
                     "a job has some of its devices and not others");
      }
    }
  }
}

void Arbiter::State::send(const Session& session, protocol::ArbiterMessage message) {
  if (session.phase != Session::Phase::opened && session.phase != Session::Phase::active) return;
  effects_.emplace_back(Send{session.id, std::move(message)});
}

Arbiter::Arbiter(Config config) : state_(std::make_unique<State>(std::move(config))) {}
Arbiter::~Arbiter() = default;

std::vector<Effect> Arbiter::step(int64_t now_ns, const Event& event) {
  return state_->step(now_ns, event);
}

Snapshot Arbiter::snapshot() const { return state_->snapshot(); }

void Arbiter::check() const { state_->check(); }

}  // namespace rtswap::arbiter
