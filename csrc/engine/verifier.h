// Finds writes to memory that should not have been written: compares read_only positions on the
// device with the host image before they are unmapped.
//
// Threads: one lane.
#pragma once

#include <memory>

#include "csrc/base/result.h"
#include "csrc/driver/driver.h"
#include "csrc/engine/copy_stream.h"
#include "csrc/engine/host_image.h"
#include "csrc/engine/swap_plan.h"

namespace rtswap::engine {

class Verifier {
 public:
  Verifier(driver::Driver& driver, HostImages& images, CopyStream& stream, uint64_t chunk_bytes)
      : driver_(driver), images_(images), stream_(stream), chunk_bytes_(chunk_bytes) {}

  // Takes over into the host image what the device has different; the number of bytes that were.
  // REQUIRES: the run maps one chunk, is resident, and has a host image.
  Result<uint64_t> repair(const Run& run);

 private:
  driver::Driver& driver_;
  HostImages& images_;
  CopyStream& stream_;
  const uint64_t chunk_bytes_;
  std::unique_ptr<HostImage> bounce_;  // one chunk, made when first needed
};

}  // namespace rtswap::engine
