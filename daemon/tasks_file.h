// The task file (--tasks): settings of tasks by name that win over what clients declare.
//
//   [[task]]
//   name = "detector"
//   rate_hz = 30          # or period_ms = 33.3
//   deadline_ms = 30
//   wcet_ms = 8.5
//   resident = true
//   late = "drop"         # or "run"
//   importance = 5        # larger: more
//   size = "900MiB"       # these three are for `rtswap plan` and `rtswap simulate`, which read the
//   mutable = "4MiB"      # same file: all memory of the model, the part that is written back,
//   model = "yolo"        # and the model, when several tasks share one
#pragma once

#include <map>
#include <string>

#include "csrc/arbiter/arbiter.h"
#include "csrc/base/result.h"

namespace rtswap::daemon {

// `invalid_argument` names file and line.
Result<std::map<std::string, arbiter::TaskOverride>> read_tasks_file(const std::string& path);

}  // namespace rtswap::daemon
