// One device of the session in use: driver, bank, engine, and the thread that waits for its work.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "csrc/bank/bank.h"
#include "csrc/base/result.h"
#include "csrc/client/attached_thread.h"
#include "csrc/client/link_probe.h"
#include "csrc/driver/driver.h"
#include "csrc/engine/engine.h"
#include "csrc/protocol/messages.h"

namespace rtswap::client {

// Threads: every method from any thread.
class Device {
 public:
  // `listener` outlives it. Throws std::system_error when the system has no more threads.
  Device(std::shared_ptr<driver::Driver> driver, std::shared_ptr<const bank::Bank> bank,
         engine::EngineListener& listener, engine::EngineOptions options);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  engine::Engine& engine() { return engine_; }
  const bank::Bank& bank() const { return *bank_; }
  driver::Driver& driver() { return *driver_; }

  // Measures the link; of a simulated device what its description says. Blocks.
  Result<LinkSpeed> link_speed(const protocol::DeviceDescription& description);

  // Waits until the work queued so far on `streams` (none: the default stream) has completed, then
  // calls `completed` (also when waiting fails) on the thread of the device. Blocks. Errors are
  // explained.
  Status complete(std::span<const driver::StreamHandle> streams,
                  const std::function<void(int64_t completed_ns)>& completed);

  // To a lost context it adds whose memory was not on the device: some program of this process may
  // have reached for it. Other errors stay as they are.
  Error explain(Error error) const;

 private:
  // On the thread of the device.
  Status wait_for(std::span<const driver::StreamHandle> streams);

  const std::shared_ptr<driver::Driver> driver_;
  const std::shared_ptr<const bank::Bank> bank_;
  std::vector<driver::EventHandle> events_;  // of the thread
  engine::Engine engine_;
  AttachedThread thread_;
};

}  // namespace rtswap::client
