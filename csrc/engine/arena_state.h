// Pure bookkeeping of one arena: its segments, the chunk under each position, what has landed, what
// was used since it was last written back, what of scratch is kept, and where a guard lies. No
// driver calls, no threads.
//
//   0          landed          mapped          total
//   |  resident  |  restoring     |  not here    |
//
// Mapped positions beyond the landed ones belong to restores in progress; when none is in progress
// they are *leftovers* of a failed one that could not be unmapped yet, and are never resident.
// Positions that are not mapped may be *guarded*; those that never were mapped need no guard, as
// nobody has seen their addresses with memory under them.
//
// Threads: guarded by its owner. Errors: preconditions are checked (InvariantViolation).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "csrc/engine/engine.h"
#include "csrc/engine/swap_plan.h"

namespace rtswap::engine {

class ArenaState {
 public:
  explicit ArenaState(uint64_t chunk_bytes) : chunk_bytes_(chunk_bytes) {}

  // Appends positions for a segment with these properties; returns it with its place.
  // REQUIRES: bytes > 0, can_hold(bytes).
  Segment append(Kind kind, uint64_t bytes, driver::Address address, std::byte* host);
  // Takes the segments from position `first` on out again. REQUIRES: one begins there, or the arena
  // ends there; nothing is mapped under them, nor a guard.
  void truncate(uint32_t first);
  // False when the positions would no longer be numbered by 32 bits.
  bool can_hold(uint64_t more_bytes) const noexcept;

  uint64_t chunk_bytes() const noexcept { return chunk_bytes_; }
  std::span<const Segment> segments() const noexcept { return segments_; }
  uint32_t total() const noexcept { return static_cast<uint32_t>(used_.size()); }
  uint32_t mapped() const noexcept { return static_cast<uint32_t>(chunks_.size()); }
  uint32_t landed() const noexcept { return landed_; }
  std::vector<uint32_t> resident_chunks() const;

  // Chunks were mapped at positions mapped(), mapped() + 1, ... REQUIRES: no guard is there.
  void mapped_more(std::span<const uint32_t> chunks);
  // The positions of `run` hold their bytes. REQUIRES: they follow the landed ones and are mapped.
  void landed_more(const Run& run);
  // The positions of `run` were unmapped. REQUIRES: it is the end of the mapped ones.
  void unmapped(const Run& run);

  // Positions that had memory once, and have neither memory nor a guard now.
  std::vector<Range> exposed() const;
  // Positions of `range` that have a guard.
  std::vector<Range> guarded(Range range) const;
  // A guard was put under these positions, or taken away. REQUIRES: they are not mapped.
  void set_guarded(Range range, bool guarded);
  void count_guard_failure() noexcept { ++stats_.guard_failures; }

  // What is under these bytes of a scratch segment can be kept: it is resident, or kept already.
  // REQUIRES here and below: `segment` is the index of a scratch segment, the bytes lie in it.
  bool can_keep(size_t segment, std::span<const ByteRange> bytes) const;
  // The positions under these bytes are kept from now on, as mutable ones are, and the others of
  // the segment are not. REQUIRES: can_keep(); an image, unless there are no bytes.
  void keep(size_t segment, std::span<const ByteRange> bytes);
  // A scratch segment has this host image from now on.
  void set_image(size_t segment, std::byte* host);

  // Every mutable or kept position may differ from the host image from now on.
  void mark_used();
  // Positions from `first` on that are resident and used since they were written back.
  std::vector<Range> unsaved(uint32_t first) const;
  void count_written_back(uint64_t bytes) noexcept { stats_.written_back_bytes += bytes; }
  void count_repaired(uint64_t bytes) noexcept { stats_.repaired_bytes += bytes; }

  std::vector<Run> split(Range range, uint64_t largest_bytes) const {
    return engine::split(segments_, kept_, chunk_bytes_, range, largest_bytes);
  }
  ArenaStats stats() const;

 private:
  // The positions of the segment under these bytes.
  std::vector<Range> positions_of(size_t segment, std::span<const ByteRange> bytes) const;

  uint64_t chunk_bytes_;
  std::vector<Segment> segments_;
  std::vector<uint32_t> chunks_;  // by position
  uint32_t landed_ = 0;
  uint32_t once_mapped_ = 0;   // as far as memory ever was
  std::vector<bool> used_;     // by position; always false but for mutable and kept ones
  std::vector<bool> kept_;     // by position; always false but for those of scratch segments
  std::vector<bool> guarded_;  // by position; always false where a chunk is mapped
  ArenaStats stats_;           // its counters; the rest is filled in by stats()
};

}  // namespace rtswap::engine
