// Host memory registered for copies with a simulated device. Nothing is pinned: the table exists so
// that a copy from memory which CUDA would not accept is refused here too.
//
// Thread-safe. Errors: `driver_failure` (message without the name of the call).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "csrc/base/result.h"

namespace rtswap::driver {

class HostRanges : public std::enable_shared_from_this<HostRanges> {
 public:
  Status add(const void* host, uint64_t bytes);
  // Refused while a copy uses the range.
  Status remove(const void* host);
  // Keeps the registered range around [host, +bytes) until the result is destroyed.
  Result<std::shared_ptr<void>> pin(const void* host, uint64_t bytes);

 private:
  struct Range {
    uint64_t bytes = 0;
    uint32_t pins = 0;
  };

  std::mutex mutex_;
  std::map<uintptr_t, Range> ranges_;
};

}  // namespace rtswap::driver
