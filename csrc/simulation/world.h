// What all simulated clients share: virtual time, randomness, the links to the devices, and the way
// to the arbiter.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <queue>
#include <random>
#include <string>
#include <vector>

#include "csrc/protocol/messages.h"
#include "csrc/simulation/checker.h"
#include "csrc/simulation/simulation.h"

namespace rtswap::simulation {

// Runs actions in order of time; ties in the order they were added.
class Timeline {
 public:
  int64_t now_ns() const { return now_ns_; }
  void at(int64_t at_ns, std::function<void()> action);
  // False when nothing is left.
  bool run_next();

 private:
  struct Entry {
    int64_t at_ns = 0;
    uint64_t sequence = 0;
    std::function<void()> action;
    bool operator>(const Entry& other) const {
      return at_ns != other.at_ns ? at_ns > other.at_ns : sequence > other.sequence;
    }
  };
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue_;
  int64_t now_ns_ = 0;
  uint64_t sequence_ = 0;
};

// Uniform draws that do not depend on the standard library's distributions.
class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  // In [low, high]. REQUIRES: low <= high.
  int64_t between(int64_t low, int64_t high) {
    const auto span = static_cast<uint64_t>(high - low) + 1;
    return low + static_cast<int64_t>(engine_() % span);
  }
  double unit() { return static_cast<double>(engine_() >> 11) * 0x1.0p-53; }

 private:
  std::mt19937_64 engine_;
};

// What does one thing at a time: a direction of the link, or the driver.
class Lane {
 public:
  // Reserves the next `duration_ns` after `now_ns` for `owner`; returns when that ends.
  int64_t copy(const void* owner, int64_t now_ns, int64_t duration_ns) {
    while (!slots_.empty() && slots_.front().end_ns <= now_ns) slots_.pop_front();
    const int64_t begin_ns = slots_.empty() ? now_ns : slots_.back().end_ns;
    slots_.push_back({owner, begin_ns, begin_ns + duration_ns});
    return slots_.back().end_ns;
  }

  // The driver has ended a process's copies before anybody sees that the process is dead. What
  // others have reserved behind them stays as late as it is.
  void drop(const void* owner, int64_t now_ns) {
    while (!slots_.empty() && slots_.back().owner == owner && slots_.back().begin_ns >= now_ns) {
      slots_.pop_back();
    }
    if (!slots_.empty() && slots_.back().owner == owner) slots_.back().end_ns = now_ns;
  }

 private:
  struct Slot {
    const void* owner;
    int64_t begin_ns;
    int64_t end_ns;
  };
  std::deque<Slot> slots_;  // one behind the other
};

inline std::string device_uuid(uint32_t device) { return "SIM-" + std::to_string(device); }

struct DeviceLink {
  Lane to_device;
  Lane to_host;
  Lane mappings;  // maps and unmaps, of all processes
};

struct World {
  World(const SimConfig& sim_config, std::function<void(arbiter::Event)> arbiter_post)
      : config(sim_config),
        random(sim_config.seed),
        bytes_per_s(sim_config.bytes_per_s),
        links(sim_config.devices),
        checker(sim_config.chunk_count, sim_config.devices),
        post(std::move(arbiter_post)) {}

  int64_t latency_ns() { return random.between(config.latency_min_ns, config.latency_max_ns); }
  int64_t chunk_copy_ns() const {
    return static_cast<int64_t>(config.chunk_bytes * 1'000'000'000 / bytes_per_s);
  }

  const SimConfig& config;
  Timeline timeline;
  Random random;
  uint64_t bytes_per_s;           // of each link, now
  std::vector<DeviceLink> links;  // by device
  Checker checker;
  std::function<void(arbiter::Event)> post;  // an event reaches the arbiter, now
  uint64_t last_session = 0;
};

}  // namespace rtswap::simulation
