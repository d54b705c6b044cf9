#include "csrc/engine/swap_plan.h"

#include <algorithm>

#include "csrc/base/check.h"

namespace rtswap::engine {

std::vector<Run> split(std::span<const Segment> segments, uint64_t chunk_bytes, Range range,
                       uint64_t largest_bytes) {
  const auto largest_chunks =
      static_cast<uint32_t>(std::clamp<uint64_t>(largest_bytes / chunk_bytes, 1, UINT32_MAX));
  std::vector<Run> runs;
  uint32_t next = range.first;
  for (const Segment& segment : segments) {
    const uint32_t segment_end = segment.first_position + segment.chunks;
    while (next < std::min(segment_end, range.end())) {
      const uint32_t count = std::min({segment_end - next, range.end() - next, largest_chunks});
      const uint64_t offset_bytes = (next - segment.first_position) * chunk_bytes;
      const bool scratch = segment.kind == Kind::scratch;
      runs.push_back({
          .positions = {next, count},
          .address = segment.address + offset_bytes,
          .host = scratch ? nullptr : segment.host + offset_bytes,
          .copy_bytes = scratch ? 0 : std::min(count * chunk_bytes, segment.bytes - offset_bytes),
          .kind = segment.kind,
      });
      next += count;
    }
  }
  RTSWAP_CHECK(next == range.end(), "positions beyond the last segment");
  return runs;
}

}  // namespace rtswap::engine
