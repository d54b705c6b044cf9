// Which memory is reserved and which is swapped: the memory condition, in whole chunks.
//
// Two forms now: if everything fits the bank, everything is reserved; otherwise the tasks that
// asked for it (`resident`) are reserved whole and every other job restores up to its whole arena.
// Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "csrc/policy/task_model.h"

namespace rtswap::policy {

// How one task's memory is kept.
struct Placement {
  bool reserved = false;           // its arena is never a victim
  uint32_t missing_chunks = 0;     // most that one job may have to restore
  uint32_t write_back_chunks = 0;  // most mutable chunks that its victims copy out
};

// Why the memory condition fails.
struct Shortage {
  uint64_t reserved_chunks = 0;  // of arenas that must stay
  uint64_t largest_chunks = 0;   // the largest arena that must be swapped in beside them
  uint64_t bank_chunks = 0;
  size_t largest_task = 0;  // index of a task of that arena; of a reserved one if all are reserved
};

struct Plan {
  std::vector<Placement> placements;  // one per task, same order
  bool everything_fits = false;
  std::optional<Shortage> shortage;  // set: the condition fails, placements are not to be used
};

// `tasks`: all that may get memory (best effort too). An arena counts once, and is reserved if one
// of its tasks asks for it.
Plan make_plan(const std::vector<TaskModel>& tasks, uint32_t bank_chunks);

}  // namespace rtswap::policy
