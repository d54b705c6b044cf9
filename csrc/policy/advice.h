// The sentences that explain a refusal, each ending with a change that would be accepted. Changes
// are found by planning and testing again, never by formula.
#pragma once

#include <string>
#include <vector>

#include "csrc/policy/admission.h"
#include "csrc/policy/memory.h"

namespace rtswap::policy {

std::string explain_too_large(const TaskModel& task, const AdmissionInput& input);
// Both fill in the reason and the change of a decision that refuses.
void explain_shortage(const Shortage& shortage, const AdmissionInput& input, Decision& decision);
// A restore of unknown speed, or the failure in `decision.refusal`.
void explain_failure(const std::vector<Demand>& demands, const AdmissionInput& input,
                     Decision& decision);

}  // namespace rtswap::policy
