#include "csrc/policy/task_model.h"

#include <algorithm>
#include <limits>

#include "csrc/base/units.h"

namespace rtswap::policy {
namespace {

constexpr int64_t kForever_ns = std::numeric_limits<int64_t>::max();

// Saturates instead of wrapping: "forever" stays "forever".
int64_t add(int64_t a, int64_t b) {
  int64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? kForever_ns : sum;
}

// Rounded up: a promise never profits from rounding.
int64_t copy_ns(uint64_t bytes, uint64_t bytes_per_s) {
  if (bytes == 0) return 0;
  if (bytes_per_s == 0) return kForever_ns;
  const auto ns =
      (static_cast<unsigned __int128>(bytes) * 1'000'000'000u + bytes_per_s - 1) / bytes_per_s;
  return ns > static_cast<unsigned __int128>(kForever_ns) ? kForever_ns : static_cast<int64_t>(ns);
}

}  // namespace

uint32_t quantum_chunks(uint64_t chunk_bytes) {
  using namespace literals;
  return static_cast<uint32_t>(std::max<uint64_t>(1, 32_MiB / std::max<uint64_t>(1, chunk_bytes)));
}

int64_t load_ns(const LinkModel& link, uint32_t chunks) {
  return add(copy_ns(chunks * link.chunk_bytes, link.restore_bytes_per_s),
             chunks * link.chunk_cost_ns);
}

int64_t write_back_ns(const LinkModel& link, uint32_t chunks) {
  const uint64_t bytes_per_s =
      link.evict_bytes_per_s != 0 ? link.evict_bytes_per_s : link.restore_bytes_per_s;
  return copy_ns(chunks * link.chunk_bytes, bytes_per_s);
}

int64_t block_ns(const LinkModel& link, const TaskModel& task, uint32_t missing_chunks,
                 uint32_t write_back_chunks) {
  if (missing_chunks == 0) return add(task.wcet_ns, link.overhead_ns);
  const uint32_t stray_write_back = std::min(link.prefetch_chunks, write_back_chunks);
  int64_t before = add(link.overhead_ns, load_ns(link, link.prefetch_chunks));
  before = add(before, write_back_ns(link, stray_write_back));
  before = add(before, write_back_ns(link, write_back_chunks));
  const auto arrival_ns = [&](uint32_t chunks) { return add(before, load_ns(link, chunks)); };

  const uint32_t resident_chunks = task.arena_chunks - missing_chunks;
  int64_t executed = task.layers.empty() ? add(arrival_ns(missing_chunks), task.wcet_ns) : 0;
  for (const Layer& layer : task.layers) {
    if (layer.chunks > resident_chunks) {
      executed = std::max(executed, arrival_ns(layer.chunks - resident_chunks));
    }
    executed = add(executed, layer.execution_ns);
  }
  return add(link.overhead_ns, std::max(executed, arrival_ns(missing_chunks)));
}

}  // namespace rtswap::policy
