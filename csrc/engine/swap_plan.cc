#include "csrc/engine/swap_plan.h"

#include <algorithm>

#include "csrc/base/check.h"

namespace rtswap::engine {

namespace {

// Of `most` positions from `first` on, how many are kept, or not kept, like the first one.
uint32_t count_alike(const std::vector<bool>& kept, uint32_t first, uint32_t most) {
  uint32_t count = 1;
  while (count < most && kept[first + count] == kept[first]) ++count;
  return count;
}

}  // namespace

std::vector<Run> split(std::span<const Segment> segments, const std::vector<bool>& kept,
                       uint64_t chunk_bytes, Range range, uint64_t largest_bytes) {
  const auto largest_chunks =
      static_cast<uint32_t>(std::clamp<uint64_t>(largest_bytes / chunk_bytes, 1, UINT32_MAX));
  std::vector<Run> runs;
  uint32_t next = range.first;
  for (const Segment& segment : segments) {
    const uint32_t segment_end = segment.first_position + segment.chunks;
    while (next < std::min(segment_end, range.end())) {
      const uint32_t most = std::min({segment_end - next, range.end() - next, largest_chunks});
      const uint32_t count = count_alike(kept, next, most);
      const uint64_t offset_bytes = (next - segment.first_position) * chunk_bytes;
      const bool copied = segment.kind != Kind::scratch || kept[next];
      runs.push_back({
          .positions = {next, count},
          .address = segment.address + offset_bytes,
          .host = copied ? segment.host + offset_bytes : nullptr,
          .copy_bytes = copied ? std::min(count * chunk_bytes, segment.bytes - offset_bytes) : 0,
          .kind = segment.kind,
      });
      next += count;
    }
  }
  RTSWAP_CHECK(next == range.end(), "positions beyond the last segment");
  return runs;
}

}  // namespace rtswap::engine
