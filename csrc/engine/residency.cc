#include "csrc/engine/residency.h"

#include <iterator>
#include <vector>

namespace rtswap::engine {
namespace {

// The runs of these ranges, as large as they can be. REQUIRES the arena's mutex.
std::vector<Run> runs_of(const Arena& arena, const std::vector<Range>& ranges) {
  std::vector<Run> runs;
  for (const Range& range : ranges) {
    std::vector<Run> more = arena.state.split(range, UINT64_MAX);
    runs.insert(runs.end(), std::make_move_iterator(more.begin()),
                std::make_move_iterator(more.end()));
  }
  return runs;
}

}  // namespace

void doubt_copies(Arena& arena) {
  const std::lock_guard lock(arena.mutex);
  arena.copies_in_doubt = true;
}

Status Residency::settle_copies(Arena& arena) const {
  {
    const std::lock_guard lock(arena.mutex);
    if (!arena.copies_in_doubt) return {};
  }
  RTSWAP_TRY(streams_.restore.settle());
  RTSWAP_TRY(streams_.evict.settle());
  const std::lock_guard lock(arena.mutex);
  arena.copies_in_doubt = false;
  return {};
}

Status Residency::map(Arena& arena, const Run& run, std::span<const uint32_t> chunks) const {
  std::vector<driver::ChunkHandle> handles;
  handles.reserve(chunks.size());
  for (const uint32_t chunk : chunks) handles.push_back(bank_.handle(chunk));
  Status mapped = uncover(arena, run.positions);
  // Writable whatever the kind: the copy writes, and a program that changes a read_only tensor is
  // found by its tripwires, not by a lost context.
  if (mapped) {
    mapped = driver_.map(run.address, handles, bank_.chunk_bytes(), driver::Access::read_write);
  }
  if (!mapped) {
    cover(arena);
    return mapped;
  }
  const std::lock_guard lock(arena.mutex);
  arena.state.mapped_more(chunks);
  return {};
}

Status Residency::unmap_resident(Arena& arena, uint32_t keep) const {
  Range range;
  {
    const std::lock_guard lock(arena.mutex);
    if (keep >= arena.state.landed()) return {};
    range = {keep, arena.state.landed() - keep};
  }
  return unmap(arena, range);
}

Status Residency::unmap_leftovers(Arena& arena) const {
  RTSWAP_TRY(settle_copies(arena));
  Range range;
  {
    const std::lock_guard lock(arena.mutex);
    range = {arena.state.landed(), arena.state.mapped() - arena.state.landed()};
  }
  return unmap(arena, range);
}

Status Residency::clear(Arena& arena) const {
  RTSWAP_TRY(unmap_leftovers(arena));
  RTSWAP_TRY(unmap_resident(arena, 0));
  Range all;
  {
    const std::lock_guard lock(arena.mutex);
    all.count = arena.state.total();
  }
  return uncover(arena, all);
}

Status Residency::unmap(Arena& arena, Range range) const {
  std::vector<Run> runs;
  {
    const std::lock_guard lock(arena.mutex);
    runs = runs_of(arena, {range});
  }
  for (auto run = runs.rbegin(); run != runs.rend(); ++run) {
    RTSWAP_TRY(driver_.unmap(run->address, run->mapped_bytes(bank_.chunk_bytes())));
    {
      const std::lock_guard lock(arena.mutex);
      arena.state.unmapped(*run);
    }
    cover(arena);
  }
  return {};
}

void Residency::cover(Arena& arena) const {
  if (guard_ == nullptr) return;
  std::vector<Run> runs;
  {
    const std::lock_guard lock(arena.mutex);
    if (arena.closing) return;
    runs = runs_of(arena, arena.state.exposed());
  }
  for (const Run& run : runs) {
    const Status covered = guard_->map(run.address, run.mapped_bytes(bank_.chunk_bytes()));
    const std::lock_guard lock(arena.mutex);
    if (covered) {
      arena.state.set_guarded(run.positions, true);
    } else {
      arena.state.count_guard_failure();
    }
  }
}

Status Residency::uncover(Arena& arena, Range range) const {
  if (guard_ == nullptr) return {};
  std::vector<Run> runs;
  {
    const std::lock_guard lock(arena.mutex);
    runs = runs_of(arena, arena.state.guarded(range));
  }
  for (const Run& run : runs) {
    RTSWAP_TRY(driver_.unmap(run.address, run.mapped_bytes(bank_.chunk_bytes())));
    const std::lock_guard lock(arena.mutex);
    arena.state.set_guarded(run.positions, false);
  }
  return {};
}

}  // namespace rtswap::engine
