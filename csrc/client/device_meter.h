// Measures a device beside whatever else runs on it: for profiles of models.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>

#include "csrc/base/result.h"
#include "csrc/client/copy_place.h"
#include "csrc/client/link_probe.h"
#include "csrc/driver/driver.h"

namespace rtswap::client {

struct DeviceFigures {
  LinkSpeed alone;
  LinkSpeed both_ways;  // while copies run the other way
  ChunkCost chunk;
};

// Threads: one at a time. Throws std::system_error when the system has no more threads.
class DeviceMeter {
 public:
  explicit DeviceMeter(std::unique_ptr<driver::Driver> driver) : driver_(std::move(driver)) {}
  ~DeviceMeter();
  DeviceMeter(const DeviceMeter&) = delete;
  DeviceMeter& operator=(const DeviceMeter&) = delete;

  const driver::DeviceInfo& info() const { return driver_->info(); }

  // The worst of some repeats each, of chunks of `chunk_bytes`. Errors as those of probe_link.
  // Blocks. REQUIRES: no copies (below); chunk_bytes > 0.
  Result<DeviceFigures> measure(uint64_t chunk_bytes);

  // From now on copies to the device run one after the other, until stop_copies(). The first has
  // begun. Idempotent.
  Status start_copies();
  // Returns the error of the first copy that failed: none ran after it.
  Status stop_copies();

 private:
  Status copy_until_stopped();

  const std::unique_ptr<driver::Driver> driver_;
  std::unique_ptr<CopyPlace> place_;
  std::atomic<bool> stopping_ = false;
  std::thread copies_;
  Status outcome_;  // of the thread `copies_`, once it has ended
};

}  // namespace rtswap::client
