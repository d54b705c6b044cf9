#include "csrc/engine/evict_lane.h"

#include <iterator>
#include <utility>
#include <vector>

#include "csrc/driver/await_event.h"

namespace rtswap::engine {

void EvictLane::run() {
  while (const auto work = dispatcher_.evictions().pop()) execute(*work);
  streams_.evict.close();
}

void EvictLane::execute(const EvictWork& work) {
  Arena& arena = *work.arena;
  const Result<uint64_t> written_back_bytes = evict(arena, work.command.keep_chunks);
  uint32_t resident = 0;
  {
    const std::lock_guard lock(arena.mutex);
    resident = arena.state.landed();
  }
  if (written_back_bytes) {
    listener_.on_evicted(arena.id, resident, *written_back_bytes);
  } else {
    listener_.on_evict_failed(arena.id, resident, written_back_bytes.error());
  }
  dispatcher_.finished(work.arena);
}

Result<uint64_t> EvictLane::evict(Arena& arena, uint32_t keep) {
  RTSWAP_TRY(streams_.evict.open());
  RTSWAP_TRY(residency_.unmap_leftovers(arena));
  if (options_.verify) RTSWAP_TRY(repair(arena, keep));
  RTSWAP_ASSIGN(const uint64_t written_back_bytes, write_back(arena, keep));
  RTSWAP_TRY(residency_.unmap_resident(arena, keep));
  return written_back_bytes;
}

Status EvictLane::repair(Arena& arena, uint32_t keep) {
  std::vector<Run> runs;
  {
    const std::lock_guard lock(arena.mutex);
    const ArenaState& state = arena.state;
    if (keep >= state.landed()) return {};
    runs = state.split({keep, state.landed() - keep}, state.chunk_bytes());
  }
  for (const Run& run : runs) {
    if (run.kind != Kind::read_only) continue;
    const Result<uint64_t> changed_bytes = verifier_.repair(run);
    if (!changed_bytes) {
      doubt_copies(arena);
      return fail(changed_bytes.error());
    }
    const std::lock_guard lock(arena.mutex);
    arena.state.count_repaired(*changed_bytes);
  }
  return {};
}

Result<uint64_t> EvictLane::write_back(Arena& arena, uint32_t keep) {
  std::deque<Copy> copies;
  uint64_t saved_bytes = 0;
  Status status = copy_out(arena, keep, copies);
  while (status && !copies.empty()) {
    const Copy copy = copies.front();
    status = copies.size() == 1 ? driver::await_event(driver_, copy.event)
                                : driver_.synchronize_event(copy.event);
    if (!status) break;
    copies.pop_front();
    streams_.evict.give_back(copy.event);
    saved_bytes += copy.run.copy_bytes;
    {
      const std::lock_guard lock(arena.mutex);
      arena.state.count_written_back(copy.run.copy_bytes);
    }
    status = residency_.unmap_resident(arena, copy.run.positions.first);
  }
  if (status) return saved_bytes;
  for (const Copy& copy : copies) streams_.evict.give_back(copy.event);
  doubt_copies(arena);
  return fail(std::move(status).error());
}

Status EvictLane::copy_out(Arena& arena, uint32_t keep, std::deque<Copy>& copies) {
  std::vector<Run> runs;
  {
    const std::lock_guard lock(arena.mutex);
    for (const Range& range : arena.state.unsaved(keep)) {
      std::vector<Run> more = arena.state.split(range, kBatch_bytes);
      runs.insert(runs.end(), std::make_move_iterator(more.begin()),
                  std::make_move_iterator(more.end()));
    }
  }
  RTSWAP_ASSIGN(const driver::StreamHandle stream, streams_.evict.open());
  for (auto run = runs.rbegin(); run != runs.rend(); ++run) {
    RTSWAP_TRY(driver_.copy_to_host(run->host, run->address, run->copy_bytes, stream));
    RTSWAP_ASSIGN(const driver::EventHandle event, streams_.evict.record());
    copies.push_back({std::move(*run), event});
  }
  return {};
}

}  // namespace rtswap::engine
