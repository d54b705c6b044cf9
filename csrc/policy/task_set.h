// A set of tasks that wants a promise, with the device it wants it from: what planner, test and
// advice are about. Pure values; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "csrc/policy/np_edf.h"
#include "csrc/policy/task_model.h"

namespace rtswap::policy {

// What memory can be taken from.
struct Exposure {
  uint32_t arenas = 0;
  uint64_t mutable_chunks = 0;  // copied out before they make room
};

struct AdmissionInput {
  std::vector<TaskModel> promised;     // keep or ask for a promise: period, deadline and cost known
  std::vector<TaskModel> best_effort;  // get memory and leftover time; wcet 0: length not known
  // Which tasks of `promised` may run late, without a deadline, when theirs cannot be met any more.
  std::vector<bool> may_run_late;  // empty: none
  // Work of tasks that left, or that changed, since the device was last idle: still in the test,
  // needs no memory.
  std::vector<Demand> leaving;
  LinkModel link;
  uint32_t bank_chunks = 0;
  // Beside what the plan leaves of the arenas of these tasks: arenas of nobody here (of paused
  // tasks, say), and what could be taken since the device was last idle, and can no longer.
  Exposure others;
  bool staging = false;  // tasks may be staged (yielding.h)
  size_t candidate = 0;  // index in `promised` of the task that asks, for the advice
};

// Chunks at the start of each arena; an arena that is not named has none.
using Prefixes = std::map<ArenaKey, uint32_t>;

// Arenas whose tasks are staged, and how many of their first chunks are there before a run begins;
// at least the prefix. All other arenas are direct.
using Staged = std::map<ArenaKey, uint32_t>;

inline uint32_t prefix_of(const Prefixes& prefixes, ArenaKey arena) {
  const auto it = prefixes.find(arena);
  return it == prefixes.end() ? 0 : it->second;
}

}  // namespace rtswap::policy
