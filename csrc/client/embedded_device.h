// The device of an embedded arbiter: driver, bank, and what the arbiter is told of them.
#pragma once

#include <memory>
#include <optional>

#include "csrc/arbiter/arbiter.h"
#include "csrc/bank/bank.h"
#include "csrc/bank/device_lock.h"
#include "csrc/client/session.h"
#include "csrc/driver/driver.h"

namespace rtswap::client {

struct EmbeddedDevice {
  std::optional<bank::DeviceLock> lock;  // none: simulated, which is this process's own
  std::shared_ptr<driver::Driver> driver;
  std::shared_ptr<const bank::Bank> bank;
  arbiter::DeviceConfig config;
};

// `invalid_argument` (no device named and several there, sizes that make no bank), `device_in_use`,
// `out_of_memory` with who holds the memory, and what the driver says. Blocks.
Result<EmbeddedDevice> make_embedded_device(const EmbeddedOptions& options,
                                            const bank::Bank::Progress& progress);

}  // namespace rtswap::client
