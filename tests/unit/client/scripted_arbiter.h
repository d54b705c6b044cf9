// The other end of a session as a test writes it: a link whose arbiter is the test, on simulated
// devices with a bank each.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "csrc/bank/bank.h"
#include "csrc/base/clock.h"
#include "csrc/base/units.h"
#include "csrc/client/core.h"
#include "csrc/driver/fault_injecting.h"
#include "csrc/driver/simulated.h"

namespace rtswap::client::test {

using namespace rtswap::literals;

inline constexpr uint64_t kChunk = 2_MiB;
inline constexpr int64_t kPatience_ns = 30'000'000'000;  // only a failing test waits so long

// Beside its bank it has room for one chunk.
struct ScriptedDevice {
  ScriptedDevice(const std::string& name, uint32_t chunks)
      : driver(std::make_shared<driver::FaultInjectingDriver>(
            driver::make_simulated_driver(
                {.name = name, .total_bytes = (chunks + 1) * kChunk, .poison_on_map = true},
                std::make_shared<driver::VirtualLink>(0))
                .value())),
        bank(bank::Bank::create(*driver, kChunk, chunks, {}).value()) {}

  protocol::DeviceDescription description() const {
    protocol::DeviceDescription description;
    description.uuid = driver->info().uuid;
    description.simulated = true;
    description.bank_id = bank->id();
    description.chunk_bytes = kChunk;
    description.chunk_count = bank->chunk_count();
    description.simulated_bytes_per_s = 1'000'000'000;
    return description;
  }

  const std::shared_ptr<driver::FaultInjectingDriver> driver;
  const std::shared_ptr<const bank::Bank> bank;
};

// What the test and the links of its session share.
class ScriptedArbiter {
 public:
  explicit ScriptedArbiter(uint32_t chunks = 8,
                           const std::vector<std::string>& names = {"script"}) {
    for (const std::string& name : names) devices.emplace_back(name, chunks);
    device = devices[0].driver;
    bank = devices[0].bank;
    welcome.arbiter_version = "script";
    welcome.session = 7;
    for (const ScriptedDevice& each : devices) welcome.devices.push_back(each.description());
  }

  const ScriptedDevice& device_of(const protocol::DeviceDescription& description) const {
    for (const ScriptedDevice& each : devices) {
      if (each.driver->info().uuid == description.uuid) return each;
    }
    throw std::runtime_error("there is no device " + description.uuid);
  }

  // The next message of this type that the client sent and nobody has taken; others before it stay.
  template <class Message>
  Message take() {
    std::unique_lock lock(mutex);
    std::optional<Message> found;
    const bool came = changed.wait_for(lock, std::chrono::nanoseconds(kPatience_ns), [&] {
      for (auto it = sent.begin(); it != sent.end(); ++it) {
        if (const Message* message = std::get_if<Message>(&*it)) {
          found = *message;
          sent.erase(it);
          return true;
        }
      }
      return false;
    });
    if (!came) throw std::runtime_error("the client did not send what was expected");
    return *found;
  }
  template <class Message>
  size_t count() {
    const std::lock_guard lock(mutex);
    size_t n = 0;
    for (const auto& message : sent) n += std::holds_alternative<Message>(message);
    return n;
  }

  // Delivered by the link's thread, in order; returns when the receiver has returned.
  void deliver(protocol::ArbiterMessage message) {
    on_link_thread([message = std::move(message)](protocol::LinkReceiver& receiver) {
      receiver.on_message(message);
    });
  }
  void lose_link() {
    {
      const std::lock_guard lock(mutex);
      alive = false;
    }
    on_link_thread([](protocol::LinkReceiver& receiver) {
      receiver.on_lost({ErrorCode::daemon_unavailable, "the script cut the link"});
    });
  }
  void allow_connections(bool allowed) {
    const std::lock_guard lock(mutex);
    reachable = allowed;
  }

  void on_link_thread(std::function<void(protocol::LinkReceiver&)> call) {
    std::unique_lock lock(mutex);
    calls.push_back(std::move(call));
    const uint64_t ticket = ++calls_given;
    changed.notify_all();
    changed.wait(lock, [&] { return calls_made >= ticket; });
  }

  // Constant.
  std::vector<ScriptedDevice> devices;
  std::shared_ptr<driver::FaultInjectingDriver> device;  // of the first
  std::shared_ptr<const bank::Bank> bank;                // of the first

  std::mutex mutex;  // guards what follows
  std::condition_variable changed;
  protocol::Welcome welcome;
  bool reachable = true;
  bool answers_hello = true;
  bool shortcut_hangs = false;
  bool alive = false;
  int connections = 0;
  int offers = 0;
  int shortcuts_begun = 0;
  int shortcuts_interrupted = 0;
  int flushes = 0;
  std::deque<protocol::ClientMessage> sent;
  std::deque<std::function<void(protocol::LinkReceiver&)>> calls;
  uint64_t calls_given = 0;
  uint64_t calls_made = 0;
};

class ScriptedLink final : public protocol::Link {
 public:
  explicit ScriptedLink(std::shared_ptr<ScriptedArbiter> arbiter) : arbiter_(std::move(arbiter)) {}
  ~ScriptedLink() override {
    {
      const std::lock_guard lock(arbiter_->mutex);
      stopping_ = true;
      arbiter_->changed.notify_all();
    }
    if (thread_.joinable()) thread_.join();
  }

  Status start(protocol::LinkReceiver& receiver) override {
    thread_ = std::thread([this, &receiver] { run(receiver); });
    return {};
  }
  Status send(protocol::ClientMessage message) override {
    const std::lock_guard lock(arbiter_->mutex);
    if (!arbiter_->alive) return fail(ErrorCode::daemon_unavailable, "the link is cut");
    if (std::holds_alternative<protocol::Hello>(message) && arbiter_->answers_hello) {
      arbiter_->calls.emplace_back([welcome = arbiter_->welcome](protocol::LinkReceiver& receiver) {
        receiver.on_message(welcome);
      });
      ++arbiter_->calls_given;
    }
    arbiter_->sent.push_back(std::move(message));
    arbiter_->changed.notify_all();
    return {};
  }
  void flush() override {
    const std::lock_guard lock(arbiter_->mutex);
    ++arbiter_->flushes;
  }
  Status open_shortcut(protocol::SessionId, const Interrupted& interrupted) override {
    std::unique_lock lock(arbiter_->mutex);
    ++arbiter_->shortcuts_begun;
    const int64_t give_up_ns = monotonic_now_ns() + kPatience_ns;
    while (arbiter_->shortcut_hangs && monotonic_now_ns() < give_up_ns) {
      lock.unlock();
      const Status status = check(interrupted);
      std::this_thread::yield();
      lock.lock();
      if (status) continue;
      ++arbiter_->shortcuts_interrupted;
      return status;
    }
    return {};
  }
  Result<protocol::Snapshot> snapshot(int64_t) override { return protocol::Snapshot{}; }
  Result<std::vector<UniqueFd>> fetch_chunks(protocol::SessionId, uint32_t,
                                             const Interrupted&) override {
    return std::vector<UniqueFd>();
  }
  Status offer_chunks(const std::string&, const std::string&, uint64_t, const std::vector<int>& fds,
                      const Interrupted&) override {
    const std::lock_guard lock(arbiter_->mutex);
    if (fds.size() == arbiter_->bank->chunk_count()) ++arbiter_->offers;
    return {};
  }

 private:
  void run(protocol::LinkReceiver& receiver) {
    std::unique_lock lock(arbiter_->mutex);
    while (true) {
      arbiter_->changed.wait(lock, [&] { return stopping_ || !arbiter_->calls.empty(); });
      if (stopping_) return;
      const auto call = std::move(arbiter_->calls.front());
      arbiter_->calls.pop_front();
      lock.unlock();
      call(receiver);
      lock.lock();
      ++arbiter_->calls_made;
      arbiter_->changed.notify_all();
    }
  }

  const std::shared_ptr<ScriptedArbiter> arbiter_;
  bool stopping_ = false;  // guarded by the arbiter's mutex
  std::thread thread_;
};

class ScriptedSource final : public ArbiterSource {
 public:
  explicit ScriptedSource(std::shared_ptr<ScriptedArbiter> arbiter)
      : arbiter_(std::move(arbiter)) {}

  Result<std::unique_ptr<protocol::Link>> connect(const Interrupted&) override {
    const std::lock_guard lock(arbiter_->mutex);
    if (!arbiter_->reachable) return fail(ErrorCode::daemon_unavailable, "nobody listens");
    arbiter_->alive = true;
    ++arbiter_->connections;
    return std::make_unique<ScriptedLink>(arbiter_);
  }
  Result<std::shared_ptr<driver::Driver>> open_driver(
      const protocol::DeviceDescription& description) override {
    return arbiter_->device_of(description).driver;
  }
  Result<std::shared_ptr<const bank::Bank>> open_bank(
      driver::Driver&, const protocol::DeviceDescription& description, protocol::Link&,
      protocol::SessionId, uint32_t, const Interrupted&) override {
    return arbiter_->device_of(description).bank;
  }
  bool can_reconnect() const noexcept override { return true; }
  void release() override {}
  std::string name(const std::string& version) const override { return "script " + version; }

 private:
  const std::shared_ptr<ScriptedArbiter> arbiter_;
};

}  // namespace rtswap::client::test
