#include "tests/unit/driver/scenario.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>  // also makes the standard streams ready before the initializer below

#include "csrc/base/unique_fd.h"
#include "tests/catch.h"

namespace rtswap::test {
namespace {

constexpr const char* kVariable = "RTSWAP_TEST_SCENARIO";

bool run_if_asked() {
  const char* name = std::getenv(kVariable);
  if (name == nullptr) return false;
  // Sanitizers installed handlers of their own, and a scenario that dies should leave no core.
  signal(SIGSEGV, SIG_DFL);
  signal(SIGBUS, SIG_DFL);
  const rlimit no_core{};
  setrlimit(RLIMIT_CORE, &no_core);
  int code = 99;
  try {
    code = all_scenarios().at(name)();
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
  }
  _exit(code);
}

[[maybe_unused]] const bool g_ran_instead = run_if_asked();

}  // namespace

bool Outcome::exited_with(int code) const {
  return WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == code;
}

bool Outcome::killed_by(int signal) const {
  return WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == signal;
}

Outcome run_scenario(const std::string& name, int fd) {
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const std::string setting = std::string(kVariable) + "=" + name;
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    dup2(write_end.get(), STDERR_FILENO);
    if (fd >= 0) dup2(fd, kInheritedFd);
    char program[] = "/proc/self/exe";
    char* const arguments[] = {program, nullptr};
    char* const environment[] = {const_cast<char*>(setting.c_str()), nullptr};
    execve(program, arguments, environment);
    _exit(127);
  }
  write_end.reset();
  Outcome outcome;
  char buffer[4096];
  for (ssize_t got = 0; (got = read(read_end.get(), buffer, sizeof buffer)) > 0;) {
    outcome.errors.append(buffer, static_cast<size_t>(got));
  }
  REQUIRE(waitpid(child, &outcome.wait_status, 0) == child);
  return outcome;
}

}  // namespace rtswap::test
