// What lies under addresses whose memory is not on the device, where a program asked for it: one
// chunk full of 0xFF, mapped read-only under all of them. A kernel that strays there (the replay of
// a CUDA graph outside a job) reads NaN in every floating-point type instead of ending the CUDA
// context; a write still does that.
//
// Costs one chunk of device memory beside the bank, one mapping of each chunk after it was evicted,
// and one unmapping before it is restored.
#pragma once

#include <cstdint>
#include <memory>

#include "csrc/base/result.h"
#include "csrc/driver/driver.h"

namespace rtswap::engine {

// Threads: any; map() on one that is prepared for driver calls.
class Guard {
 public:
  // Makes the chunk and fills it. Blocks. A failure leaves nothing behind; `out_of_memory` when the
  // device has no room for a chunk. REQUIRES: a thread prepared for driver calls; `driver` outlives
  // the guard.
  static Result<std::unique_ptr<Guard>> make(driver::Driver& driver, uint64_t chunk_bytes);
  ~Guard();  // REQUIRES: no engine uses it any more
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

  // Puts the chunk under every chunk-sized part of the range, which driver.unmap() takes away
  // again. On failure under none. REQUIRES: as Driver::map().
  Status map(driver::Address address, uint64_t bytes) const;

 private:
  Guard(driver::Driver& driver, uint64_t chunk_bytes, driver::ChunkHandle chunk)
      : driver_(driver), chunk_bytes_(chunk_bytes), chunk_(chunk) {}
  Status fill() const;

  driver::Driver& driver_;
  const uint64_t chunk_bytes_;
  const driver::ChunkHandle chunk_;
};

}  // namespace rtswap::engine
