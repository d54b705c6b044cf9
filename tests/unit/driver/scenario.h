// Runs a named scenario in a process of its own: this test binary is executed again and, before
// main(), runs the scenario instead of the tests. Not a bare fork(): a test framework and
// sanitizers have signal handlers and threads which a scenario must not inherit.
#pragma once

#include <functional>
#include <map>
#include <string>

namespace rtswap::test {

// The number under which a scenario finds the descriptor that was passed to it.
inline constexpr int kInheritedFd = 100;

struct Outcome {
  int wait_status = 0;  // as of waitpid()
  std::string errors;   // what it wrote to stderr

  bool exited_with(int code) const;
  bool killed_by(int signal) const;
};

// `fd` (-1: none) is passed to the scenario as kInheritedFd.
Outcome run_scenario(const std::string& name, int fd = -1);

// The body of a scenario returns its exit code.
using Scenarios = std::map<std::string, std::function<int()>>;
const Scenarios& all_scenarios();  // tests/unit/driver/scenarios.cc

}  // namespace rtswap::test
