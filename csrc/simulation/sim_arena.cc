#include "csrc/simulation/sim_arena.h"

#include <algorithm>
#include <utility>

namespace rtswap::simulation {

SimArena::SimArena(World& world, protocol::ArenaId id, const SimPart& part, ArenaHost host)
    : world_(world), id_(id), part_(part), host_(std::move(host)) {}

protocol::HeldArena SimArena::held() const {
  protocol::HeldArena held;
  held.arena = id_;
  held.device = part_.device;
  held.device_uuid = device_uuid(part_.device);
  held.chunks = part_.chunks;
  held.resident = mapped_;
  return held;
}

protocol::OpenArena SimArena::opening() const {
  return {id_, part_.device, part_.chunks, part_.mutable_chunks};
}

void SimArena::carry_out(const protocol::Grant& grant) {
  commands_.emplace_back(Restore{grant.first_position, grant.chunks, 0});
  work();
}

void SimArena::carry_out(const protocol::Revoke& revoke) {
  commands_.emplace_back(Evict{revoke.keep_chunks, 0});
  work();
}

void SimArena::clear() {
  DeviceLink& link = world_.links[part_.device];
  for (Lane* lane : {&link.to_device, &link.to_host, &link.mappings}) {
    lane->drop(this, world_.timeline.now_ns());
  }
  mapped_.clear();
  copying_.clear();
  commands_.clear();
  busy_ = false;
}

bool SimArena::leaving() const {
  return std::any_of(commands_.begin(), commands_.end(),
                     [](const auto& command) { return std::holds_alternative<Evict>(command); });
}

void SimArena::work() {
  if (busy_ || commands_.empty()) return;
  std::visit([this](auto& command) { begin(command); }, commands_.front());
}

void SimArena::finish_command() {
  commands_.pop_front();
  busy_ = false;
  work();
}

int64_t SimArena::unmap_ns() const { return world_.config.chunk_cost_ns / policy::kUnmapShare; }

void SimArena::begin(Restore& restore) {
  const size_t there = mapped_.size() + copying_.size();
  if (restore_fails_ || restore.first_position + restore.begun != there) {
    if (copying_.empty()) restore_failed();  // else when these have landed
    return;
  }
  busy_ = true;
  const int64_t map_ns = world_.config.chunk_cost_ns - unmap_ns();
  Lane& mappings = world_.links[part_.device].mappings;
  host_.later(mappings.copy(this, world_.timeline.now_ns(), map_ns), [this] { chunk_mapped(); });
}

void SimArena::chunk_mapped() {
  auto& restore = std::get<Restore>(commands_.front());
  copying_.push_back(restore.chunks[restore.begun++]);
  Lane& lane = world_.links[part_.device].to_device;
  host_.later(lane.copy(this, world_.timeline.now_ns(), world_.chunk_copy_ns()),
              [this] { chunk_landed(); });
  busy_ = false;
  if (restore.begun == restore.chunks.size()) commands_.pop_front();
  work();
}

void SimArena::chunk_landed() {
  mapped_.push_back(copying_.front());
  copying_.pop_front();
  restored_bytes_ += world_.config.chunk_bytes;
  host_.send(protocol::Restored{id_, landed()});
  work();
  host_.changed();
}

void SimArena::restore_failed() {
  restore_fails_ = false;
  auto& restore = std::get<Restore>(commands_.front());
  const std::vector<protocol::ChunkId> rest(
      restore.chunks.begin() + static_cast<ptrdiff_t>(restore.begun), restore.chunks.end());
  world_.checker.gave_up(session_, id_, rest);
  host_.send(protocol::RestoreFailed{id_, landed(),
                                     Error{ErrorCode::driver_failure, "simulated failure"}});
  finish_command();
}

void SimArena::begin(Evict& evict) {
  if (!copying_.empty()) return;
  busy_ = true;
  if (mapped_.size() <= evict.keep_chunks) {
    evicted_step();
    return;
  }
  if (mapped_.size() <= part_.chunks - part_.mutable_chunks) {
    unmap_step();
    return;
  }
  evict.written_back_bytes += world_.config.chunk_bytes;
  Lane& lane = world_.links[part_.device].to_host;
  host_.later(lane.copy(this, world_.timeline.now_ns(), world_.chunk_copy_ns()),
              [this] { unmap_step(); });
}

void SimArena::unmap_step() {
  Lane& mappings = world_.links[part_.device].mappings;
  host_.later(mappings.copy(this, world_.timeline.now_ns(), unmap_ns()),
              [this] { evicted_step(); });
}

void SimArena::evicted_step() {
  auto& evict = std::get<Evict>(commands_.front());
  if (mapped_.size() > evict.keep_chunks) {
    mapped_.pop_back();
    evicted_bytes_ += world_.config.chunk_bytes;
  }
  if (mapped_.size() > evict.keep_chunks) {
    begin(evict);
    return;
  }
  world_.checker.unmapped(session_, id_, landed());
  host_.send(protocol::Evicted{id_, landed(), evict.written_back_bytes});
  finish_command();
  host_.changed();
}

}  // namespace rtswap::simulation
