// Admission: may these tasks be promised their deadlines? And if not, what would have to change.
// Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "csrc/policy/np_edf.h"
#include "csrc/policy/task_model.h"
#include "csrc/policy/task_set.h"

namespace rtswap::policy {

struct Promise {
  uint32_t resident_chunks = 0;  // of its arena, never evicted while the plan holds
  uint32_t missing_chunks = 0;   // most that one job may have to restore
  bool staged = false;
  uint32_t lead_chunks = 0;  // staged: restored before it takes the GPU,
  int64_t lead_ns = 0;       // and the time that takes if no direct job comes
  int64_t block_ns = 0;      // holds the GPU
  int64_t response_ns = 0;
  Limit limit;  // what makes the response that long: of a staged one, in the stage test
};

// One part of a refusal for programs; the reason says it all for people.
struct Refusal {
  std::optional<Failure> failure;  // none: memory, or a bandwidth that is not known
  std::string change;              // the cheapest change that was tested and would do; may be empty
};

struct Decision {
  bool admitted = false;
  bool too_large = false;            // refused because an arena is larger than the whole bank
  std::string reason;                // when refused: one sentence for a person, with what would fit
  Refusal refusal;                   // when refused
  Prefixes prefixes;                 // the plan; empty when no prefixes fit
  Staged staged;                     // part of it
  std::vector<Promise> promises;     // one per promised task
  std::vector<Promise> best_effort;  // one per best-effort task; response 0
  // Best-effort blocks up to this length are part of the promises; longer ones wait for a gap.
  int64_t best_effort_block_ns = 0;
  double utilisation = 0;
};

// Plans and tests. Refusals carry no words: reason and change are empty. Deterministic; 1 to 6 ms
// for 64 tasks (docs/performance.md). What is not found and tested before `effort` (nullptr: as
// much as it takes) is spent is refused, or not part of the promises; with an effort, a refusal
// need not name the first failure.
Decision decide(const AdmissionInput& input, Effort* effort = nullptr);

// The same, and refusals carry reason and change. The search for a change has a budget of work (see
// advice.h), a few ms for 64 tasks; it never alters the decision.
Decision admit(const AdmissionInput& input);

// Tests a plan that is there: arenas are to keep `planned`, of which `guaranteed` is there already
// and will stay. Blocks are charged with what is guaranteed. Refusals carry no advice.
// A plan that does not fit is refused. `effort` as above. REQUIRES: guaranteed <= planned.
Decision test(const AdmissionInput& input, const Prefixes& planned, const Prefixes& guaranteed,
              const Staged& staged = {}, Effort* effort = nullptr);

// Would `decide` accept? When `effort` (nullptr: as much as it takes) is spent before that is
// known, the answer is false.
bool passes(const AdmissionInput& input, Effort* effort = nullptr);

}  // namespace rtswap::policy
