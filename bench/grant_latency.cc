// What a grant costs: the time from a job's request until it may start, its memory being resident,
// through a real rtswapd with eight client processes. They ask at random instants, so that some
// requests meet another's job: that is part of the figure, a small one when they pause for long.
// Beside it ("bare") the same requests over plain sockets to a process that sends them back at
// once: what waking a process and being woken costs on this machine.
//
//   bench_grant_latency [CLIENTS [REQUESTS [MEAN_PAUSE_MS]]]
//
// Prints one JSON object; times in microseconds. rtswapd and librtswap_grpc.so lie beside it.
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <optional>
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
constexpr size_t kMessage_bytes = 64;  // as long as a request on the wire

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

// Calls `round_trip` at random instants; writes what each took, ns, to `out`.
template <class RoundTrip>
void ask_at_random(int index, int requests, int64_t mean_pause_ns, int out, RoundTrip round_trip) {
  std::mt19937_64 random(static_cast<uint64_t>(index));
  std::uniform_int_distribution<int64_t> pause_ns(mean_pause_ns / 5, mean_pause_ns * 9 / 5);
  std::vector<int64_t> round_trips_ns;
  for (int i = 0; i < kWarmUp + requests; ++i) {
    sleep_until_ns(monotonic_now_ns() + pause_ns(random));
    const int64_t took_ns = round_trip();
    if (i >= kWarmUp) round_trips_ns.push_back(took_ns);
  }
  const auto bytes = round_trips_ns.size() * sizeof(int64_t);
  if (write(out, round_trips_ns.data(), bytes) != static_cast<ssize_t>(bytes)) std::exit(1);
}

void run_client(const std::string& folder, const std::string& socket, int index, int requests,
                int64_t mean_pause_ns, int out) {
  const auto session = connect(folder, socket);
  const auto arena = must(session->open_arena(0, "bench"));
  (void)must(session->add_segment(arena, engine::Kind::read_only, 1_MiB));
  must(session->publish_arena(arena, -1));
  const auto task = must(session->open_task(
      arena, {.name = "bench" + std::to_string(index), .timing = {}, .resident = false}));
  (void)must(task->wait_verdict(10_s));
  ask_at_random(index, requests, mean_pause_ns, out, [&] {
    const int64_t begin_ns = monotonic_now_ns();
    const auto job = must(task->release(0, false, rtswap::client::Start::whole));
    if (!must(job->wait(10_s))) std::exit(1);
    const int64_t end_ns = monotonic_now_ns();
    must(job->end({}));
    return end_ns - begin_ns;
  });
  must(session->close());
}

// The floor: the same requests over bare sockets, to a process that only sends them back.
void run_bare_client(int socket, int index, int requests, int64_t mean_pause_ns, int out) {
  std::array<char, kMessage_bytes> message{};
  ask_at_random(index, requests, mean_pause_ns, out, [&] {
    const int64_t begin_ns = monotonic_now_ns();
    if (write(socket, message.data(), message.size()) < 0) std::exit(1);
    if (read(socket, message.data(), message.size()) <= 0) std::exit(1);
    return monotonic_now_ns() - begin_ns;
  });
}

void serve_bare(std::vector<pollfd> sockets) {
  std::array<char, kMessage_bytes> message{};
  size_t open = sockets.size();
  while (open > 0 && poll(sockets.data(), sockets.size(), -1) > 0) {
    for (pollfd& socket : sockets) {
      if (socket.revents == 0) continue;
      const ssize_t bytes = read(socket.fd, message.data(), message.size());
      if (bytes > 0 && write(socket.fd, message.data(), static_cast<size_t>(bytes)) == bytes) {
        continue;
      }
      socket.fd = -1;  // poll() leaves it out
      --open;
    }
  }
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

// Runs `client(index, out)` in a process each; their round trips as JSON, nothing when one failed.
// `meanwhile` runs in this process.
template <class Client, class Meanwhile>
std::optional<std::string> measure(int clients, Client client, Meanwhile meanwhile) {
  std::vector<std::pair<pid_t, int>> children;  // pid, where its results come out
  for (int i = 0; i < clients; ++i) {
    int ends[2];
    if (pipe(ends) != 0) return std::nullopt;
    const pid_t pid = fork();
    if (pid == 0) {
      client(i, ends[1]);
      std::_Exit(0);
    }
    close(ends[1]);
    children.emplace_back(pid, ends[0]);
  }
  meanwhile();
  std::vector<int64_t> all_ns;
  bool failed = false;
  for (const auto& [pid, results] : children) {
    int64_t value_ns = 0;
    while (read(results, &value_ns, sizeof value_ns) == sizeof value_ns) all_ns.push_back(value_ns);
    close(results);
    int status = 0;
    waitpid(pid, &status, 0);
    failed |= status != 0;
  }
  if (failed || all_ns.empty()) return std::nullopt;
  std::sort(all_ns.begin(), all_ns.end());
  std::string text = "{\"requests\": " + std::to_string(all_ns.size());
  for (const int percent : {50, 90, 99, 100}) {
    text += ", \"p" + std::to_string(percent) +
            "_us\": " + std::to_string(percentile_us(all_ns, percent));
  }
  return text + "}";
}

std::optional<std::string> measure_grants(const std::string& folder, int clients, int requests,
                                          int64_t mean_pause_ns) {
  std::string temporary = std::filesystem::temp_directory_path() / "rtswap-bench-XXXXXX";
  if (mkdtemp(temporary.data()) == nullptr) return std::nullopt;
  const std::string socket = temporary + "/rtswapd.sock";
  const pid_t daemon = start_daemon(folder, socket);
  auto measured = measure(
      clients,
      [&](int index, int out) { run_client(folder, socket, index, requests, mean_pause_ns, out); },
      [] {});
  kill(daemon, SIGTERM);
  waitpid(daemon, nullptr, 0);
  std::filesystem::remove_all(temporary);
  return measured;
}

std::optional<std::string> measure_bare(int clients, int requests, int64_t mean_pause_ns) {
  std::vector<pollfd> servers;
  std::vector<int> ends;
  for (int i = 0; i < clients; ++i) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return std::nullopt;
    servers.push_back({.fd = pair[0], .events = POLLIN, .revents = 0});
    ends.push_back(pair[1]);
  }
  return measure(
      clients,
      [&](int index, int out) {
        run_bare_client(ends[static_cast<size_t>(index)], index, requests, mean_pause_ns, out);
        // The others' ends are open here as well: the server counts goodbyes, not hang-ups.
        shutdown(ends[static_cast<size_t>(index)], SHUT_RDWR);
      },
      [&] { serve_bare(servers); });
}

}  // namespace

int main(int argc, char** argv) {
  const int clients = argc > 1 ? std::atoi(argv[1]) : 8;
  const int requests = argc > 2 ? std::atoi(argv[2]) : 1000;
  const int mean_pause_ms = argc > 3 ? std::atoi(argv[3]) : 5;
  const std::string folder = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  const auto bare = measure_bare(clients, requests, mean_pause_ms * 1_ms);
  const auto grant = measure_grants(folder, clients, requests, mean_pause_ms * 1_ms);
  if (!bare || !grant) return 1;
  std::printf("{\"clients\": %d, \"mean_pause_ms\": %d, \"bare\": %s, \"grant\": %s}\n", clients,
              mean_pause_ms, bare->c_str(), grant->c_str());
  return 0;
}
