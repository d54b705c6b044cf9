// The end of a process is seen, and a process that cannot be watched is an error.
#include "daemon/watcher.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <future>

#include "tests/catch.h"

namespace rtswap::daemon::test {
namespace {

using std::chrono_literals::operator""s;

struct Child {
  pid_t pid = ::fork();
  Child() {
    if (pid == 0) {
      ::pause();
      ::_exit(0);
    }
  }
  ~Child() { end(); }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  UniqueFd descriptor() const {
    return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  }
  void end() {
    if (pid == 0) return;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    pid = 0;
  }
};

TEST_CASE("the end of a process is told once, unless its watch was cancelled") {
  Child child;
  Watcher watcher;
  std::promise<void> ended;
  bool cancelled_called = false;
  const auto cancelled = watcher.watch(child.descriptor(), [&] { cancelled_called = true; });
  REQUIRE(cancelled);
  REQUIRE(watcher.watch(child.descriptor(), [&] { ended.set_value(); }));
  watcher.cancel(*cancelled);
  child.end();
  CHECK(ended.get_future().wait_for(60s) == std::future_status::ready);
  CHECK_FALSE(cancelled_called);
}

TEST_CASE("what the system does not watch is an error, and the others are watched on") {
  Child child;
  Watcher watcher;
  bool called = false;
  UniqueFd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));  // epoll takes no regular files
  REQUIRE(file);
  const auto refused = watcher.watch(std::move(file), [&] { called = true; });
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ErrorCode::descriptor_limit);
  std::promise<void> ended;
  REQUIRE(watcher.watch(child.descriptor(), [&] { ended.set_value(); }));
  child.end();
  CHECK(ended.get_future().wait_for(60s) == std::future_status::ready);
  CHECK_FALSE(called);
}

}  // namespace
}  // namespace rtswap::daemon::test
