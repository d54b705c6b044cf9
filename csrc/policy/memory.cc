#include "csrc/policy/memory.h"

#include <algorithm>

namespace rtswap::policy {
namespace {

void add(std::map<ArenaKey, ArenaUse>& arenas, const TaskModel& task, size_t index, bool promised) {
  ArenaUse& use = arenas.try_emplace(task.arena, ArenaUse{}).first->second;
  const bool first = use.promised.empty() && use.best_effort.empty();
  use.key = task.arena;
  use.chunks = task.arena_chunks;
  use.mutable_chunks = task.mutable_chunks;
  use.most_resident_chunks =
      std::min(first ? task.arena_chunks : use.most_resident_chunks, task.most_resident_chunks);
  use.resident |= task.resident;
  (promised ? use.promised : use.best_effort).push_back(index);
}

}  // namespace

std::vector<ArenaUse> arenas_of(const AdmissionInput& input) {
  std::map<ArenaKey, ArenaUse> by_key;
  for (size_t i = 0; i < input.promised.size(); ++i) add(by_key, input.promised[i], i, true);
  for (size_t i = 0; i < input.best_effort.size(); ++i) add(by_key, input.best_effort[i], i, false);
  std::vector<ArenaUse> arenas;
  for (auto& [key, use] : by_key) arenas.push_back(std::move(use));
  return arenas;
}

std::optional<Shortage> shortage_of(const std::vector<ArenaUse>& arenas, uint32_t bank_chunks) {
  Shortage need{0, 0, bank_chunks, 0};
  for (const ArenaUse& arena : arenas) {
    if (arena.resident) {
      need.reserved_chunks += arena.chunks;
      if (need.largest_chunks == 0) need.largest_arena = arena.key;
    } else if (arena.chunks > need.largest_chunks) {
      need.largest_chunks = arena.chunks;
      need.largest_arena = arena.key;
    }
  }
  if (need.reserved_chunks + need.largest_chunks <= bank_chunks) return std::nullopt;
  return need;
}

bool fits(const std::vector<ArenaUse>& arenas, const Prefixes& prefixes, const Staged& staged,
          uint32_t bank_chunks) {
  uint64_t kept = 0;
  uint64_t direct = 0;
  uint64_t lead = 0;
  uint64_t run = 0;
  for (const ArenaUse& arena : arenas) {
    const uint32_t prefix = prefix_of(prefixes, arena.key);
    const uint64_t missing = arena.chunks - prefix;
    kept += prefix;
    if (const auto it = staged.find(arena.key); it != staged.end()) {
      lead = std::max<uint64_t>(lead, it->second - std::min(prefix, it->second));
      run = std::max(run, missing);
    } else {
      direct = std::max(direct, missing);
    }
  }
  return kept + std::max(direct + lead, run) <= bank_chunks;
}

}  // namespace rtswap::policy
