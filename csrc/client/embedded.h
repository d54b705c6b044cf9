// The arbiter inside this process: the same state machine as the daemon's, on a thread of its own,
// with a bank of its own and one session.
#pragma once

#include <memory>
#include <string>

#include "csrc/client/arbiter_source.h"
#include "csrc/client/embedded_device.h"

namespace rtswap::client {

class EmbeddedArbiter;

class EmbeddedSource final : public ArbiterSource {
 public:
  EmbeddedSource(EmbeddedDevice device, const std::string& version);
  ~EmbeddedSource() override;

  // Its messages are delivered on the arbiter's thread.
  Result<std::unique_ptr<protocol::Link>> connect(const Interrupted& interrupted) override;
  Result<std::shared_ptr<driver::Driver>> open_driver(
      const protocol::DeviceDescription& device) override;
  Result<std::shared_ptr<const bank::Bank>> open_bank(driver::Driver& driver,
                                                      const protocol::DeviceDescription& device,
                                                      protocol::Link& link,
                                                      protocol::SessionId session, uint32_t index,
                                                      const Interrupted& interrupted) override;
  bool can_reconnect() const noexcept override { return false; }
  // Ends the arbiter; frees its bank and the lock of the device.
  void release() override;
  std::string name(const std::string& arbiter_version) const override;

 private:
  EmbeddedDevice device_;
  std::shared_ptr<EmbeddedArbiter> arbiter_;
};

}  // namespace rtswap::client
