// Whose memory is taken. Pure; any thread.
#pragma once

#include <cstdint>
#include <vector>

namespace rtswap::policy {

// An arena that holds chunks. The caller leaves out arenas that must not be touched at all: the one
// that gets the memory, arenas in use by a job, reserved arenas, and clients that do not answer.
struct VictimCandidate {
  uint64_t arena = 0;
  uint32_t evictable_chunks = 0;  // held and not yet asked back
  int64_t next_deadline_ns = 0;   // earliest of its tasks' next deadlines; INT64_MAX: not needed
  int64_t last_used_ns = 0;
};

struct Take {
  uint64_t arena = 0;
  uint32_t chunks = 0;  // from the tail
};

enum class VictimOrder : uint8_t {
  latest_deadline,     // the one needed last gives first, and just what is short
  least_recently_used  // whole arenas, the baseline's way
};

// Fewer than `shortfall` chunks in all when the candidates do not hold more. Ties go to the lower
// key, so that the outcome never depends on the order of the candidates.
std::vector<Take> choose_victims(std::vector<VictimCandidate> candidates, uint32_t shortfall,
                                 VictimOrder order);

}  // namespace rtswap::policy
