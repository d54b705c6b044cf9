// What arbiter and engines say. All of it is quick: the next message waits behind.
#include <algorithm>
#include <utility>
#include <variant>

#include "csrc/client/core.h"

namespace rtswap::client {
namespace {

// Why a job was dropped that was too late already when it was asked for: a stamp of another clock,
// or in another unit, looks like a very old one.
Error with_lateness(const JobRecord& job, Error reason) {
  if (reason.code != ErrorCode::job_dropped || job.requested_ns <= job.info.deadline_ns) {
    return reason;
  }
  const int64_t late_us = (job.requested_ns - job.info.release_ns) / 1000;
  reason.message += ". It was asked for " + std::to_string(late_us / 1000) + "." +
                    std::to_string(late_us % 1000 / 100) +
                    " ms after its release, too late already. Stamps are nanoseconds of this "
                    "machine's CLOCK_MONOTONIC or CLOCK_REALTIME";
  return reason;
}

}  // namespace

// ------------------------------------------------------------------------------------ arbiter

void Core::on_message(protocol::ArbiterMessage message) {
  const std::lock_guard lock(mutex_);
  if (!link_up_) return;  // crossed the end of this link
  std::visit([this](const auto& typed) { on(typed); }, message);
}

void Core::on_lost(const Error& error) {
  const std::lock_guard lock(mutex_);
  link_up_ = false;
  if (phase_ == Phase::ended) return;
  if (!source_->can_reconnect() || descriptions_.empty()) {
    end_for_good(error);
    return;
  }
  const bool was_connected = phase_ == Phase::connected;
  phase_ = Phase::lost;
  reason_ = {ErrorCode::daemon_unavailable,
             error.message +
                 "; memory and data of this process are kept, running jobs go on, and "
                 "the session resumes by itself when the arbiter is back"};
  if (was_connected) fail_waiting_jobs(reason_);
  // What the arbiter did not take in yet is part of the next Hello.
  for (auto& [id, arena] : arenas_) {
    if (std::exchange(arena.resize, std::nullopt)) arena.resize_refused = reason_;
  }
  changed_.notify_all();
}

void Core::on(const protocol::Welcome& message) {
  // One that comes while the session is closed has nobody left who waits for it.
  if (phase_ != Phase::connecting || welcome_ || closing_) return;
  if (message.protocol_version != protocol::kVersion) {
    end_for_good({ErrorCode::protocol_mismatch,
                  "the arbiter (" + message.arbiter_version + ") speaks version " +
                      std::to_string(message.protocol_version) +
                      " of the protocol, this library version " +
                      std::to_string(protocol::kVersion) + ": update " +
                      (message.protocol_version < protocol::kVersion ? "rtswapd"
                                                                     : "the package rtswap here")});
    return;
  }
  welcome_ = message;
  session_ = message.session;
  if (descriptions_.empty()) {
    for (uint32_t i = 0; i < message.devices.size(); ++i) remote_indices_.push_back(i);
  } else {
    match_devices(message);
  }
  changed_.notify_all();
}

void Core::on(const protocol::Verdict& message) {
  TaskRecord* const task = find_task(message.task);
  if (task == nullptr) return;  // closed meanwhile
  // A change that crossed the request is not its answer.
  if (message.requests_answered > task->verdict.requests_answered) {
    task->refusal = message.request_refused ? std::optional(message.reason) : std::nullopt;
  }
  const Error reason_before = std::exchange(task->verdict, message).reason;
  // Why a request was refused is not why the task is what it is.
  if (message.request_refused && message.state != TaskState::refused) {
    task->verdict.reason = reason_before;
  }
  if (task->update && message.requests_answered >= task->update->request) {
    if (!message.request_refused) task->options.timing = task->update->timing;
    task->update.reset();
  }
  for (const engine::ArenaId id : task->arenas) {
    if (ArenaRecord* const arena = find_arena(id)) settle_resize(*arena, message);
  }
  changed_.notify_all();
}

void Core::settle_resize(ArenaRecord& arena, const Verdict& verdict) {
  if (!arena.resize || arena.resize->task != verdict.task ||
      verdict.requests_answered < arena.resize->request) {
    return;
  }
  if (verdict.request_refused) {
    arena.published = arena.resize->before;
    arena.resize_refused = verdict.reason;
  } else {
    // The arbiter has forgotten them as well: nobody knows when jobs use what is new.
    for (const auto& [id, task] : tasks_) {
      if (uses(*task, arena.id)) task->options.timing.layers.clear();
    }
  }
  arena.resize.reset();
}

void Core::on(const protocol::Grant& message) {
  ArenaRecord* const arena = find_arena(message.arena);
  if (arena == nullptr || arena->closing) return;  // goes back with the arena
  if (message.first_position != arena->next_position) {
    // It was sent before the arbiter knew that a restore had failed, and has no ground to stand on.
    answer(protocol::RestoreFailed{
        arena->id, arena->landed,
        Error{ErrorCode::driver_failure, "an earlier restore of the arena failed"}});
    return;
  }
  arena->next_position += static_cast<uint32_t>(message.chunks.size());
  arena->grants.push_back({arena->next_position, arena->revokes_given});
  devices_[arena->device]->engine().restore(arena->id, message.first_position, message.chunks);
}

void Core::on(const protocol::Revoke& message) {
  ArenaRecord* const arena = find_arena(message.arena);
  if (arena == nullptr || arena->closing) return;
  arena->next_position = std::min(arena->next_position, message.keep_chunks);
  ++arena->revokes_given;
  devices_[arena->device]->engine().evict(arena->id, message.keep_chunks);
}

void Core::on(const protocol::Run& message) {
  const auto found = jobs_.find(message.job);
  if (found == jobs_.end()) return;  // its task was closed: the arbiter takes the grant back itself
  JobRecord& job = *found->second;
  if (job.state == JobRecord::State::over) {  // crossed its cancellation
    jobs_.erase(found);
    answer(protocol::JobDone{message.job, 0});
    changed_.notify_all();
    return;
  }
  job.granted = true;
  job.first_chunks = message.first_chunks;
  if (const ArenaRecord* const arena = find_arena(job.arenas.front())) arena_changed(*arena);
}

void Core::on(const protocol::Dropped& message) {
  const auto found = jobs_.find(message.job);
  if (found == jobs_.end()) return;
  const JobPtr job = found->second;
  switch (job->state) {
    case JobRecord::State::started:
    case JobRecord::State::ending:
      // Its owner uses what has landed; the arbiter leaves it that, and the device, until JobDone.
      job->given_up = message.reason;
      wake_running_jobs();
      return;
    case JobRecord::State::settling:
      report_done(job);
      return;
    case JobRecord::State::waiting:
    case JobRecord::State::ready:
    case JobRecord::State::over:
      fail_job(*job, with_lateness(*job, message.reason));
      jobs_.erase(found);
      // It might have begun: the arbiter keeps the device for it until it hears.
      if (job->granted) answer(protocol::JobDone{message.job, 0});
      changed_.notify_all();
  }
}

void Core::on(const protocol::Begin& message) {
  begin_ns_ = message.start_ns;
  changed_.notify_all();
}

void Core::on(const protocol::Fault& message) { end_for_good(message.error); }

// ------------------------------------------------------------------------------------ engines

void Core::on_restored(engine::ArenaId id, uint32_t landed_chunks) {
  const Turn turn(*this);
  ArenaRecord* const arena = find_arena(id);
  if (arena == nullptr || arena->closing) return;
  arena->landed = landed_chunks;
  forget_landed(*arena);
  answer(protocol::Restored{id, landed_chunks});
  arena_changed(*arena);
}

void Core::forget_landed(ArenaRecord& arena) {
  while (!arena.grants.empty() && arena.grants.front().end_position <= arena.landed &&
         arena.grants.front().revokes_before <= arena.revokes_answered) {
    arena.grants.pop_front();
  }
}

void Core::on_restore_failed(engine::ArenaId id, uint32_t resident_chunks, const Error& error) {
  const Turn turn(*this);
  ArenaRecord* const arena = find_arena(id);
  if (arena == nullptr || arena->closing) return;
  arena->landed = resident_chunks;
  forget_landed(*arena);
  const Error explained = devices_[arena->device]->explain(error);
  // The engine reports once for all restores given to it; the arbiter counts grants.
  for (size_t i = 0; i < arena->grants.size(); ++i) {
    answer(protocol::RestoreFailed{id, resident_chunks, explained});
  }
  arena->grants.clear();
  arena->next_position = std::min(arena->next_position, resident_chunks);
  arena_changed(*arena);
  if (explained.code == ErrorCode::device_lost) fail_jobs_of_lost_devices();
}

void Core::on_evicted(engine::ArenaId arena, uint32_t resident_chunks,
                      uint64_t written_back_bytes) {
  answer_eviction(arena, resident_chunks, written_back_bytes);
}

// The arbiter takes an answer with more than it asked to keep for what it is.
void Core::on_evict_failed(engine::ArenaId id, uint32_t resident_chunks, const Error& error) {
  answer_eviction(id, resident_chunks, 0);
  const Turn turn(*this);
  ArenaRecord* const arena = find_arena(id);
  if (arena == nullptr) return;
  arena->evict_failure = devices_[arena->device]->explain(error);
  if (error.code == ErrorCode::device_lost) fail_jobs_of_lost_devices();
}

void Core::answer_eviction(engine::ArenaId id, uint32_t resident_chunks,
                           uint64_t written_back_bytes) {
  const Turn turn(*this);
  ArenaRecord* const arena = find_arena(id);
  if (arena == nullptr || arena->closing) return;
  ++arena->revokes_answered;
  arena->landed = resident_chunks;
  // Less was evicted than was asked for: the next grant continues what is left.
  if (arena->grants.empty() && arena->revokes_answered == arena->revokes_given) {
    arena->next_position = resident_chunks;
  }
  if (!gone(arena->device)) answer(protocol::Evicted{id, resident_chunks, written_back_bytes});
  arena_changed(*arena);
}

}  // namespace rtswap::client
