// What the tests charge for the jobs of each task under a plan. Pure; any thread.
#pragma once

#include <cstdint>
#include <vector>

#include "csrc/policy/memory.h"
#include "csrc/policy/task_model.h"
#include "csrc/policy/task_set.h"
#include "csrc/policy/yielding.h"

namespace rtswap::policy {

// INT64_MAX: a restore of unknown speed.
struct Charge {
  uint32_t missing_chunks = 0;  // most that one job may have to restore
  WriteBack write_back;
  int64_t block_ns = 0;  // of a direct job
  int64_t delay_ns = 0;  // what that takes from the stage
  int64_t stall_ns = 0;  // and of that, from a lead
  // Of a staged job; 0 if its arena is direct.
  uint32_t lead_chunks = 0;
  int64_t lead_ns = 0;
  int64_t run_ns = 0;
};

// `lead_end`: how many of the arena's first chunks are there before a run begins; 0: it is direct.
Charge charge_of(const LinkModel& link, const TaskModel& task, uint32_t missing_chunks,
                 WriteBack write_back, uint32_t lead_end);

// The tasks of `input.promised`, then of `input.best_effort`, when each arena keeps `guaranteed`
// and its chunks beyond `planned` may be taken. REQUIRES: guaranteed <= planned <= the arena's
// size.
std::vector<Charge> charges_of(const AdmissionInput& input, const std::vector<ArenaUse>& arenas,
                               const Prefixes& planned, const Prefixes& guaranteed,
                               const Staged& staged);

// Charges of promised tasks, and of `leaving` as direct ones, as the tests take them. REQUIRES: all
// are known.
YieldingSet demands_of(const AdmissionInput& input, const std::vector<Charge>& charges);

}  // namespace rtswap::policy
