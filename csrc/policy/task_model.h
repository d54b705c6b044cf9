// What the schedulability test knows about tasks and the link, and the one number it charges for a
// job: its block, the time from taking the GPU to giving it back.
//
// Units: `_ns` durations, memory in whole chunks of the device's bank. Pure values; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace rtswap::policy {

// Names one arena within a test. Tasks with equal keys share its memory.
using ArenaKey = uint64_t;

// A stretch of a job's execution that needs no more than the first `chunks` of its arena.
struct Layer {
  uint32_t chunks = 0;       // > 0, at most the arena's, not less than that of the layer before
  int64_t execution_ns = 0;  // > 0; measured while something is copied
  bool operator==(const Layer&) const = default;
};

struct TaskModel {
  std::string name;         // for messages
  int64_t period_ns = 0;    // minimum distance of releases; > 0 for tasks under test
  int64_t deadline_ns = 0;  // relative; 0 < deadline <= period
  int64_t wcet_ns = 0;      // execution alone, all memory resident
  // In order of execution, wcet_ns together: a job executes them while the rest of its memory is
  // restored. Empty: all memory must be there before it executes anything.
  std::vector<Layer> layers = {};
  ArenaKey arena = 0;
  uint32_t arena_chunks = 0;
  uint32_t mutable_chunks = 0;  // of these, copied out when they are evicted
  bool resident = false;        // the user wants it never evicted
  // The planner keeps no more of the arena resident than this (unless `resident` asks for it): what
  // a promise in force may not count on yet, it may not plan with.
  uint32_t most_resident_chunks = UINT32_MAX;
  // Best effort: one job keeps the device at least so long, for the sake of other devices.
  int64_t hold_ns = 0;
};

// The worst the memory path does. All copies of one device share one link.
struct LinkModel {
  uint64_t restore_bytes_per_s = 0;  // 0: unknown, no restore can be promised
  uint64_t evict_bytes_per_s = 0;    // 0: taken as restore_bytes_per_s
  uint64_t chunk_bytes = 0;
  int64_t chunk_cost_ns = 0;     // map, set up a copy and unmap, while others are copied
  int64_t overhead_ns = 0;       // one round trip between arbiter and client
  uint32_t prefetch_chunks = 0;  // most chunks a prefetch has in flight when a job takes the GPU,
  uint32_t lead_chunks = 0;      // and most of a lead; 0: no task is staged
  // Arenas that chunks may be taken from at the same time. Each unmaps one after another, and the
  // driver serves all in turn: whatever it is asked for waits for an unmapping of each.
  uint32_t victim_arenas = 1;
};

// Unmapping takes at most one part in so many of what changing hands costs.
inline constexpr int64_t kUnmapShare = 3;

// What an arbiter charges for one round trip between it and a client, with the wake-ups in it.
// Inside a process:
inline constexpr int64_t kRoundTrip_ns = 200'000;
// Through a daemon, and in plans made elsewhere for one: more than the 99th percentile that was
// measured, 0.68 ms (docs/adr/0007).
inline constexpr int64_t kDaemonRoundTrip_ns = 1'000'000;
// mapping, setting up a copy and unmapping one chunk on a CUDA device;
inline constexpr int64_t kCudaChunkCost_ns = 100'000;
// and the most that is prefetched at a time, at least a chunk.
uint32_t quantum_chunks(uint64_t chunk_bytes);

// The same link under a plan with staged tasks: so much is in flight that a lead streams, although
// each of its chunks is asked for two round trips (revoke, evicted, grant, restored) ahead.
LinkModel staging_link(LinkModel link);

// Time to restore the first `chunks` of those that were asked for (by default: of as many): the
// first batch changes hands, then chunks are copied while the next ones do, of all victims in turn.
// INT64_MAX when the bandwidth is unknown and chunks > 0.
int64_t load_ns(const LinkModel& link, uint32_t chunks);
int64_t load_ns(const LinkModel& link, uint32_t chunks, uint32_t asked_chunks);

// How many of `chunks` are asked back at a time, so that each batch has changed hands before those
// ahead of it are copied: victims report an eviction when all of it is done. The first is what may
// be prefetched at a time, at least a chunk.
std::vector<uint32_t> batches_of(const LinkModel& link, uint32_t chunks);

// Time to copy `chunks` of mutable memory out before their chunks can change hands.
int64_t write_back_ns(const LinkModel& link, uint32_t chunks);

// Mutable chunks that may have to be copied out before others arrive.
struct WriteBack {
  uint32_t victims_chunks = 0;  // of all that the job displaces
  uint32_t stray_chunks = 0;    // of all that a prefetch displaces that is in flight
};

// How long the tail of its arena, asked back for a prefetch right before, may still be on its way
// out when a job takes the GPU, whose body begins only then. What the job takes of others leaves
// meanwhile.
int64_t leaving_ns(const LinkModel& link, const TaskModel& task, uint32_t missing_chunks,
                   WriteBack write_back);

// GPU time the test charges for one job whose arena may lack its last `missing_chunks`. Every job
// pays one round trip (job done to next run); one with a restore also pays, before anything
// arrives, all write-backs and a second one (revoke to grant) or the stray prefetch that is copied
// meanwhile, whichever is longer. The first layer waits for what leaves; one executes once the
// layer before has and its chunks are there; the job ends when all has executed and all has landed.
// INT64_MAX when a restore is needed and the bandwidth is unknown. Never decreases with
// `missing_chunks`.
int64_t block_ns(const LinkModel& link, const TaskModel& task, uint32_t missing_chunks,
                 WriteBack write_back);

// What such a job keeps the stage from its own work: its block, and, if it restores something, that
// a lead that was being asked for is asked for again and goes on a round trip later.
int64_t stage_delay_ns(const LinkModel& link, int64_t block_ns, uint32_t missing_chunks,
                       WriteBack write_back);

// Of that, what it keeps a lead from being restored: until its own last chunk has landed and the
// lead goes on.
int64_t stage_stall_ns(const LinkModel& link, uint32_t missing_chunks, WriteBack write_back);

// Of a staged job, the time from getting the stage until its first `lead_chunks` beyond the prefix
// are known to be there and nothing else to be in flight, if no direct job comes: two round trips
// until its first chunk may come, or the stray prefetch that is copied meanwhile, and the lead in
// steps of what may be in flight. 0 if nothing is missing: it need not wait for anything. REQUIRES:
// link.lead_chunks >= link.prefetch_chunks > 0.
int64_t lead_ns(const LinkModel& link, uint32_t missing_chunks, uint32_t lead_chunks,
                WriteBack write_back);

// GPU time of a staged job's run, which begins with its lead there and the copy engine its own,
// when its last `missing_chunks` are still to come.
int64_t run_ns(const LinkModel& link, const TaskModel& task, uint32_t missing_chunks,
               WriteBack write_back);

}  // namespace rtswap::policy
