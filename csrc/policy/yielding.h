// Direct and staged tasks on one device, the yielding form: will every job end by its deadline?
//
// A direct job restores its memory while it holds the GPU (np_edf.h). A staged job first holds the
// one *stage*: its lead is restored while direct jobs run; then it holds the GPU for its run, which
// starts only when no direct job waits. Neither is preempted. Two tests, in integer ns:
//
//   direct  as in np_edf.h over the direct tasks; any staged run may have just begun, whatever its
//           deadline
//   stage   for every t in {D_i + k T_i, i staged}:
//             sum over staged n_i(t) (lead_i + run_i) + sum over direct N_j(t) delay_j
//             + max{ lead_k + run_k : D_k > t } + latency + best-effort delay <= t
//           N_j(t) = ceil((t + R_j) / T_j), R_j the response bound of the first test
//
// Where it is less, the stage test counts direct tasks by what they keep leads and runs from
// (Interference). For that there are two ways, and a set passes by either: all that comes during an
// earlier run is waited for, or what the lead does not cover of it.
//
// The first test does not depend on the second. docs/scheduling.md has the protocol and the proof.
// Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "csrc/policy/np_edf.h"

namespace rtswap::policy {

struct DirectDemand {
  Demand demand;
  int64_t delay_ns = 0;  // most that one job keeps the stage from its work; >= its block
  int64_t stall_ns = 0;  // of that, most that it keeps a lead from being restored
};

struct StagedDemand {
  int64_t period_ns = 0;
  int64_t deadline_ns = 0;
  int64_t lead_ns = 0;  // from getting the stage until the run may begin, undisturbed; >= 0
  int64_t run_ns = 0;   // holds the GPU; > 0
};

struct YieldingSet {
  std::vector<DirectDemand> direct;
  std::vector<StagedDemand> staged;
};

struct YieldingOptions {
  int64_t best_effort_block_ns = 0;  // longest best-effort block that may have just begun,
  int64_t best_effort_delay_ns = 0;  // and how long it keeps the stage from its work
  int64_t release_latency_ns = 0;
};

// Indices of tasks in `direct` and `stage` count the direct and the staged ones each on their own.
// In `direct`, a limit or failure whose blocking names no task may mean a staged run.
struct YieldingResult {
  bool schedulable = false;
  NpEdfResult direct;
  NpEdfResult stage;  // not run when `direct` is not schedulable
};

// `effort` as in np_edf.h.
YieldingResult test_yielding(const YieldingSet& set, const YieldingOptions& options,
                             Effort* effort = nullptr);

// For planners, as find_failure() of np_edf.h.
struct YieldingFailure {
  bool of_stage = false;  // of the stage test
  Failure failure;
  std::vector<int64_t> direct_response_ns;  // of_stage: what that test counted with
};
std::optional<YieldingFailure> find_failure(const YieldingSet& set, const YieldingOptions& options,
                                            Effort* effort = nullptr);

}  // namespace rtswap::policy
