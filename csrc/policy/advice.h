// The sentences that explain a refusal, where possible ending with a change that would be accepted.
// Changes are found by planning and testing again, never by formula, so what is named was tested.
// The search has a budget of work, not of time: it ends equally everywhere, and when it does, the
// best change so far is named, or none.
#pragma once

#include "csrc/policy/admission.h"

namespace rtswap::policy {

// Fills in reason and change of a decision that refuses `input`. Some ms for 64 tasks, 50 for 200
// (docs/performance.md); the search ends after `most_effort`, as Effort counts.
// REQUIRES: `decision` is of `input`, and it refuses.
void explain(const AdmissionInput& input, Decision& decision, int64_t most_effort = INT64_MAX);

}  // namespace rtswap::policy
