// Where the arbiter is, and how this process comes to the memory of its devices: a daemon
// (daemon_source.h), the arbiter in this process (embedded.h), or a script of a test.
#pragma once

#include <memory>
#include <string>

#include "csrc/bank/bank.h"
#include "csrc/base/result.h"
#include "csrc/driver/driver.h"
#include "csrc/protocol/link.h"

namespace rtswap::client {

// Threads: one call at a time, except for the getters.
class ArbiterSource {
 public:
  // Links, drivers and banks that came from it are gone by then.
  virtual ~ArbiterSource() = default;
  ArbiterSource(const ArbiterSource&) = delete;
  ArbiterSource& operator=(const ArbiterSource&) = delete;

  // A new link, not started. Blocks.
  virtual Result<std::unique_ptr<protocol::Link>> connect(const Interrupted& interrupted) = 0;

  // The device with a context, for this process. Blocks.
  virtual Result<std::shared_ptr<driver::Driver>> open_driver(
      const protocol::DeviceDescription& device) = 0;

  // Its chunks. `index`: of the device in the Welcome of `session`. Blocks.
  virtual Result<std::shared_ptr<const bank::Bank>> open_bank(
      driver::Driver& driver, const protocol::DeviceDescription& device, protocol::Link& link,
      protocol::SessionId session, uint32_t index, const Interrupted& interrupted) = 0;

  // False: a lost link is the end, and connect() works once.
  virtual bool can_reconnect() const noexcept = 0;
  // Gives back what the source itself holds: a handle that outlives its closed session must not
  // keep a device from others. After it only the getters may be called.
  virtual void release() = 0;
  // For people: who arbitrates, given the version that Welcome told.
  virtual std::string name(const std::string& arbiter_version) const = 0;

 protected:
  ArbiterSource() = default;
};

}  // namespace rtswap::client
