// How long the arbiter takes for one event: sets of periodic tasks at 1.5 times the bank, one
// client each, with direct tasks only and with staged ones. Clients answer at once or
// after the copies of a 24 GB/s link, in virtual time.
//
//   bench_dispatch
//
// Prints one JSON object; processor times in microseconds, of the events of ten seconds.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <map>
#include <queue>
#include <random>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "csrc/arbiter/arbiter.h"

namespace {

using namespace rtswap;
using namespace rtswap::arbiter;

constexpr int64_t kSecond_ns = 1'000'000'000;
constexpr int64_t kLast_ns = 10 * kSecond_ns;
constexpr uint64_t kChunkBytes = 32 << 20;
constexpr uint64_t kBytesPerS = 24'000'000'000;
constexpr int64_t kCopy_ns = kChunkBytes * kSecond_ns / kBytesPerS;
constexpr int64_t kAnswer_ns = 50'000;

struct Client {
  int64_t period_ns = 0;
  int64_t wcet_ns = 0;
  uint32_t chunks = 0;
  protocol::JobId jobs = 0;
  bool staged = false;
  bool admitted = false;
};

struct Due {
  int64_t at_ns = 0;
  uint64_t order = 0;
  Event event;
  bool operator>(const Due& other) const {
    return std::pair(at_ns, order) > std::pair(other.at_ns, other.order);
  }
};

double cpu_us() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) * 1e-3;
}

// nullptr: an event that is not measured.
const char* name_of(const Event& event) {
  const auto* from = std::get_if<FromClient>(&event);
  if (from == nullptr) return nullptr;
  if (std::holds_alternative<protocol::Release>(from->message)) return "release";
  if (std::holds_alternative<protocol::JobDone>(from->message)) return "job_done";
  if (std::holds_alternative<protocol::Restored>(from->message)) return "restored";
  if (std::holds_alternative<protocol::Evicted>(from->message)) return "evicted";
  return nullptr;
}

class World {
 public:
  World(std::vector<Client> clients, Config config)
      : clients_(std::move(clients)), arbiter_(std::move(config)) {}

  void run() {
    for (SessionId id = 1; id <= clients_.size(); ++id) {
      const Client& client = clients_[id - 1];
      step(SessionOpened{id, static_cast<int64_t>(id) + 100, "user"});
      step(FromClient{id, protocol::Hello{}});
      step(FromClient{id, protocol::OpenArena{1, 0, client.chunks, 0}});
      const protocol::Timing timing{client.period_ns, client.period_ns, client.wcet_ns};
      step(FromClient{id, protocol::OpenTask{1, 1, "task" + std::to_string(id), timing}});
      advance(now_ns_ + kSecond_ns);
    }
    advance(now_ns_ + 5 * kSecond_ns);
    measuring_ = true;
    const int64_t end_ns = now_ns_ + kLast_ns;
    for (SessionId id = 1; id <= clients_.size(); ++id) {
      const int64_t period_ns = clients_[id - 1].period_ns;
      for (int64_t at_ns = now_ns_; at_ns < end_ns; at_ns += period_ns) release(id, at_ns);
    }
    advance(end_ns);
  }

  void print(int tasks) {
    const auto count = [this](bool Client::*what) {
      return std::count_if(clients_.begin(), clients_.end(),
                           [what](const Client& client) { return client.*what; });
    };
    std::printf("\n  {\"tasks\": %d, \"admitted\": %d, \"staged\": %d", tasks,
                static_cast<int>(count(&Client::admitted)),
                static_cast<int>(count(&Client::staged)));
    for (auto& [name, times_us] : times_us_) {
      std::sort(times_us.begin(), times_us.end());
      std::printf(", \"%s\": {\"events\": %zu, \"median_us\": %.2f, \"p99_us\": %.2f}",
                  name.c_str(), times_us.size(), times_us[times_us.size() / 2],
                  times_us[times_us.size() * 99 / 100]);
    }
    std::printf("}");
  }

 private:
  void release(SessionId id, int64_t at_ns) {
    Client& client = clients_[id - 1];
    const protocol::Release release{++client.jobs, 1, at_ns, at_ns + client.period_ns};
    later(at_ns, FromClient{id, release});
  }

  void later(int64_t at_ns, Event event) { due_.push(Due{at_ns, ++order_, std::move(event)}); }

  void advance(int64_t until_ns) {
    while (!due_.empty() && due_.top().at_ns <= until_ns) {
      Due next = due_.top();
      due_.pop();
      now_ns_ = next.at_ns;
      step(next.event);
    }
    now_ns_ = until_ns;
  }

  void step(const Event& event) {
    const double begin_us = cpu_us();
    const std::vector<Effect> effects = arbiter_.step(now_ns_, event);
    const double took_us = cpu_us() - begin_us;
    if (const char* name = name_of(event); measuring_ && name != nullptr) {
      times_us_[name].push_back(took_us);
    }
    for (const Effect& effect : effects) {
      if (const auto* send = std::get_if<Send>(&effect)) answer(send->session, send->message);
      if (const auto* timer = std::get_if<SetTimer>(&effect)) wake_at(timer->at_ns);
    }
  }

  void wake_at(int64_t at_ns) {
    if (at_ns != protocol::kNoDeadline_ns) later(std::max(at_ns, now_ns_), TimerFired{});
  }

  void answer(SessionId id, const protocol::ArbiterMessage& message) {
    Client& client = clients_[id - 1];
    if (const auto* grant = std::get_if<protocol::Grant>(&message)) {
      const auto count = static_cast<uint32_t>(grant->chunks.size());
      link_free_ns_ = std::max(link_free_ns_, now_ns_) + count * kCopy_ns;
      later(link_free_ns_ + kAnswer_ns,
            FromClient{id, protocol::Restored{1, grant->first_position + count}});
    } else if (const auto* revoke = std::get_if<protocol::Revoke>(&message)) {
      later(now_ns_ + kAnswer_ns, FromClient{id, protocol::Evicted{1, revoke->keep_chunks, 0}});
    } else if (const auto* run = std::get_if<protocol::Run>(&message)) {
      later(now_ns_ + client.wcet_ns, FromClient{id, protocol::JobDone{run->job, client.wcet_ns}});
    } else if (const auto* verdict = std::get_if<protocol::Verdict>(&message)) {
      client.admitted = verdict->state == protocol::TaskState::admitted;
      client.staged = verdict->staged;
    }
  }

  std::vector<Client> clients_;
  Arbiter arbiter_;
  std::priority_queue<Due, std::vector<Due>, std::greater<>> due_;
  std::map<std::string, std::vector<double>> times_us_;
  int64_t now_ns_ = kSecond_ns;
  int64_t link_free_ns_ = 0;
  uint64_t order_ = 0;
  bool measuring_ = false;
};

// `camera`: the first task has a period too short for the restores of the others.
void measure(int tasks, bool camera) {
  std::mt19937 random(1);
  const auto uniform = [&random] { return static_cast<double>(random()) * 0x1.0p-32; };
  std::vector<Client> clients;
  uint32_t all = 0;
  for (int i = 0; i < tasks; ++i) {
    Client client;
    client.period_ns = static_cast<int64_t>((1.0 + 3.0 * uniform()) * tasks / 16 * kSecond_ns);
    client.wcet_ns = static_cast<int64_t>(0.3 / tasks * static_cast<double>(client.period_ns));
    client.chunks = 4 + random() % 120;
    if (camera && i == 0) client = {.period_ns = 40'000'000, .wcet_ns = 2'000'000, .chunks = 1};
    if (camera && i > 0) client.wcet_ns = std::min<int64_t>(client.wcet_ns, 10'000'000);
    all += client.chunks;
    clients.push_back(client);
  }
  DeviceConfig device;
  device.description.uuid = "SIM-0";
  device.description.chunk_bytes = kChunkBytes;
  device.description.chunk_count = all * 2 / 3;
  device.assumed_restore_bytes_per_s = kBytesPerS;
  Config config;
  config.version = "bench";
  config.epoch = 1;
  config.devices.push_back(device);
  World world(std::move(clients), std::move(config));
  world.run();
  world.print(tasks);
}

}  // namespace

int main() {
  const char* separator = "{\"dispatch\": [";
  for (const bool camera : {false, true}) {
    for (const int tasks : {4, 16, 64}) {
      std::printf("%s", separator);
      measure(tasks, camera);
      separator = ",";
    }
  }
  std::printf("\n]}\n");
  return 0;
}
