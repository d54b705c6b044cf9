// What simulations are asked for, whatever their sets are about.
#pragma once

#include "csrc/simulation/simulation.h"
#include "tests/catch.h"

namespace rtswap::simulation::test {

inline void require_no_violation(const SimReport& report) {
  if (!report.violations.empty()) FAIL(report.violations.front());
}

// No job of the task was late, given up, or longer than the bounds in force while it waited and
// ran.
inline void require_kept(const SimTaskReport& task) {
  INFO(task.name << (task.verdict.staged ? ", staged" : ", direct") << ": response "
                 << task.response_max_ns << " bound " << task.response_bound_ns);
  REQUIRE(task.missed == 0);
  REQUIRE(task.dropped == 0);
  REQUIRE(task.above_bound == 0);
}

// Jobs came to their end until shortly before that of the simulation.
inline void require_going_on(const SimTaskReport& task, int64_t since_ns) {
  INFO(task.name << " last completed at " << task.last_completion_ns << ", released "
                 << task.released << ", met " << task.met << ", dropped " << task.dropped);
  REQUIRE(task.last_completion_ns > since_ns);
}

// Neither was a promise suspended: no job had the device for longer than the block it is charged
// with. And nobody waits for memory for ever. For runs in which everything is as declared.
inline void require_all_as_charged(const SimReport& report) {
  require_no_violation(report);
  REQUIRE(report.suspensions == 0);
  REQUIRE(report.loading == 0);
}

}  // namespace rtswap::simulation::test
