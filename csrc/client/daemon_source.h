// The arbiter is a daemon behind a socket.
#pragma once

#include <string>

#include "csrc/client/arbiter_source.h"
#include "csrc/rpc/grpc_link.h"

namespace rtswap::client {

class DaemonSource final : public ArbiterSource {
 public:
  DaemonSource(std::string socket_path, rpc::ConnectFunction connect_function)
      : socket_path_(std::move(socket_path)), connect_function_(connect_function) {}

  Result<std::unique_ptr<protocol::Link>> connect(const Interrupted& interrupted) override;
  Result<std::shared_ptr<driver::Driver>> open_driver(
      const protocol::DeviceDescription& device) override;
  Result<std::shared_ptr<const bank::Bank>> open_bank(driver::Driver& driver,
                                                      const protocol::DeviceDescription& device,
                                                      protocol::Link& link,
                                                      protocol::SessionId session, uint32_t index,
                                                      const Interrupted& interrupted) override;
  bool can_reconnect() const noexcept override { return true; }
  void release() override {}  // the memory is the daemon's
  std::string name(const std::string& arbiter_version) const override {
    return "rtswapd " + arbiter_version + " at " + socket_path_;
  }

 private:
  const std::string socket_path_;
  const rpc::ConnectFunction connect_function_;
};

// The simulated device that a description of one tells of: its bytes are shared through the bank,
// everything else is this process's own. Also used by tests.
Result<std::shared_ptr<driver::Driver>> open_simulated_device(
    const protocol::DeviceDescription& device);

}  // namespace rtswap::client
