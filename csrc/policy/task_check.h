// What no task may ask for, whoever asks: a client of the arbiter, or a plan made elsewhere.
#pragma once

#include <string>

#include "csrc/policy/task_model.h"

namespace rtswap::policy {

// The first mistake in period, deadline, cost, memory and layers of a task, as a sentence without
// the task's name; empty: they make sense. A period of 0 (best effort) and a cost of 0 (not known
// yet) do. Any thread.
std::string mistake_in(const TaskModel& task);

}  // namespace rtswap::policy
