#include "csrc/engine/residency.h"

#include <algorithm>

namespace rtswap::engine {
namespace {

Status unmap_range(driver::Driver& driver, Arena& arena, Range range) {
  std::vector<Run> runs;
  uint64_t chunk_bytes = 0;
  {
    const std::lock_guard lock(arena.mutex);
    chunk_bytes = arena.state.chunk_bytes();
    runs = arena.state.split(range, UINT64_MAX);
  }
  std::reverse(runs.begin(), runs.end());
  for (const Run& run : runs) {
    RTSWAP_TRY(driver.unmap(run.address, run.mapped_bytes(chunk_bytes)));
    const std::lock_guard lock(arena.mutex);
    arena.state.unmapped(run);
  }
  return {};
}

}  // namespace

void doubt_copies(Arena& arena) {
  const std::lock_guard lock(arena.mutex);
  arena.copies_in_doubt = true;
}

Status settle_copies(CopyStreams& streams, Arena& arena) {
  {
    const std::lock_guard lock(arena.mutex);
    if (!arena.copies_in_doubt) return {};
  }
  RTSWAP_TRY(streams.restore.settle());
  RTSWAP_TRY(streams.evict.settle());
  const std::lock_guard lock(arena.mutex);
  arena.copies_in_doubt = false;
  return {};
}

Status unmap_resident(driver::Driver& driver, Arena& arena, uint32_t keep) {
  Range range;
  {
    const std::lock_guard lock(arena.mutex);
    if (keep >= arena.state.landed()) return {};
    range = {keep, arena.state.landed() - keep};
  }
  return unmap_range(driver, arena, range);
}

Status unmap_leftovers(driver::Driver& driver, CopyStreams& streams, Arena& arena) {
  RTSWAP_TRY(settle_copies(streams, arena));
  Range range;
  {
    const std::lock_guard lock(arena.mutex);
    range = {arena.state.landed(), arena.state.mapped() - arena.state.landed()};
  }
  return range.count == 0 ? Status() : unmap_range(driver, arena, range);
}

}  // namespace rtswap::engine
