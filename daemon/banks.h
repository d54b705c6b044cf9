// The devices that this daemon manages, and the bank on each.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "csrc/arbiter/arbiter.h"
#include "csrc/bank/bank.h"
#include "csrc/bank/device_lock.h"
#include "csrc/base/result.h"
#include "csrc/driver/driver.h"
#include "daemon/config.h"

namespace rtswap::daemon {

// One device and the bank that is to be on it.
struct PlannedDevice {
  std::optional<bank::DeviceLock> lock;  // of a GPU, once lock_device() has it
  std::unique_ptr<driver::Driver> driver;
  driver::MemoryInfo memory;  // when it was planned
  uint64_t budget_bytes = 0;  // chunk_bytes * chunk_count
  uint64_t chunk_bytes = 0;
  uint32_t chunk_count = 0;
  uint64_t link_bytes_per_s = 0;    // simulated devices
  uint64_t static_limit_bytes = 0;  // memory beside the bank
};

// Opens the devices without a context. `unsupported`, `unknown_device`.
Result<std::vector<PlannedDevice>> open_devices(const Config& config);
// Makes this process the arbiter of the device, unless it is simulated. `device_in_use` names the
// process that is it already.
Status lock_device(PlannedDevice& device);
// Sizes the bank of an open device. More than is free is `out_of_memory`, with the processes that
// hold the device's memory.
Status size_bank(const Config& config, PlannedDevice& device);

// Thread-safe.
class Banks {
 public:
  explicit Banks(std::vector<PlannedDevice> devices);

  size_t device_count() const noexcept { return devices_.size(); }
  const PlannedDevice& device(size_t index) const { return devices_[index]; }
  // Index of a device by UUID; device_count() when there is none.
  size_t find(const std::string& uuid) const;

  // Makes a new bank, with lines of progress in the log. Slow.
  Status create(size_t index);
  // Takes the bank of an earlier life over.
  Status adopt(size_t index, const std::string& bank_id, std::vector<UniqueFd> descriptors);
  bool has_bank(size_t index) const;
  std::string bank_id(size_t index) const;

  // Valid while this lives; `daemon_unavailable` when the device has no bank yet.
  Result<std::vector<int>> descriptors(size_t index) const;

  // REQUIRES: every device has its bank.
  std::vector<arbiter::DeviceConfig> describe() const;

 private:
  void put(size_t index, std::unique_ptr<bank::Bank> bank);

  const std::vector<PlannedDevice> devices_;  // before the banks: these use the drivers
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<bank::Bank>> banks_;
};

}  // namespace rtswap::daemon
