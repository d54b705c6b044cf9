// The planner: how much of each arena stays resident, so that the set passes the test.
//
// A job restores at most what is not in the prefix, so every chunk of prefix shortens the blocks of
// the arena's tasks. First what is free (the one largest arena: its prefix makes room for itself),
// then, as long as the test fails, the arena whose memory relieves the failing window most per
// chunk, then what is left over by rate. The test is the judge at every step, so what a plan
// promises never rests on the choice; a better choice could only accept more sets.
//
// If all direct does not pass, arenas are tried as staged: the first m by longest period, by period
// times size, and by largest lead (staging.h).
//
// Pure, deterministic; any thread.
#pragma once

#include <cstddef>
#include <optional>

#include "csrc/policy/memory.h"
#include "csrc/policy/task_set.h"

namespace rtswap::policy {

struct Plan {
  Prefixes prefixes;                 // every arena; fits() holds
  Staged staged;                     // empty unless the set needs it, and then passes the test
  std::optional<Shortage> shortage;  // set: no prefixes fit, `prefixes` is empty
};

// Where a search for a plan has come to: it can go on later, also in a set that has changed a
// little.
struct PlanSearch {
  size_t next = 0;  // 0: direct tasks only, then choices of staged ones
  bool ended = false;
};

// The best that was found. It need not pass the test: whoever promises something tests the plan.
// The planner stops looking when `effort` (nullptr: as much as it takes) is spent; with `search`
// the next call goes on behind what has been tried.
Plan make_plan(const AdmissionInput& input, Effort* effort = nullptr, PlanSearch* search = nullptr);

}  // namespace rtswap::policy
