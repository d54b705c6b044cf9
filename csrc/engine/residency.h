// What both lanes and the closing of an arena do to its memory: taking positions off the device.
//
// Threads: any that is prepared for driver calls and has the arena to itself, as a running command
// has.
#pragma once

#include "csrc/base/result.h"
#include "csrc/driver/driver.h"
#include "csrc/engine/arena.h"
#include "csrc/engine/copy_stream.h"

namespace rtswap::engine {

// The two directions, each with its lane.
struct CopyStreams {
  explicit CopyStreams(driver::Driver& driver) : restore(driver), evict(driver) {}

  CopyStream restore;
  CopyStream evict;
};

// The memory of the arena may have copies in flight that nobody will wait for.
void doubt_copies(Arena& arena);

// Waits for those copies, if there may be any.
Status settle_copies(CopyStreams& streams, Arena& arena);

// Unmaps positions keep, keep + 1, ... that are resident, one call for each segment, from the tail.
// On failure what is still mapped is still resident. REQUIRES: no leftovers.
Status unmap_resident(driver::Driver& driver, Arena& arena, uint32_t keep);

// Unmaps what a failed restore left mapped beyond the resident positions.
Status unmap_leftovers(driver::Driver& driver, CopyStreams& streams, Arena& arena);

}  // namespace rtswap::engine
