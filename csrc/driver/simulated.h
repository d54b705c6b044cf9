// The simulated device: the device contract on a machine without a GPU, with real bytes, a real
// limit and real sharing between processes. A chunk is a memfd; its bytes live in host memory, and
// CPU code (torch on CPU, a memcpy of a test) reads and writes them at the device addresses.
//
// Stricter than a GPU on purpose, so that mistakes of the engine are loud: a request that CUDA
// would leave undefined (mapping over a mapping, unmapping under a copy in flight, copying to
// memory that is not mapped, mapping a chunk that another process has mapped) is refused as
// `driver_failure`.
//
// Simpler than a GPU: the default stream is the calling thread, so work on it is complete when the
// call returns and a wait on it is a host wait. Chunks are zero cost to release, but unmapping
// costs about 50 ms per GiB: eviction figures of this device say nothing about a GPU's.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "csrc/base/result.h"
#include "csrc/driver/driver.h"
#include "csrc/driver/simulated_link.h"

namespace rtswap::driver {

struct SimulatedOptions {
  std::string name;          // the device is "SIM-<name>"
  uint64_t total_bytes = 0;  // all chunks together; rounded down to the granularity
  // Fill a chunk with 0xFF (a NaN in every floating point type) whenever it is mapped for writing,
  // so that bytes left by an earlier owner never look right by accident. For tests: chunks then
  // forget their contents, which memory of a device does not.
  bool poison_on_map = false;
};

// What mapping and unmapping one chunk costs on such a device, at most: charged to every chunk that
// is restored by the schedulability test.
int64_t simulated_chunk_cost_ns(uint64_t chunk_bytes);

// A device whose copies run over `link`; drivers that share a link share its bandwidth (and, if it
// is a VirtualLink, its clock). `invalid_argument` when the name is empty or the memory is smaller
// than one granule.
Result<std::unique_ptr<Driver>> make_simulated_driver(SimulatedOptions options,
                                                      std::shared_ptr<SimulatedLink> link);

}  // namespace rtswap::driver
