// Pure: which bytes move when a range of positions is restored or evicted.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "csrc/engine/engine.h"

namespace rtswap::engine {

// Positions [first, first + count).
struct Range {
  uint32_t first = 0;
  uint32_t count = 0;

  uint32_t end() const noexcept { return first + count; }
  bool operator==(const Range&) const = default;
};

// Positions that lie beside each other in device addresses and in the host image, so that one call
// maps, copies or unmaps all of them.
struct Run {
  Range positions;
  driver::Address address = 0;
  std::byte* host = nullptr;  // nullptr: scratch that is not kept
  // What a copy moves: chunks of the run, less what the last chunk of its segment leaves unused.
  uint64_t copy_bytes = 0;
  Kind kind = Kind::read_only;

  uint64_t mapped_bytes(uint64_t chunk_bytes) const noexcept {
    return positions.count * chunk_bytes;
  }
};

// A copy to the host of this size costs the link of a GPU half a millisecond and the driver
// microseconds.
inline constexpr uint64_t kBatch_bytes = uint64_t{32} << 20;

// Splits `range` at the borders of segments and of what is kept in scratch ones (`kept`, by
// position), and into runs that map at most `largest_bytes` (but at least one chunk). Runs are in
// order of position and cover the range exactly.
// REQUIRES: the range lies within the segments, which are in order of position without gaps; those
// in which something is kept have a host image.
std::vector<Run> split(std::span<const Segment> segments, const std::vector<bool>& kept,
                       uint64_t chunk_bytes, Range range, uint64_t largest_bytes);

}  // namespace rtswap::engine
