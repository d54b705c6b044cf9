// The sentences that explain a refusal, each ending with a change that would be accepted. Changes
// are found by running the test again, never by formula.
#pragma once

#include <string>
#include <vector>

#include "csrc/policy/admission.h"

namespace rtswap::policy {

std::string explain_too_large(const TaskModel& task, const AdmissionInput& input);
std::string explain_shortage(const Shortage& shortage, const std::vector<TaskModel>& all,
                             const AdmissionInput& input);
std::string explain_unknown_bandwidth(const TaskModel& task);
std::string explain_failure(const Failure& failure, double utilisation,
                            const std::vector<Demand>& demands, const AdmissionInput& input);

}  // namespace rtswap::policy
