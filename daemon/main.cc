// rtswapd: the arbiter of a host's GPUs as a daemon.
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "daemon/check.h"
#include "daemon/config.h"
#include "daemon/log.h"
#include "daemon/server.h"

namespace {

using namespace rtswap;

constexpr int kUsage = 2;
constexpr int kFailed = 1;

// Serves until SIGINT or SIGTERM. Both are blocked in every thread and read here.
int serve(const daemon::Config& config) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const UniqueFd stop(::signalfd(-1, &signals, SFD_CLOEXEC));
  const UniqueFd failure(::eventfd(0, EFD_CLOEXEC));

  daemon::start_log(config.log_format, config.log_level);
  auto server = daemon::Server::start(config, [&](const std::string& what) {
    spdlog::critical("the arbiter broke one of its rules and stops; please report this: {}", what);
    ::eventfd_write(failure.get(), 1);
  });
  if (!server) {
    spdlog::critical("{}", server.error().message);
    return kFailed;
  }
  bool announced = false;
  for (;;) {
    if ((*server)->ready() && !announced) {
      announced = true;
      const std::string line = (*server)->ready_line();
      spdlog::info("{}", line);
      std::printf("%s\n", line.c_str());
      std::fflush(stdout);
    }
    pollfd entries[] = {{stop.get(), POLLIN, 0}, {failure.get(), POLLIN, 0}};
    const int ready = ::poll(entries, 2, announced ? -1 : 100);
    if (ready < 0) continue;
    if (entries[1].revents != 0) return kFailed;
    if (entries[0].revents != 0) break;
    if (const Status status = (*server)->advance(); !status) {
      spdlog::critical("{}", status.error().message);
      return kFailed;
    }
  }
  spdlog::info("stopping; clients keep what they hold and wait for the next rtswapd");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  const auto arguments = daemon::parse_arguments(std::vector<std::string>(argv + 1, argv + argc));
  if (!arguments) {
    std::fprintf(stderr, "rtswapd: %s\n", arguments.error().message.c_str());
    return kUsage;
  }
  if (!arguments->print_and_exit.empty()) {
    std::fputs(arguments->print_and_exit.c_str(), stdout);
    return 0;
  }
  try {
    return arguments->check ? daemon::check(arguments->config) : serve(arguments->config);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rtswapd: this is a bug, please report it: %s\n", error.what());
    return kFailed;
  }
}
