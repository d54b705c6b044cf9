#include "csrc/client/embedded.h"

#include <unistd.h>

#include <mutex>
#include <utility>

#include "csrc/arbiter/loop.h"

namespace rtswap::client {
namespace {

constexpr protocol::SessionId kSession = 1;

arbiter::Config config_of(const EmbeddedDevice& device, const std::string& version) {
  arbiter::Config config;
  config.version = version;
  config.epoch = 1;
  config.devices.push_back(device.config);
  return config;
}

}  // namespace

// The loop and the one receiver of what it sends.
class EmbeddedArbiter final : public arbiter::EffectSink {
 public:
  explicit EmbeddedArbiter(arbiter::Config config) : loop_(std::move(config), *this) {}

  arbiter::Loop& loop() { return loop_; }

  // Nullptr: nobody listens any more; returns when no call is in progress.
  void listen(protocol::LinkReceiver* receiver) {
    const std::lock_guard lock(mutex_);
    receiver_ = receiver;
  }

  void send(protocol::SessionId, protocol::ArbiterMessage message) override {
    const std::lock_guard lock(mutex_);
    if (receiver_ != nullptr) receiver_->on_message(std::move(message));
  }
  // The reason has been sent as Fault, or the client said goodbye.
  void close_session(protocol::SessionId, const Error&) override {}
  // Statistics come from snapshots; a timeline needs the daemon.
  void trace(const arbiter::Trace&) override {}
  void failed(const std::string& what) override {
    const std::lock_guard lock(mutex_);
    if (receiver_ == nullptr) return;
    receiver_->on_lost(
        {ErrorCode::internal,
         "the arbiter in this process has stopped because of a bug in rtswap: " + what});
  }

 private:
  std::mutex mutex_;  // guards what follows; held while the receiver is called
  protocol::LinkReceiver* receiver_ = nullptr;
  arbiter::Loop loop_;  // last: its thread uses the rest
};

namespace {

class EmbeddedLink final : public protocol::Link {
 public:
  explicit EmbeddedLink(std::shared_ptr<EmbeddedArbiter> arbiter) : arbiter_(std::move(arbiter)) {}
  ~EmbeddedLink() override { arbiter_->listen(nullptr); }

  Status start(protocol::LinkReceiver& receiver) override {
    arbiter_->listen(&receiver);
    arbiter_->loop().post(arbiter::SessionOpened{kSession, getpid(), ""});
    return {};
  }

  Status send(protocol::ClientMessage message) override {
    arbiter_->loop().post(arbiter::FromClient{kSession, std::move(message)});
    return {};
  }
  Status queue(protocol::ClientMessage message) override {
    arbiter_->loop().queue(arbiter::FromClient{kSession, std::move(message)});
    return {};
  }
  void flush() override { arbiter_->loop().run_queued(); }

  Result<protocol::Snapshot> snapshot(int64_t) override { return arbiter_->loop().snapshot(); }

  Result<std::vector<UniqueFd>> fetch_chunks(protocol::SessionId, uint32_t,
                                             const Interrupted&) override {
    return fail(ErrorCode::internal, "an embedded arbiter shares its bank, not descriptors of it");
  }
  Status offer_chunks(const std::string&, const std::string&, uint64_t, const std::vector<int>&,
                      const Interrupted&) override {
    return {};
  }

 private:
  const std::shared_ptr<EmbeddedArbiter> arbiter_;
};

}  // namespace

EmbeddedSource::EmbeddedSource(EmbeddedDevice device, const std::string& version)
    : device_(std::move(device)),
      arbiter_(std::make_shared<EmbeddedArbiter>(config_of(device_, version))) {}

EmbeddedSource::~EmbeddedSource() = default;

Result<std::unique_ptr<protocol::Link>> EmbeddedSource::connect(const Interrupted&) {
  return std::make_unique<EmbeddedLink>(arbiter_);
}

Result<std::shared_ptr<driver::Driver>> EmbeddedSource::open_driver(
    const protocol::DeviceDescription&) {
  return device_.driver;
}

Result<std::shared_ptr<const bank::Bank>> EmbeddedSource::open_bank(
    driver::Driver&, const protocol::DeviceDescription&, protocol::Link&, protocol::SessionId,
    uint32_t, const Interrupted&) {
  return device_.bank;
}

void EmbeddedSource::release() {
  arbiter_.reset();
  device_.bank.reset();
  device_.driver.reset();
  device_.lock.reset();  // last: the device is free now
}

std::string EmbeddedSource::name(const std::string& arbiter_version) const {
  return "the arbiter " + arbiter_version + " embedded in this process";
}

}  // namespace rtswap::client
