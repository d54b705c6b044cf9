#include "csrc/policy/victims.h"

#include <algorithm>
#include <tuple>

namespace rtswap::policy {

std::vector<Take> choose_victims(std::vector<VictimCandidate> candidates, uint32_t shortfall,
                                 VictimOrder order) {
  const bool lru = order == VictimOrder::least_recently_used;
  std::sort(candidates.begin(), candidates.end(), [lru](const auto& a, const auto& b) {
    if (lru) return std::tie(a.last_used_ns, a.arena) < std::tie(b.last_used_ns, b.arena);
    return std::tie(b.next_deadline_ns, a.arena) < std::tie(a.next_deadline_ns, b.arena);
  });
  std::vector<Take> takes;
  for (const VictimCandidate& candidate : candidates) {
    if (shortfall == 0) break;
    if (candidate.evictable_chunks == 0) continue;
    const uint32_t needed = std::min(candidate.evictable_chunks, shortfall);
    takes.push_back(Take{candidate.arena, lru ? candidate.evictable_chunks : needed});
    shortfall -= needed;
  }
  return takes;
}

}  // namespace rtswap::policy
