// Who owns each chunk of one device's bank: the table that makes over-commitment impossible.
//
// A chunk is free, or owned by exactly one holder (an arena). A holder's chunks lie under its
// positions 0, 1, ... without gaps. `detached` chunks are owned but under no position: a grant that
// came after a failed restore, until the client answered it too. Nothing becomes free except by a
// call here that the holder's word, or its death, justifies.
//
// Not thread-safe: one owner, the arbiter.
#pragma once

#include <cstdint>
#include <deque>
#include <unordered_map>
#include <vector>

#include "csrc/protocol/messages.h"

namespace rtswap::arbiter {

using protocol::ChunkId;

class Ledger {
 public:
  using Holder = uint64_t;  // > 0

  explicit Ledger(uint32_t chunk_count);

  uint32_t chunk_count() const { return static_cast<uint32_t>(owner_.size()); }
  uint32_t free_chunks() const { return static_cast<uint32_t>(free_.size()); }
  // Chunks under positions.
  uint32_t held(Holder holder) const;
  bool has_detached(Holder holder) const;
  // Positions and detached.
  uint32_t owned(Holder holder) const;
  const std::vector<ChunkId>& positions(Holder holder) const;

  // Gives `count` free chunks to the next positions. REQUIRES: count <= free_chunks().
  std::vector<ChunkId> grant(Holder holder, uint32_t count);
  // Frees positions `keep`.. . REQUIRES: keep <= held(holder).
  void truncate(Holder holder, uint32_t keep);
  // Takes positions out of the arena without freeing them: from each border to the next (the last:
  // to the end) is one group. REQUIRES: borders ascend, and each is a position that is held.
  void detach(Holder holder, const std::vector<uint32_t>& borders);
  // Frees the group detached first. REQUIRES: has_detached(holder).
  void free_detached(Holder holder);
  // Recovery: `chunks` become positions 0.. of a holder that owns nothing. False, and nothing
  // changed, when one of them is not free, not of this bank, or named twice.
  bool claim(Holder holder, const std::vector<ChunkId>& chunks);
  void release_all(Holder holder);

  // Compares the whole table with the holders' lists; throws InvariantViolation. O(chunks).
  void check() const;
  // The same by counters only. O(1).
  void check_counts() const;

 private:
  friend struct LedgerDamage;  // what a test does to see check() notice
  struct Holding {
    std::vector<ChunkId> positions;
    std::deque<std::vector<ChunkId>> detached;
  };

  void free_chunk(Holder holder, ChunkId chunk);

  std::vector<Holder> owner_;  // 0: free
  std::vector<ChunkId> free_;  // a stack: recently freed chunks are reused first
  std::unordered_map<Holder, Holding> holdings_;
  uint64_t owned_ = 0;
};

}  // namespace rtswap::arbiter
