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

void Checker::granted(protocol::SessionId session, const protocol::Grant& grant) {
  const Owner owner{session, grant.arena};
  auto& held = held_[owner];
  if (grant.first_position != held.size() && failed_.count(owner) == 0) {
    violation("grant at position " + std::to_string(grant.first_position) + " of " + name(owner) +
              ", which holds " + std::to_string(held.size()));
  }
  for (const protocol::ChunkId chunk : grant.chunks) {
    if (chunk >= owners_.size()) {
      violation("grant of chunk " + std::to_string(chunk) + ", which does not exist");
      continue;
    }
    if (owners_[chunk] != kFree) {
      violation("chunk " + std::to_string(chunk) + " granted to " + name(owner) +
                " while it is held by " + name(owners_[chunk]));
    }
    owners_[chunk] = owner;
    held.push_back(chunk);
  }
}

void Checker::revoked(protocol::SessionId session, const protocol::Revoke& revoke) {
  const Owner owner{session, revoke.arena};
  const auto it = running_.find(session);
  if (it != running_.end() && it->second == revoke.arena && excused_.count(session) == 0) {
    violation("memory of the running job was revoked: " + name(owner));
  }
  if (dead_.count(session) != 0) return;
  if (revoke.keep_chunks >= held_[owner].size() && failed_.count(owner) == 0) {
    violation("a revoke that asks for nothing: " + name(owner));
  }
}

void Checker::free_chunk(protocol::ChunkId chunk, const Owner& owner) {
  if (owners_[chunk] != owner) {
    violation("chunk " + std::to_string(chunk) + " given back by " + name(owner) +
              " is held by another");
  }
  owners_[chunk] = kFree;
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
  for (const protocol::ChunkId chunk : held_[owner]) owners_[chunk] = owner;
}

void Checker::started(protocol::SessionId session, protocol::ArenaId arena, uint32_t chunks) {
  if (held_[{session, arena}].size() < chunks) {
    violation("a job began without its memory: " + name({session, arena}));
  }
  for (const auto& [other, other_arena] : running_) {
    if (excused_.count(other) == 0 && excused_.count(session) == 0) {
      violation("two jobs on the device: sessions " + std::to_string(other) + " and " +
                std::to_string(session));
    }
  }
  running_[session] = arena;
}

void Checker::ended(protocol::SessionId session) {
  running_.erase(session);
  excused_.erase(session);
}

void Checker::excuse(protocol::SessionId session) { excused_.insert(session); }

}  // namespace rtswap::simulation
