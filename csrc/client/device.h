// One device of the session in use: driver, bank, engine, and how jobs wait for their work on it.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "csrc/bank/bank.h"
#include "csrc/base/result.h"
#include "csrc/client/link_probe.h"
#include "csrc/driver/driver.h"
#include "csrc/engine/engine.h"
#include "csrc/engine/guard.h"
#include "csrc/protocol/messages.h"

namespace rtswap::client {

// Threads: every method from any thread.
class Device {
 public:
  // `listener` outlives it. `guard`, if there is one, goes into the engine's options. Throws
  // std::system_error when the system has no more threads.
  Device(std::shared_ptr<driver::Driver> driver, std::shared_ptr<const bank::Bank> bank,
         engine::EngineListener& listener, engine::EngineOptions options,
         std::unique_ptr<const engine::Guard> guard = nullptr);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  engine::Engine& engine() { return engine_; }
  const bank::Bank& bank() const { return *bank_; }
  driver::Driver& driver() { return *driver_; }

  // Measures the link; of a simulated device what its description says. Blocks.
  Result<LinkSpeed> link_speed(const protocol::DeviceDescription& description);

  // Waits until the work queued so far on `streams` (none: the default stream) has completed, or
  // cannot complete any more. Blocks. Errors are explained.
  Status complete(std::span<const driver::StreamHandle> streams);

  // The end of what is queued on some streams, one for each.
  using Marks = std::vector<driver::EventHandle>;
  // Adds marks behind what is queued so far on `streams` (none: the default stream), also when it
  // fails for some. They go back by take_back(). Does not block; errors are explained.
  Status mark(std::span<const driver::StreamHandle> streams, Marks& marks);
  // Whether the work before all of them has completed. Does not block; errors are explained.
  Result<bool> passed(const Marks& marks);
  void take_back(const Marks& marks);

  // To a lost context it adds whose memory was not on the device: some program of this process may
  // have reached for it; and how to find out. That is remembered and told again, as nothing comes
  // or leaves from then on. Other errors stay as they are.
  Error explain(Error error);
  // The explained error, once the context is known to be lost.
  std::optional<Error> loss() const;

 private:
  // Adds an event behind what is queued on `stream`.
  Status record(driver::StreamHandle stream, Marks& events);
  // What may have been reached for, to be added to the message of a lost context.
  std::string suspects() const;

  const std::shared_ptr<driver::Driver> driver_;
  const std::shared_ptr<const bank::Bank> bank_;
  const std::unique_ptr<const engine::Guard> guard_;
  engine::Engine engine_;
  mutable std::mutex mutex_;  // guards what follows
  Marks spare_events_;
  std::optional<Error> loss_;
};

}  // namespace rtswap::client
