#include "csrc/policy/room.h"

#include <algorithm>

namespace rtswap::policy {

void Room::Most::include(size_t other, uint32_t other_chunks) {
  if (other_chunks > chunks) {
    *this = Most{other, other_chunks, chunks};
  } else {
    next_chunks = std::max(next_chunks, other_chunks);
  }
}

uint32_t Room::Most::with(size_t changed, uint32_t changed_chunks) const {
  return std::max(changed == arena ? next_chunks : chunks, changed_chunks);
}

Room::Room(const std::vector<ArenaUse>& arenas, std::vector<uint32_t> lead_ends,
           uint32_t bank_chunks)
    : arenas_(arenas), lead_ends_(std::move(lead_ends)), bank_chunks_(bank_chunks) {
  restart(std::vector<uint32_t>(arenas.size(), 0));
}

void Room::restart(const std::vector<uint32_t>& prefixes) {
  prefixes_ = prefixes;
  add_up();
}

uint32_t Room::size(Kind kind, size_t arena, uint32_t prefix) const {
  switch (kind) {
    case direct:
      return staged(arena) ? 0 : arenas_[arena].chunks - prefix;
    case lead:
      return lead_ends_[arena] - std::min(prefix, lead_ends_[arena]);
    case run:
    case kinds:
      break;
  }
  return staged(arena) ? arenas_[arena].chunks - prefix : 0;
}

void Room::add_up() {
  kept_ = 0;
  most_ = {};
  for (size_t arena = 0; arena < arenas_.size(); ++arena) {
    kept_ += prefixes_[arena];
    for (const Kind kind : {direct, lead, run}) {
      most_[kind].include(arena, size(kind, arena, prefixes_[arena]));
    }
  }
  need_ = arenas_.empty() ? 0 : need_with(0, prefixes_[0]);
}

uint64_t Room::need_with(size_t arena, uint32_t prefix) const {
  const auto most = [&](Kind kind) -> uint64_t {
    return most_[kind].with(arena, size(kind, arena, prefix));
  };
  return kept_ - prefixes_[arena] + prefix + std::max(most(direct) + most(lead), most(run));
}

// The need never falls as a prefix grows.
uint32_t Room::growth_within(size_t arena, uint64_t need) const {
  const uint32_t limit = arenas_[arena].most_resident_chunks;
  const uint32_t now = prefixes_[arena];
  if (now >= limit || need_with(arena, now) > need) return 0;
  uint32_t fits = now;
  for (uint32_t exceeds = limit + 1; exceeds - fits > 1;) {
    const uint32_t middle = fits + (exceeds - fits) / 2;
    (need_with(arena, middle) <= need ? fits : exceeds) = middle;
  }
  return fits - now;
}

void Room::raise(size_t arena, uint32_t chunks) {
  if (chunks == 0) return;
  prefixes_[arena] += chunks;
  add_up();
}

void Room::raise_free() {
  for (const Kind kind : {direct, lead, run}) {
    const size_t arena = most_[kind].arena;
    if (most_[kind].chunks == 0 || arenas_[arena].promised.empty()) continue;
    raise(arena, growth_within(arena, need_));
  }
}

}  // namespace rtswap::policy
