// An arbiter under a test's own clock: sends messages of clients, keeps what comes back.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "csrc/arbiter/arbiter.h"

namespace rtswap::arbiter::test {

inline constexpr int64_t kMs = 1'000'000;

inline Config one_device(uint32_t chunks) {
  DeviceConfig device;
  device.description.uuid = "SIM-0";
  device.description.chunk_bytes = 32 << 20;
  device.description.chunk_count = chunks;
  device.assumed_restore_bytes_per_s = 10'000'000'000;
  device.static_limit_bytes = 1ull << 30;
  Config config;
  config.version = "test";
  config.epoch = 1;
  config.devices.push_back(device);
  return config;
}

class Harness {
 public:
  explicit Harness(Config config) : arbiter(std::move(config)) {}

  void step(const Event& event) {
    if (std::holds_alternative<TimerFired>(event)) timer_ns = protocol::kNoDeadline_ns;
    for (Effect& effect : arbiter.step(now_ns, event)) {
      if (const auto* timer = std::get_if<SetTimer>(&effect)) timer_ns = timer->at_ns;
      effects.push_back(std::move(effect));
    }
    arbiter.check();
  }
  // Whether the arbiter has more to do at once, when no message waits.
  bool has_more_to_do() const { return timer_ns <= now_ns; }
  void finish() {
    while (has_more_to_do()) step(TimerFired{});
  }
  void from(SessionId session, protocol::ClientMessage message) {
    step(FromClient{session, std::move(message)});
  }
  void pass(int64_t ns) {
    now_ns += ns;
    step(TimerFired{});
  }
  // A client with one arena (id 1) and one task (id 1).
  void open(SessionId session, uint32_t chunks, protocol::Timing timing,
            protocol::OnRefusal on_refusal = protocol::OnRefusal::refuse, bool resident = false) {
    step(SessionOpened{session, static_cast<int64_t>(session) + 100, "user"});
    from(session, protocol::Hello{});
    from(session, protocol::OpenArena{1, 0, chunks, 0});
    protocol::OpenTask task{1,  1,         "task" + std::to_string(session), timing, resident,
                            {}, on_refusal};
    from(session, task);
  }
  void release(SessionId session, protocol::JobId job, int64_t deadline_ns) {
    from(session, protocol::Release{job, 1, now_ns, deadline_ns});
  }
  // Reports every grant so far as landed.
  void land(SessionId session) {
    uint32_t end = 0;
    for (const auto& grant : all<protocol::Grant>(session)) {
      end = grant.first_position + static_cast<uint32_t>(grant.chunks.size());
    }
    from(session, protocol::Restored{1, end});
  }
  // Lands grants of all until nobody gets more: idle restores run to their end.
  void land_everything(const std::vector<SessionId>& sessions) {
    for (int round = 0; round < 64; ++round) {
      for (const SessionId session : sessions) {
        if (last<protocol::Grant>(session)) land(session);
      }
    }
  }

  template <class Message>
  std::vector<Message> all(SessionId session) const {
    std::vector<Message> found;
    for (const Effect& effect : effects) {
      const auto* send = std::get_if<Send>(&effect);
      if (send == nullptr || send->session != session) continue;
      if (const auto* message = std::get_if<Message>(&send->message)) found.push_back(*message);
    }
    return found;
  }
  template <class Message>
  std::optional<Message> last(SessionId session) const {
    const auto found = all<Message>(session);
    return found.empty() ? std::nullopt : std::optional<Message>(found.back());
  }
  bool closed(SessionId session) const {
    for (const Effect& effect : effects) {
      const auto* close = std::get_if<CloseSession>(&effect);
      if (close != nullptr && close->session == session) return true;
    }
    return false;
  }
  uint32_t free_chunks() const { return arbiter.snapshot().devices[0].free_chunks; }

  Arbiter arbiter;
  std::vector<Effect> effects;
  int64_t now_ns = 1'000 * kMs;
  int64_t timer_ns = protocol::kNoDeadline_ns;
};

}  // namespace rtswap::arbiter::test
