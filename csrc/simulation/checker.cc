#include "csrc/simulation/checker.h"

#include <algorithm>

namespace rtswap::simulation {
namespace {

constexpr size_t kMostViolations = 20;  // one bug can repeat at every step
const Checker::Owner kFree{0, 0};

std::string name(const Checker::Owner& owner) {
  return "arena " + std::to_string(owner.second) + " of session " + std::to_string(owner.first);
}

}  // namespace

void Checker::violation(std::string what) {
  if (violations_.size() < kMostViolations) violations_.push_back(std::move(what));
}

uint32_t Checker::device_of(const Owner& owner) const {
  const auto found = devices_.find(owner);
  return found == devices_.end() ? 0 : found->second;
}

void Checker::granted(protocol::SessionId session, const protocol::Grant& grant) {
  const Owner owner{session, grant.arena};
  auto& held = held_[owner];
  auto& owners = owners_[device_of(owner)];
  const bool known = failed_.count(owner) == 0 && dead_.count(session) == 0;
  if (known && grant.first_position != held.size()) {
    violation("grant at position " + std::to_string(grant.first_position) + " of " + name(owner) +
              ", which holds " + std::to_string(held.size()));
  }
  for (const protocol::ChunkId chunk : grant.chunks) {
    if (chunk >= owners.size()) {
      violation("grant of chunk " + std::to_string(chunk) + ", which does not exist");
      continue;
    }
    if (owners[chunk] != kFree) {
      violation("chunk " + std::to_string(chunk) + " granted to " + name(owner) +
                " while it is held by " + name(owners[chunk]));
    }
    owners[chunk] = owner;
    held.push_back(chunk);
  }
}

void Checker::revoked(protocol::SessionId session, const protocol::Revoke& revoke) {
  const Owner owner{session, revoke.arena};
  if (running_.count(owner) != 0 && excused_.count(session) == 0) {
    violation("memory of the running job was revoked: " + name(owner));
  }
  if (dead_.count(session) != 0) return;
  if (revoke.keep_chunks >= held_[owner].size() && failed_.count(owner) == 0) {
    violation("a revoke that asks for nothing: " + name(owner));
  }
}

void Checker::free_chunk(protocol::ChunkId chunk, const Owner& owner) {
  Owner& now = owners_[device_of(owner)][chunk];
  if (now != owner) {
    violation("chunk " + std::to_string(chunk) + " given back by " + name(owner) +
              " is held by another");
  }
  now = kFree;
}

void Checker::unmapped(protocol::SessionId session, protocol::ArenaId arena, uint32_t keep_chunks) {
  const Owner owner{session, arena};
  auto& held = held_[owner];
  while (held.size() > keep_chunks) {
    free_chunk(held.back(), owner);
    held.pop_back();
  }
}

void Checker::gave_up(protocol::SessionId session, protocol::ArenaId arena,
                      const std::vector<protocol::ChunkId>& chunks) {
  const Owner owner{session, arena};
  auto& held = held_[owner];
  failed_.insert(owner);
  for (const protocol::ChunkId chunk : chunks) {
    free_chunk(chunk, owner);
    std::erase(held, chunk);
  }
}

void Checker::died(protocol::SessionId session) {
  dead_.insert(session);
  for (auto it = held_.begin(); it != held_.end();) {
    if (it->first.first != session) {
      ++it;
      continue;
    }
    for (const protocol::ChunkId chunk : it->second) free_chunk(chunk, it->first);
    it = held_.erase(it);
  }
  ended(session);
}

void Checker::resumed(protocol::SessionId old_session, protocol::SessionId session,
                      protocol::ArenaId arena, uint32_t chunks) {
  unmapped(old_session, arena, chunks);
  const Owner owner{session, arena};
  held_[owner] = std::move(held_[{old_session, arena}]);
  held_.erase({old_session, arena});
  const uint32_t device = device_of({old_session, arena});
  opened(session, arena, device);
  for (const protocol::ChunkId chunk : held_[owner]) owners_[device][chunk] = owner;
}

void Checker::started(protocol::SessionId session, protocol::ArenaId arena, uint32_t chunks) {
  const Owner owner{session, arena};
  if (held_[owner].size() < chunks) {
    violation("a job began without its memory: " + name(owner));
  }
  for (const Owner& other : running_) {
    if (device_of(other) != device_of(owner)) continue;
    if (excused_.count(other.first) == 0 && excused_.count(session) == 0) {
      violation("two jobs on a device: sessions " + std::to_string(other.first) + " and " +
                std::to_string(session));
    }
  }
  running_.insert(owner);
}

void Checker::ended(protocol::SessionId session) {
  std::erase_if(running_, [session](const Owner& owner) { return owner.first == session; });
  excused_.erase(session);
}

void Checker::excuse(protocol::SessionId session) { excused_.insert(session); }

}  // namespace rtswap::simulation
