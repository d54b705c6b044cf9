// The memory condition, in whole chunks: every job must be able to have its whole arena while every
// other arena keeps its resident prefix r:
//
//   for every arena a:  S_a + sum over the others r_b <= bank,   that is   sum r + max(S - r) <=
//   bank
//
// Where arenas are staged, every direct job beside the lead of any staged one, and every staged run
// alone, x = S - r:
//
//   sum r + max( max over direct x + max over staged (lead end - r), max over staged x ) <= bank
//
// Smaller prefixes never break it if all is direct. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "csrc/policy/task_set.h"

namespace rtswap::policy {

// One arena, whoever shares it.
struct ArenaUse {
  ArenaKey key = 0;
  uint32_t chunks = 0;
  uint32_t mutable_chunks = 0;
  uint32_t most_resident_chunks = 0;  // the planner gives no more
  bool resident = false;              // one of its tasks wants it never evicted
  std::vector<size_t> promised;       // indices of its tasks in AdmissionInput::promised
  std::vector<size_t> best_effort;    // and in AdmissionInput::best_effort
};

// Ordered by key.
std::vector<ArenaUse> arenas_of(const AdmissionInput& input);

// Why the memory condition fails whatever the planner does.
struct Shortage {
  uint64_t reserved_chunks = 0;  // of arenas that must stay
  uint64_t largest_chunks = 0;   // the largest arena that must be swapped in beside them
  uint64_t bank_chunks = 0;
  ArenaKey largest_arena = 0;  // that arena; one that must stay if all must
};

std::optional<Shortage> shortage_of(const std::vector<ArenaUse>& arenas, uint32_t bank_chunks);

bool fits(const std::vector<ArenaUse>& arenas, const Prefixes& prefixes, const Staged& staged,
          uint32_t bank_chunks);

}  // namespace rtswap::policy
