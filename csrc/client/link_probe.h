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

// The worst of five copies of `bytes` in each direction, in the quietest of three rounds: a thread
// woken late is no property of the link. Between pinned memory and a chunk of its own, which is
// outside the bank; with less than that free, smaller ones are measured, down to the granularity.
// `out_of_memory` when there is no room at all. REQUIRES: a thread that is attached to the driver;
// bytes > 0. Blocks for some tens of ms.
Result<LinkSpeed> probe_link(driver::Driver& driver, uint64_t bytes);

// The same while copies run the other way.
Result<LinkSpeed> probe_link_both_ways(driver::Driver& driver, uint64_t bytes);

struct ChunkCost {
  int64_t map_ns = 0;  // access included
  int64_t unmap_ns = 0;
};

// The worst of some in the quietest of three rounds, each for one chunk of `chunk_bytes`. Errors
// and requirements as above.
Result<ChunkCost> probe_chunk_cost(driver::Driver& driver, uint64_t chunk_bytes);

}  // namespace rtswap::client
