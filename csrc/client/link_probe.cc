#include "csrc/client/link_probe.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>

#include "csrc/base/clock.h"
#include "csrc/client/copy_place.h"

namespace rtswap::client {
namespace {

// Repeats of what is timed; the first does not count.
constexpr int kCopies = 5;
constexpr int kMappings = 20;
// A thread that is woken up late, once by 30 ms on a virtual machine, says nothing about a device:
// the worst of the quietest round counts. What is slow for long is so in every round.
constexpr int kRounds = 3;
// Queued the other way before each copy that is timed: together they last longer than it does, also
// where the directions differ in speed.
constexpr int kOppositeCopies = 2;
constexpr int64_t kSecond_ns = 1'000'000'000;

// The longest of some copies, before each of which `prepare` is called.
Result<int64_t> longest_ns(CopyPlace& place, Direction direction,
                           const std::function<Status()>& prepare) {
  int64_t longest_ns = 1;
  for (int i = 0; i <= kCopies; ++i) {
    RTSWAP_TRY(prepare());
    const int64_t start_ns = monotonic_now_ns();
    RTSWAP_TRY(place.start(direction));
    RTSWAP_TRY(place.finish());
    if (i > 0) longest_ns = std::max(longest_ns, monotonic_now_ns() - start_ns);
  }
  return longest_ns;
}

// Bytes per second.
Result<uint64_t> slowest(CopyPlace& place, Direction direction,
                         const std::function<Status()>& prepare) {
  int64_t quietest_ns = INT64_MAX;
  for (int round = 0; round < kRounds; ++round) {
    RTSWAP_ASSIGN(const int64_t round_ns, longest_ns(place, direction, prepare));
    quietest_ns = std::min(quietest_ns, round_ns);
  }
  return static_cast<uint64_t>(static_cast<double>(place.bytes()) * kSecond_ns /
                               static_cast<double>(quietest_ns));
}

// The longest of some.
Result<ChunkCost> chunk_cost(CopyPlace& place) {
  ChunkCost cost;
  for (int i = 0; i <= kMappings; ++i) {
    const int64_t start_ns = monotonic_now_ns();
    RTSWAP_TRY(place.unmap());
    const int64_t unmapped_ns = monotonic_now_ns();
    RTSWAP_TRY(place.map());
    const int64_t mapped_ns = monotonic_now_ns();
    if (i == 0) continue;
    cost.unmap_ns = std::max(cost.unmap_ns, unmapped_ns - start_ns);
    cost.map_ns = std::max(cost.map_ns, mapped_ns - unmapped_ns);
  }
  return cost;
}

struct Places {
  std::unique_ptr<CopyPlace> first;
  std::unique_ptr<CopyPlace> second;
};

// Both of `bytes`, or as far as there is room for two.
Result<Places> two_places(driver::Driver& driver, uint64_t bytes) {
  Places places;
  RTSWAP_ASSIGN(places.first, CopyPlace::make(driver, bytes));
  auto second = CopyPlace::make(driver, places.first->bytes());
  if (second) {
    places.second = std::move(*second);
    return places;
  }
  const uint64_t less_bytes = places.first->bytes() / 2;
  const bool less_may_fit = second.error().code == ErrorCode::out_of_memory &&
                            less_bytes >= driver.info().granularity_bytes;
  if (!less_may_fit) return fail(std::move(second).error());
  places.first.reset();
  return two_places(driver, less_bytes);
}

}  // namespace

Result<LinkSpeed> probe_link(driver::Driver& driver, uint64_t bytes) {
  RTSWAP_ASSIGN(const auto place, CopyPlace::make(driver, bytes));
  const auto alone = [] { return Status(); };
  LinkSpeed speed;
  RTSWAP_ASSIGN(speed.restore_bytes_per_s, slowest(*place, Direction::to_device, alone));
  RTSWAP_ASSIGN(speed.evict_bytes_per_s, slowest(*place, Direction::to_host, alone));
  return speed;
}

Result<LinkSpeed> probe_link_both_ways(driver::Driver& driver, uint64_t bytes) {
  RTSWAP_ASSIGN(const Places places, two_places(driver, bytes));
  CopyPlace& place = *places.first;
  CopyPlace& other = *places.second;
  const auto against = [&other](Direction direction) {
    return [&other, direction]() -> Status {
      for (int i = 0; i < kOppositeCopies; ++i) RTSWAP_TRY(other.start(direction));
      return {};
    };
  };
  LinkSpeed speed;
  RTSWAP_ASSIGN(speed.restore_bytes_per_s,
                slowest(place, Direction::to_device, against(Direction::to_host)));
  RTSWAP_TRY(other.finish());
  RTSWAP_ASSIGN(speed.evict_bytes_per_s,
                slowest(place, Direction::to_host, against(Direction::to_device)));
  return speed;
}

Result<ChunkCost> probe_chunk_cost(driver::Driver& driver, uint64_t chunk_bytes) {
  RTSWAP_ASSIGN(const auto place, CopyPlace::make(driver, chunk_bytes));
  RTSWAP_ASSIGN(ChunkCost quietest, chunk_cost(*place));
  for (int round = 1; round < kRounds; ++round) {
    RTSWAP_ASSIGN(const ChunkCost cost, chunk_cost(*place));
    quietest.map_ns = std::min(quietest.map_ns, cost.map_ns);
    quietest.unmap_ns = std::min(quietest.unmap_ns, cost.unmap_ns);
  }
  return quietest;
}

}  // namespace rtswap::client
