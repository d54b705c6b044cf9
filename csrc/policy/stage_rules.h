// What an arbiter has to observe while its plan has staged tasks: rules of docs/scheduling.md,
// "Staged tasks", as decisions. Pure; any thread.
#pragma once

#include <cstdint>

#include "csrc/policy/task_set.h"

namespace rtswap::policy {

// The arena of the stage's holder, in chunks.
struct LeadView {
  uint32_t arena_chunks = 0;
  uint32_t lead_end = 0;          // so many of the first are there before a run begins
  uint32_t landed_chunks = 0;     // from the first on
  bool leaving = false;           // some of it was asked back and has not been given
  uint32_t others_in_flight = 0;  // chunks of other arenas that come in or were asked back
};

// Rule 8, when no direct job waits: the lead is there and, if the run will have to restore, the
// copy engine is its own.
bool run_may_begin(const LeadView& view);

// Rule 12: when a direct job may start that competes with `order_ns`, its absolute deadline.
inline int64_t earliest_start_ns(int64_t order_ns, int64_t deadline_ns) {
  return order_ns - deadline_ns;
}

// Rule 13. `idle`: no admitted job waits, holds the GPU or the stage. `joins`: the change lets a
// task in. `left`: others have left since the last idle instant, whose work only the test of direct
// tasks can take account of.
bool plan_may_change(const Staged& now, const Staged& next, bool idle, bool joins, bool left);

}  // namespace rtswap::policy
