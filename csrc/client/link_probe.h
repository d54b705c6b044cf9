// How fast a device's link is: what the arbiter's promises are made from.
#pragma once

#include <cstdint>

#include "csrc/base/result.h"
#include "csrc/base/units.h"
#include "csrc/driver/driver.h"

namespace rtswap::client {

struct LinkSpeed {
  uint64_t restore_bytes_per_s = 0;  // host to device
  uint64_t evict_bytes_per_s = 0;    // device to host
};

inline constexpr uint64_t kProbe_bytes = uint64_t{64} << 20;

// The worst of five copies of `bytes` in each direction between pinned memory and a chunk of its
// own, which is outside the bank; with less than that free, smaller ones are measured, down to the
// granularity. `out_of_memory` when there is no room at all.
// REQUIRES: a thread that is attached to the driver; bytes > 0. Blocks for some tens of ms.
Result<LinkSpeed> probe_link(driver::Driver& driver, uint64_t bytes);

}  // namespace rtswap::client
