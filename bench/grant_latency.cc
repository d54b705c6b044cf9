// What a grant costs: the time from a job's request until it may start, its memory being resident,
// through a real rtswapd with eight client processes. They ask at random instants, so that some
// requests meet another's job: that is part of the figure, a small one when they pause for long.
//
//   bench_grant_latency [CLIENTS [REQUESTS [MEAN_PAUSE_MS]]]
//
// Prints one JSON object; times in microseconds. rtswapd and librtswap_grpc.so lie beside it.
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "csrc/base/clock.h"
#include "csrc/base/units.h"
#include "csrc/client/session.h"

extern char** environ;

namespace {

using namespace rtswap;

constexpr int kWarmUp = 50;

template <class T>
T must(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "%s\n", result.error().message.c_str());
    std::exit(1);
  }
  return std::move(result).value();
}

void must(const Status& status) {
  if (!status) {
    std::fprintf(stderr, "%s\n", status.error().message.c_str());
    std::exit(1);
  }
}

std::shared_ptr<client::Session> connect(const std::string& folder, const std::string& socket) {
  client::ConnectOptions options;
  options.choice = client::ArbiterChoice::daemon;
  options.socket_path = socket;
  options.grpc_library = folder + "/librtswap_grpc.so";
  const int64_t give_up_ns = monotonic_now_ns() + 20_s;
  while (true) {  // the daemon is starting
    auto session = client::Session::connect(options);
    if (session || monotonic_now_ns() > give_up_ns) return must(std::move(session));
    sleep_until_ns(monotonic_now_ns() + 50_ms);
  }
}

// Round trips of one client, ns, written to `out`.
void run_client(const std::string& folder, const std::string& socket, int index, int requests,
                int64_t mean_pause_ns, int out) {
  const auto session = connect(folder, socket);
  const auto arena = must(session->open_arena(0, "bench"));
  (void)must(session->add_segment(arena, engine::Kind::read_only, 1_MiB, nullptr));
  must(session->publish_arena(arena, -1));
  const auto task = must(session->open_task(
      arena, {.name = "bench" + std::to_string(index), .timing = {}, .resident = false}));
  (void)must(task->wait_verdict(10_s));
  std::mt19937_64 random(static_cast<uint64_t>(index));
  std::uniform_int_distribution<int64_t> pause_ns(mean_pause_ns / 5, mean_pause_ns * 9 / 5);
  std::vector<int64_t> round_trips_ns;
  for (int i = 0; i < kWarmUp + requests; ++i) {
    sleep_until_ns(monotonic_now_ns() + pause_ns(random));
    const int64_t begin_ns = monotonic_now_ns();
    const auto job = must(task->release(0, false, rtswap::client::Start::whole));
    if (!must(job->wait(10_s))) std::exit(1);
    const int64_t end_ns = monotonic_now_ns();
    must(job->end({}));
    if (i >= kWarmUp) round_trips_ns.push_back(end_ns - begin_ns);
  }
  const auto bytes = round_trips_ns.size() * sizeof(int64_t);
  if (write(out, round_trips_ns.data(), bytes) != static_cast<ssize_t>(bytes)) std::exit(1);
  must(session->close());
}

double percentile_us(const std::vector<int64_t>& sorted_ns, double percent) {
  const auto at = static_cast<size_t>(percent / 100 * static_cast<double>(sorted_ns.size() - 1));
  return static_cast<double>(sorted_ns[at]) / 1e3;
}

pid_t start_daemon(const std::string& folder, const std::string& socket) {
  const std::string binary = folder + "/rtswapd";
  std::vector<std::string> words{binary, "--simulate",  "64MiB",  "--socket",
                                 socket, "--log-level", "warning"};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t pid = 0;
  if (posix_spawn(&pid, binary.c_str(), nullptr, nullptr, arguments.data(), environ) != 0) {
    std::fprintf(stderr, "cannot start %s\n", binary.c_str());
    std::exit(1);
  }
  return pid;
}

}  // namespace

int main(int argc, char** argv) {
  const int clients = argc > 1 ? std::atoi(argv[1]) : 8;
  const int requests = argc > 2 ? std::atoi(argv[2]) : 1000;
  const int mean_pause_ms = argc > 3 ? std::atoi(argv[3]) : 5;
  const std::string folder = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  std::string temporary = std::filesystem::temp_directory_path() / "rtswap-bench-XXXXXX";
  if (mkdtemp(temporary.data()) == nullptr) return 1;
  const std::string socket = temporary + "/rtswapd.sock";
  const pid_t daemon = start_daemon(folder, socket);

  std::vector<std::pair<pid_t, int>> children;  // pid, where its results come out
  for (int i = 0; i < clients; ++i) {
    int ends[2];
    if (pipe(ends) != 0) return 1;
    const pid_t pid = fork();
    if (pid == 0) {
      run_client(folder, socket, i, requests, mean_pause_ms * 1_ms, ends[1]);
      std::_Exit(0);
    }
    close(ends[1]);
    children.emplace_back(pid, ends[0]);
  }
  std::vector<int64_t> all_ns;
  bool failed = false;
  for (const auto& [pid, results] : children) {
    int64_t value_ns = 0;
    while (read(results, &value_ns, sizeof value_ns) == sizeof value_ns) all_ns.push_back(value_ns);
    int status = 0;
    waitpid(pid, &status, 0);
    failed |= status != 0;
  }
  kill(daemon, SIGTERM);
  waitpid(daemon, nullptr, 0);
  std::filesystem::remove_all(temporary);
  if (failed || all_ns.empty()) return 1;
  std::sort(all_ns.begin(), all_ns.end());
  std::printf(
      "{\"clients\": %d, \"mean_pause_ms\": %d, \"requests\": %zu, \"p50_us\": %.1f, \"p90_us\": "
      "%.1f, \"p99_us\": %.1f, "
      "\"max_us\": %.1f}\n",
      clients, mean_pause_ms, all_ns.size(), percentile_us(all_ns, 50), percentile_us(all_ns, 90),
      percentile_us(all_ns, 99), percentile_us(all_ns, 100));
  return 0;
}
