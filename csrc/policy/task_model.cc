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

// Between one chunk and the next, in the long run.
int64_t chunk_pace_ns(const LinkModel& link) {
  return std::max(copy_ns(link.chunk_bytes, link.restore_bytes_per_s), link.chunk_cost_ns);
}

uint32_t first_batch(const LinkModel& link) { return std::max(1U, link.prefetch_chunks); }

int64_t unmap_ns(const LinkModel& link) {
  return (link.chunk_cost_ns + kUnmapShare - 1) / kUnmapShare;
}

// Unmappings of `asked_chunks` that `operations` of the driver, one after another, may wait for,
// if `skipped` arenas are not in their way.
int64_t turns_ns(const LinkModel& link, int64_t operations, uint32_t asked_chunks,
                 uint32_t skipped) {
  const uint32_t victims = std::min(link.victim_arenas, asked_chunks);
  const int64_t others = std::max<int64_t>(0, int64_t{victims} - skipped);
  return std::min<int64_t>(operations * others, asked_chunks) * unmap_ns(link);
}

}  // namespace

uint32_t quantum_chunks(uint64_t chunk_bytes) {
  using namespace literals;
  return static_cast<uint32_t>(std::max<uint64_t>(1, 32_MiB / std::max<uint64_t>(1, chunk_bytes)));
}

LinkModel staging_link(LinkModel link) {
  const int64_t pace_ns = chunk_pace_ns(link);
  if (link.prefetch_chunks == 0 || pace_ns <= 0 || pace_ns == kForever_ns) return link;
  const int64_t streaming = 1 + (2 * link.overhead_ns + pace_ns - 1) / pace_ns;
  const auto chunks = static_cast<uint32_t>(std::min<int64_t>(streaming, UINT32_MAX));
  link.lead_chunks = std::max(link.prefetch_chunks, chunks);
  return link;
}

int64_t load_ns(const LinkModel& link, uint32_t chunks) { return load_ns(link, chunks, chunks); }

int64_t load_ns(const LinkModel& link, uint32_t chunks, uint32_t asked_chunks) {
  if (chunks == 0) return 0;
  // Until the first batch is out all victims unmap in turn, and then before each chunk is mapped.
  const int64_t batch = std::min(asked_chunks, first_batch(link));
  const int64_t first_ns =
      batch * (link.chunk_cost_ns - unmap_ns(link)) + turns_ns(link, 2 * batch, asked_chunks, 0);
  const int64_t copies_ns = copy_ns(chunks * link.chunk_bytes, link.restore_bytes_per_s);
  const int64_t loads_ns = add(first_ns, std::max(copies_ns, chunks * link.chunk_cost_ns));
  // The turns of the others are over before the chunk ahead has been copied, or are waited for.
  const int64_t turn_ns = link.chunk_cost_ns + turns_ns(link, 1, asked_chunks, 1);
  const bool hidden = turn_ns <= copy_ns(link.chunk_bytes, link.restore_bytes_per_s);
  return hidden ? loads_ns : add(loads_ns, turns_ns(link, chunks, asked_chunks, 1));
}

std::vector<uint32_t> batches_of(const LinkModel& link, uint32_t chunks) {
  const uint32_t first = first_batch(link);
  const int64_t cost_ns = std::max<int64_t>(1, link.chunk_cost_ns);
  // While one chunk is copied, so many can change hands beside it.
  const double beside =
      static_cast<double>(chunk_pace_ns(link) - cost_ns) / static_cast<double>(cost_ns);
  const double growth = std::clamp(beside, 0.0, 1.0);
  std::vector<uint32_t> batches;
  for (uint32_t asked = 0; asked < chunks; asked += batches.back()) {
    const auto more = static_cast<uint32_t>(growth * asked);
    batches.push_back(std::min(chunks - asked, first + more));
  }
  return batches;
}

int64_t write_back_ns(const LinkModel& link, uint32_t chunks) {
  const uint64_t bytes_per_s =
      link.evict_bytes_per_s != 0 ? link.evict_bytes_per_s : link.restore_bytes_per_s;
  return copy_ns(chunks * link.chunk_bytes, bytes_per_s);
}

namespace {

uint32_t most_in_flight(const LinkModel& link) {
  return std::max(link.prefetch_chunks, link.lead_chunks);
}

// From taking the GPU to giving it back, when its body begins after `begin_ns`, and what is missing
// arrives from `before_ns` on.
int64_t pipelined_ns(const LinkModel& link, const TaskModel& task, uint32_t missing_chunks,
                     int64_t begin_ns, int64_t before_ns) {
  const auto arrival_ns = [&](uint32_t chunks) {
    return add(before_ns, load_ns(link, chunks, missing_chunks));
  };
  const uint32_t resident_chunks = task.arena_chunks - missing_chunks;
  int64_t executed = task.layers.empty() ? add(arrival_ns(missing_chunks), task.wcet_ns) : begin_ns;
  for (const Layer& layer : task.layers) {
    if (layer.chunks > resident_chunks) {
      executed = std::max(executed, arrival_ns(layer.chunks - resident_chunks));
    }
    executed = add(executed, layer.execution_ns);
  }
  return add(link.overhead_ns, std::max(executed, arrival_ns(missing_chunks)));
}

// From taking the GPU until something of its own can arrive: what is in flight lands, next to the
// unmappings of what is missing; it may lie in a victim, which leaves only then, and is known to
// have left a round trip later.
int64_t before_ns(const LinkModel& link, uint32_t missing_chunks, WriteBack write_back) {
  const int64_t write_backs_ns =
      add(write_back_ns(link, write_back.stray_chunks),
          write_back_ns(link, std::min(missing_chunks, write_back.victims_chunks)));
  const uint32_t stray_chunks = most_in_flight(link);
  const int64_t strays_ns = load_ns(link, stray_chunks, stray_chunks + missing_chunks);
  return add(add(link.overhead_ns, strays_ns), write_backs_ns);
}

// What a lead had asked for goes to the job.
int64_t asked_in_vain_ns(const LinkModel& link, WriteBack write_back) {
  return add(link.lead_chunks * link.chunk_cost_ns, write_back_ns(link, write_back.stray_chunks));
}

}  // namespace

int64_t leaving_ns(const LinkModel& link, const TaskModel& task, uint32_t missing_chunks,
                   WriteBack write_back) {
  const uint32_t leaving_chunks = std::min(missing_chunks, most_in_flight(link));
  const int64_t unmaps_ns =
      add(leaving_chunks * link.chunk_cost_ns, turns_ns(link, leaving_chunks, missing_chunks, 0));
  const uint32_t written_chunks =
      std::min({leaving_chunks, task.mutable_chunks, write_back.stray_chunks});
  // Those of the victims are copied out in turn, too.
  const uint64_t between_chunks = uint64_t{written_chunks} * link.victim_arenas;
  const uint64_t others_chunks =
      std::min<uint64_t>({between_chunks, missing_chunks, write_back.victims_chunks});
  const auto copied_chunks = static_cast<uint32_t>(written_chunks + others_chunks);
  return add(unmaps_ns, write_back_ns(link, copied_chunks));
}

int64_t block_ns(const LinkModel& link, const TaskModel& task, uint32_t missing_chunks,
                 WriteBack write_back) {
  if (missing_chunks == 0) return add(task.wcet_ns, link.overhead_ns);
  return pipelined_ns(link, task, missing_chunks,
                      leaving_ns(link, task, missing_chunks, write_back),
                      before_ns(link, missing_chunks, write_back));
}

int64_t stage_delay_ns(const LinkModel& link, int64_t block_ns, uint32_t missing_chunks,
                       WriteBack write_back) {
  if (missing_chunks == 0) return block_ns;
  return add(add(block_ns, 2 * link.overhead_ns), asked_in_vain_ns(link, write_back));
}

int64_t stage_stall_ns(const LinkModel& link, uint32_t missing_chunks, WriteBack write_back) {
  if (missing_chunks == 0) return 0;
  const int64_t landed_ns =
      add(before_ns(link, missing_chunks, write_back), load_ns(link, missing_chunks));
  return add(add(landed_ns, 3 * link.overhead_ns), asked_in_vain_ns(link, write_back));
}

int64_t lead_ns(const LinkModel& link, uint32_t missing_chunks, uint32_t lead_chunks,
                WriteBack write_back) {
  if (missing_chunks == 0) return 0;
  if (link.restore_bytes_per_s == 0) return kForever_ns;
  const int64_t stray_write_back_ns = write_back_ns(link, write_back.stray_chunks);
  const uint32_t asked_chunks = std::min(lead_chunks, link.lead_chunks);
  // They are reported, too, and only then is anything asked for of the arena that they are in.
  const int64_t strays_ns = add(
      link.overhead_ns, load_ns(link, link.prefetch_chunks, link.prefetch_chunks + asked_chunks));
  if (lead_chunks == 0) return add(strays_ns, stray_write_back_ns);
  // At most a step is in flight: each chunk is asked for when the one a step before it has landed,
  // and comes two round trips later at the earliest (revoke, evicted, grant, restored).
  const int64_t asked_ns = 2 * link.overhead_ns;
  const uint32_t step_chunks = link.lead_chunks;
  const int64_t pace_ns = chunk_pace_ns(link);
  int64_t step_ns = 0;
  int64_t steps_ns = 0;
  const uint32_t steps = (lead_chunks - 1) / step_chunks;
  if (__builtin_mul_overflow(int64_t{step_chunks}, pace_ns, &step_ns)) return kForever_ns;
  // Its unmapping may wait for a mapping of the lead itself.
  const int64_t map_ns = link.chunk_cost_ns - unmap_ns(link);
  step_ns = std::max(step_ns, add(asked_ns, add(map_ns, load_ns(link, 1, asked_chunks))));
  if (__builtin_mul_overflow(int64_t{steps}, step_ns, &steps_ns)) return kForever_ns;
  const int64_t first_ns = add(strays_ns, asked_ns);
  const int64_t loads_ns =
      add(steps_ns, load_ns(link, lead_chunks - steps * step_chunks, asked_chunks));
  const uint32_t victims = std::min(lead_chunks, write_back.victims_chunks);
  const int64_t write_backs_ns = add(stray_write_back_ns, write_back_ns(link, victims));
  return add(add(first_ns, loads_ns), write_backs_ns);
}

int64_t run_ns(const LinkModel& link, const TaskModel& task, uint32_t missing_chunks,
               WriteBack write_back) {
  if (missing_chunks == 0) return add(task.wcet_ns, link.overhead_ns);
  const uint32_t victims = std::min(missing_chunks, write_back.victims_chunks);
  return pipelined_ns(link, task, missing_chunks, 0,
                      add(link.overhead_ns, write_back_ns(link, victims)));
}

}  // namespace rtswap::policy
