// How far prefixes may grow under the memory condition (memory.h). Pure; one thread.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "csrc/policy/memory.h"

namespace rtswap::policy {

// Arenas are named by their index in `arenas`, which must outlive this.
class Room {
 public:
  // `lead_ends`: by arena, 0 for those that are direct (task_set.h, Staged).
  Room(const std::vector<ArenaUse>& arenas, std::vector<uint32_t> lead_ends, uint32_t bank_chunks);

  void restart(const std::vector<uint32_t>& prefixes);
  bool fits() const { return need_ <= bank_chunks_; }
  bool staged(size_t arena) const { return lead_ends_[arena] > 0; }
  uint32_t lead_end(size_t arena) const { return lead_ends_[arena]; }
  uint32_t prefix(size_t arena) const { return prefixes_[arena]; }
  uint32_t missing(size_t arena) const { return arenas_[arena].chunks - prefixes_[arena]; }

  // By how much the prefix may grow.
  uint32_t growth(size_t arena) const { return growth_within(arena, bank_chunks_); }
  // REQUIRES: chunks <= growth(arena), or the condition is broken.
  void raise(size_t arena, uint32_t chunks);
  // Prefixes of promised arenas that only take what their own jobs would need anyway: as far as one
  // is alone the largest to swap in, it costs the others nothing.
  void raise_free();

 private:
  // The most over all arenas, and the most without that one.
  struct Most {
    size_t arena = 0;
    uint32_t chunks = 0;
    uint32_t next_chunks = 0;
    void include(size_t other, uint32_t other_chunks);
    uint32_t with(size_t changed, uint32_t changed_chunks) const;
  };
  enum Kind : uint8_t { direct, lead, run, kinds };

  uint32_t size(Kind kind, size_t arena, uint32_t prefix) const;
  uint64_t need_with(size_t arena, uint32_t prefix) const;
  uint32_t growth_within(size_t arena, uint64_t need) const;
  void add_up();

  const std::vector<ArenaUse>& arenas_;
  const std::vector<uint32_t> lead_ends_;
  const uint32_t bank_chunks_;
  std::vector<uint32_t> prefixes_;
  uint64_t kept_ = 0;
  uint64_t need_ = 0;
  std::array<Most, kinds> most_;
};

}  // namespace rtswap::policy
