// Pinned host memory that holds what is not on the device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "csrc/base/result.h"
#include "csrc/driver/driver.h"

namespace rtswap::engine {

// Exactly `bytes` bytes, zero-filled, in huge pages where the system has them, pinned for the
// driver. Not in core dumps, and not in forked children: a copy-on-write fork would part the
// process from the pages that the device copies to.
class HostImage {
 public:
  // Gives the memory back; what the driver does not release is abandoned.
  ~HostImage();
  HostImage(const HostImage&) = delete;
  HostImage& operator=(const HostImage&) = delete;

  std::byte* data() const noexcept { return data_; }
  uint64_t bytes() const noexcept { return bytes_; }

  // Gives the memory back now; after an error it may be tried again. REQUIRES: no copy uses it.
  Status release();
  // Leaves the memory mapped until the process ends: a copy of a device in trouble may still use
  // it.
  void abandon() noexcept { data_ = nullptr; }

 private:
  friend class HostImages;
  HostImage(driver::Driver& driver, std::byte* data, uint64_t bytes)
      : driver_(driver), data_(data), bytes_(bytes) {}

  driver::Driver& driver_;
  std::byte* data_;  // nullptr: released
  uint64_t bytes_;
};

// Makes host images, one at a time: how much memory is left is known only when the image before is
// wholly there. Threads: any.
class HostImages {
 public:
  explicit HostImages(driver::Driver& driver) : driver_(driver) {}

  // Blocks while the pages are made. `host_memory` when the machine or a memory cgroup cannot hold
  // it (nothing was allocated) or the system refuses to pin it. REQUIRES: bytes > 0.
  Result<std::unique_ptr<HostImage>> make(uint64_t bytes);

 private:
  driver::Driver& driver_;
  std::mutex making_;
};

}  // namespace rtswap::engine
