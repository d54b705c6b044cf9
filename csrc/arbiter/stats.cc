// What people and tests see: traces and snapshots.
#include <algorithm>

#include "csrc/arbiter/state.h"

namespace rtswap::arbiter {

const char* to_string(Trace::Kind kind) noexcept {
  switch (kind) {
    case Trace::Kind::session_opened:
      return "session_opened";
    case Trace::Kind::session_closed:
      return "session_closed";
    case Trace::Kind::verdict:
      return "verdict";
    case Trace::Kind::released:
      return "released";
    case Trace::Kind::granted_gpu:
      return "granted_gpu";
    case Trace::Kind::restore_begin:
      return "restore_begin";
    case Trace::Kind::restore_end:
      return "restore_end";
    case Trace::Kind::evict_begin:
      return "evict_begin";
    case Trace::Kind::evict_end:
      return "evict_end";
    case Trace::Kind::run_begin:
      return "run_begin";
    case Trace::Kind::run_end:
      return "run_end";
    case Trace::Kind::dropped:
      return "dropped";
    case Trace::Kind::missed:
      return "missed";
    case Trace::Kind::overrun:
      return "overrun";
    case Trace::Kind::suspended:
      return "suspended";
    case Trace::Kind::resumed:
      return "resumed";
  }
  return "unknown";
}

void Arbiter::State::trace(Trace::Kind kind, const Session& session, const std::string& detail) {
  Trace event;
  event.kind = kind;
  event.at_ns = now_ns_;
  event.task = session.process_name + "@" + std::to_string(session.pid);
  event.detail = detail;
  effects_.emplace_back(std::move(event));
}

void Arbiter::State::trace(Trace::Kind kind, const Device& device, const std::string& detail) {
  Trace event;
  event.kind = kind;
  event.at_ns = now_ns_;
  event.device = static_cast<uint32_t>(
      std::find_if(devices_.begin(), devices_.end(),
                   [&device](const Device& other) { return &other == &device; }) -
      devices_.begin());
  event.detail = detail;
  effects_.emplace_back(std::move(event));
}

void Arbiter::State::trace(Trace::Kind kind, const Task& task, const std::string& detail) {
  Trace event;
  event.kind = kind;
  event.at_ns = now_ns_;
  event.device = task.arena->device;
  event.task = task.full_name;
  event.detail = detail;
  effects_.emplace_back(std::move(event));
}

void Arbiter::State::trace(Trace::Kind kind, const Job& job, const std::string& detail) {
  Trace event;
  event.kind = kind;
  event.at_ns = now_ns_;
  event.device = job.task->arena->device;
  event.task = job.task->full_name;
  event.job = job.index;
  event.release_ns = job.release_ns;
  event.deadline_ns = job.deadline_ns;
  event.detail = detail;
  effects_.emplace_back(std::move(event));
}

void Arbiter::State::trace(Trace::Kind kind, const Arena& arena, uint64_t chunks,
                           const std::string& detail) {
  Trace event;
  event.kind = kind;
  event.at_ns = now_ns_;
  event.device = arena.device;
  if (!arena.tasks.empty()) event.task = arena.tasks.front()->full_name;
  event.bytes = bytes(arena, static_cast<uint32_t>(chunks));
  event.detail = detail;
  effects_.emplace_back(std::move(event));
}

uint64_t Arbiter::State::bytes(const Arena& arena, uint32_t chunks) const {
  return chunks * device_of(arena).config.description.chunk_bytes;
}

Task* Arbiter::State::charged_task(const Arena& arena) const {
  const Job* holder = device_of(arena).holder;
  if (holder != nullptr && holder->task->arena == &arena) return holder->task;
  return arena.tasks.empty() ? nullptr : arena.tasks.front();
}

Snapshot Arbiter::State::snapshot() const {
  Snapshot snapshot;
  snapshot.recovering = recovering();
  for (size_t index = 0; index < devices_.size(); ++index) {
    const Device& device = devices_[index];
    DeviceStats stats;
    stats.uuid = device.config.description.uuid;
    stats.chunk_bytes = device.config.description.chunk_bytes;
    stats.chunk_count = device.ledger.chunk_count();
    stats.free_chunks = device.ledger.free_chunks();
    for (const auto& [id, session] : sessions_) stats.static_bytes += session->static_bytes[index];
    stats.static_limit_bytes = device.config.static_limit_bytes;
    if (device.holder != nullptr) stats.running = device.holder->task->full_name;
    stats.utilisation = device.utilisation;
    stats.suspended = device.suspended;
    stats.suspensions = device.suspensions;
    snapshot.devices.push_back(std::move(stats));
    for (const Task* task : device.tasks) {
      TaskStats line;
      line.name = task->full_name;
      line.session = task->session->id;
      line.device = static_cast<uint32_t>(index);
      line.state = task->state;
      line.timing = task->timing;
      line.released = task->lead->released;
      line.met = task->lead->met;
      line.missed = task->lead->missed;
      line.dropped = task->lead->dropped;
      line.overruns = task->lead->overruns;
      line.restored_bytes = task->restored_bytes;
      line.evicted_bytes = task->evicted_bytes;
      line.written_back_bytes = task->written_back_bytes;
      line.arena_chunks = task->arena->chunks;
      line.resident_chunks = task->arena->landed_chunks;
      line.response_max_ns = task->lead->response_max_ns;
      line.response_bound_ns = task->response_bound_ns;
      line.importance = task->importance;
      line.staged = task->staged;
      line.lead_ns = task->lead_ns;
      snapshot.tasks.push_back(std::move(line));
    }
  }
  return snapshot;
}

}  // namespace rtswap::arbiter
