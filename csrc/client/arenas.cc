// Arenas.
#include <algorithm>
#include <utility>

#include "csrc/base/clock.h"
#include "csrc/client/core.h"

namespace rtswap::client {
namespace {

tl::unexpected<Error> no_such_arena(engine::ArenaId arena) {
  return fail(ErrorCode::closed, "arena " + std::to_string(arena) + " is not open");
}

}  // namespace

ArenaRecord* Core::find_arena(engine::ArenaId id) {
  const auto found = arenas_.find(id);
  return found == arenas_.end() ? nullptr : &found->second;
}

Result<ArenaRecord*> Core::open_arena_of(engine::ArenaId id) {
  if (const auto error = unusable()) return fail(*error);
  ArenaRecord* const arena = find_arena(id);
  if (arena == nullptr || arena->closing) return no_such_arena(id);
  if (gone(arena->device)) return fail(gone_error(arena->device));
  return arena;
}

Result<engine::ArenaId> Core::open_arena(uint32_t device, const std::string& label) {
  RTSWAP_TRY(use_device(device, {}));
  const std::lock_guard lock(mutex_);
  if (const auto error = unusable()) return fail(*error);
  const engine::ArenaId id = ++last_arena_;
  RTSWAP_TRY(devices_[device]->engine().open_arena(id, label));
  ArenaRecord& arena = arenas_[id];
  arena.id = id;
  arena.device = device;
  arena.label = label;
  return id;
}

Result<engine::Segment> Core::add_segment(engine::ArenaId id, engine::Kind kind, uint64_t bytes) {
  std::shared_ptr<Device> device;
  {
    const std::lock_guard lock(mutex_);
    RTSWAP_ASSIGN(const ArenaRecord* const arena, open_arena_of(id));
    for (const auto& [job_id, job] : jobs_) {
      if (uses(*job, id) && job->state != JobRecord::State::over &&
          job->state != JobRecord::State::settling) {
        return fail(ErrorCode::invalid_argument,
                    "arena " + arena->label + " cannot grow while a job of it waits or runs");
      }
    }
    device = devices_[arena->device];
  }
  auto added = device->engine().add_segment(id, kind, bytes);
  if (!added) return fail(device->explain(std::move(added).error()));
  const engine::Segment& segment = *added;
  const std::lock_guard lock(mutex_);
  ArenaRecord* const arena = find_arena(id);
  if (arena == nullptr) return no_such_arena(id);
  arena->size.chunks += segment.chunks;
  if (kind == engine::Kind::mutable_state) arena->size.mutable_chunks += segment.chunks;
  return segment;
}

Status Core::publish_arena(engine::ArenaId id, int64_t limit_ns) {
  std::unique_lock lock(mutex_);
  ArenaRecord* arena = nullptr;
  RTSWAP_ASSIGN(arena, open_arena_of(id));
  if (!arena->published) {
    arena->published = arena->size;
    send_open_arena(*arena);
    return {};
  }
  if (const auto refused = std::exchange(arena->resize_refused, std::nullopt)) {
    return fail(*refused);  // of a call that did not wait for it
  }
  const int64_t end_ns = limit_ns < 0 ? -1 : monotonic_now_ns() + limit_ns;
  const auto wait_until = [&](auto done) -> Status {
    const int64_t left_ns = end_ns < 0 ? -1 : std::max<int64_t>(0, end_ns - monotonic_now_ns());
    const bool in_time = wait_limited(changed_, lock, left_ns, [&] {
      arena = find_arena(id);
      return closing_ || arena == nullptr || done();
    });
    if (closing_) return fail(*unusable());
    if (arena == nullptr) return no_such_arena(id);
    if (in_time) return {};
    return fail(ErrorCode::timed_out, "the arbiter has not answered whether " + arena->label +
                                          " may grow within the time limit");
  };
  if (*arena->published != arena->size) {
    if (arena->resize) {
      return fail(ErrorCode::invalid_argument,
                  "arena " + arena->label + " is being published by another thread");
    }
    // To the arbiter a cancelled job is one of the arena's until it has answered.
    RTSWAP_TRY(wait_until([&] { return !has_jobs(id) || unusable(); }));
    if (const auto error = unusable()) return fail(*error);
    request_resize(*arena);
  }
  // Every task of the arena gets the same answer; the first one's is waited for.
  RTSWAP_TRY(wait_until([&] { return !arena->resize; }));
  const auto refused = std::exchange(arena->resize_refused, std::nullopt);
  return refused ? Status(fail(*refused)) : Status();
}

bool Core::has_jobs(engine::ArenaId id) const {
  return std::any_of(jobs_.begin(), jobs_.end(),
                     [id](const auto& entry) { return uses(*entry.second, id); });
}

void Core::request_resize(ArenaRecord& arena) {
  const ArenaSize before = *std::exchange(arena.published, arena.size);
  send(protocol::ResizeArena{arena.id, arena.size.chunks, arena.size.mutable_chunks});
  for (const auto& [task_id, task] : tasks_) {
    if (!uses(*task, arena.id)) continue;
    ++task->requests;
    if (!arena.resize) arena.resize = ArenaRecord::Resize{task_id, task->requests, before};
  }
}

Status Core::discard_growth(engine::ArenaId id) {
  const std::lock_guard lock(mutex_);
  ArenaRecord* const arena = find_arena(id);
  if (arena == nullptr || arena->closing) return no_such_arena(id);
  arena->resize_refused.reset();
  const ArenaSize in_force = arena->published.value_or(ArenaSize{});
  if (arena->size == in_force) return {};
  // Quick: nothing is mapped there, and the lanes do not know of it.
  RTSWAP_TRY(devices_[arena->device]->engine().discard_segments(id, in_force.chunks));
  arena->size = in_force;
  return {};
}

void Core::send_open_arena(const ArenaRecord& arena) {
  send(protocol::OpenArena{arena.id, remote_indices_[arena.device], arena.published->chunks,
                           arena.published->mutable_chunks});
}

Result<std::shared_ptr<Device>> Core::retire(engine::ArenaId id) {
  const std::lock_guard lock(mutex_);
  if (closing_) return fail(*unusable());
  ArenaRecord* const arena = find_arena(id);
  if (arena == nullptr) return no_such_arena(id);
  for (const auto& [task_id, task] : tasks_) {
    if (!uses(*task, id)) continue;
    return fail(ErrorCode::invalid_argument, "arena " + arena->label + " is used by task \"" +
                                                 task->options.name + "\": close that first");
  }
  arena->closing = true;
  return devices_[arena->device];
}

Status Core::keep_scratch(engine::ArenaId id, driver::Address segment_address,
                          std::span<const engine::ByteRange> bytes) {
  RTSWAP_ASSIGN(const std::shared_ptr<Device> device, device_of(id));
  Status kept = device->engine().keep_scratch(id, segment_address, bytes);
  if (!kept) return fail(device->explain(std::move(kept).error()));
  return kept;
}

Status Core::keep_addresses(engine::ArenaId id, driver::Address segment_address) {
  RTSWAP_ASSIGN(const std::shared_ptr<Device> device, device_of(id));
  return device->engine().keep_addresses(id, segment_address);
}

Status Core::save_arena(engine::ArenaId id) {
  RTSWAP_ASSIGN(const std::shared_ptr<Device> device, retire(id));
  device->engine().evict(id, 0);
  RTSWAP_ASSIGN(const std::vector<uint32_t> left, device->engine().resident_chunks(id));
  if (left.empty()) {
    give_memory_back(id);
    return {};
  }
  const std::lock_guard lock(mutex_);
  ArenaRecord* const arena = find_arena(id);
  if (arena == nullptr) return no_such_arena(id);
  Error error = arena->evict_failure.value_or(Error{ErrorCode::driver_failure, "unknown"});
  error.message = "what the device has of " + arena->label +
                  " could not be copied to host memory; the host has the bytes of the last time it "
                  "was swapped out. The reason: " +
                  error.message;
  return fail(std::move(error));
}

Status Core::close_arena(engine::ArenaId id) {
  RTSWAP_ASSIGN(const std::shared_ptr<Device> device, retire(id));
  const auto unmapped = [this, id] { give_memory_back(id); };
  if (Status closed = device->engine().close_arena(id, unmapped); !closed) {
    return fail(device->explain(std::move(closed).error()));
  }
  const std::lock_guard lock(mutex_);
  arenas_.erase(id);
  return {};
}

void Core::give_memory_back(engine::ArenaId id) {
  const std::lock_guard lock(mutex_);
  ArenaRecord* const arena = find_arena(id);
  if (arena == nullptr || !arena->published) return;
  if (!gone(arena->device)) send(protocol::CloseArena{id});
  arena->published.reset();
}

Result<std::shared_ptr<Device>> Core::device_of(engine::ArenaId id) const {
  const std::lock_guard lock(mutex_);
  const auto found = arenas_.find(id);
  if (found == arenas_.end()) return no_such_arena(id);
  return devices_[found->second.device];
}

Result<engine::ArenaStats> Core::arena_stats(engine::ArenaId id) const {
  RTSWAP_ASSIGN(const std::shared_ptr<Device> device, device_of(id));
  return device->engine().stats(id);
}

}  // namespace rtswap::client
