// What both lanes and the closing of an arena do to its memory: putting chunks under positions,
// taking them away again, and keeping a guard, if there is one, under what was evicted.
//
// Threads: any that is prepared for driver calls and has the arena to itself, as a running command
// has.
#pragma once

#include <span>

#include "csrc/bank/bank.h"
#include "csrc/base/result.h"
#include "csrc/driver/driver.h"
#include "csrc/engine/arena.h"
#include "csrc/engine/copy_stream.h"
#include "csrc/engine/guard.h"

namespace rtswap::engine {

// The two directions, each with its lane.
struct CopyStreams {
  explicit CopyStreams(driver::Driver& driver) : restore(driver), evict(driver) {}

  CopyStream restore;
  CopyStream evict;
};

// The memory of the arena may have copies in flight that nobody will wait for.
void doubt_copies(Arena& arena);

class Residency {
 public:
  // `guard` may be nullptr. All references outlive it.
  Residency(driver::Driver& driver, const bank::Bank& bank, CopyStreams& streams,
            const Guard* guard)
      : driver_(driver), bank_(bank), streams_(streams), guard_(guard) {}

  // Maps these chunks of the bank at the positions of `run`, which follow the mapped ones. On
  // failure none.
  Status map(Arena& arena, const Run& run, std::span<const uint32_t> chunks) const;

  // Unmaps positions keep, keep + 1, ... that are resident, one call for each run of a kind, from
  // the tail. On failure what is still mapped is still resident. REQUIRES: no leftovers.
  Status unmap_resident(Arena& arena, uint32_t keep) const;

  // Unmaps what a failed restore left mapped beyond the resident positions.
  Status unmap_leftovers(Arena& arena) const;

  // Everything is unmapped, the guard too. REQUIRES: the arena is closing; copies have ended or are
  // in doubt.
  Status clear(Arena& arena) const;

 private:
  // Waits for copies in doubt, if there may be any.
  Status settle_copies(Arena& arena) const;
  Status unmap(Arena& arena, Range range) const;
  // Puts the guard under what is exposed, unless the arena is closing. A failure is counted and
  // leaves it exposed, until something of the arena is unmapped again.
  void cover(Arena& arena) const;
  Status uncover(Arena& arena, Range range) const;

  driver::Driver& driver_;
  const bank::Bank& bank_;
  CopyStreams& streams_;
  const Guard* const guard_;
};

}  // namespace rtswap::engine
