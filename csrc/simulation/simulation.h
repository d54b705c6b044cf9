// The whole system in virtual time: the real arbiter, and clients that obey the protocol over a
// link with bandwidth and latency, until a seed makes them crash, hang, lose their link or lie. For
// tests, for replaying a recorded task set, and for comparing disciplines.
//
// Deterministic: equal arguments give equal reports. Single-threaded; reads no clock.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "csrc/arbiter/arbiter.h"

namespace rtswap::simulation {

// What a model that spans devices has on a further one.
struct SimPart {
  uint32_t device = 0;
  uint32_t chunks = 0;
  uint32_t mutable_chunks = 0;  // at the tail
};

// One model in a process of its own.
struct SimRelease {
  int64_t at_ns = 0;
  int64_t stamp_ns = 0;  // at most at_ns
};

struct SimTask {
  std::string name;
  int64_t period_ns = 0;         // 0: aperiodic, best effort
  int64_t deadline_ns = 0;       // 0: the period
  int64_t wcet_ns = 0;           // declared; 0: not known, stays warming
  int64_t execution_min_ns = 0;  // true execution is drawn between these; both 0: always wcet
  int64_t execution_max_ns = 0;
  std::vector<SimRelease> releases;  // these and no others, in order; empty: as follows
  int64_t spacing_ns = 0;            // of releases; 0: the period
  int64_t jitter_ns = 0;  // each release comes up to this much later than the spacing asks
  // The spacing is that of instants on a grid, as a clock has them: after a release that came late
  // the next one comes early. Otherwise releases are at least the spacing apart.
  bool on_grid = false;
  int64_t offset_ns = 0;     // of the first release, from SimConfig::first_release_ns
  int64_t stamp_age_ns = 0;  // each release is stamped up to this much earlier than it is sent
  // Of its jobs, so many are cancelled at a random instant before their deadline, if they have not
  // started by then.
  double cancelled_share = 0;
  int64_t join_ns = 0;    // the process starts
  int64_t update_ns = 0;  // it asks for another deadline, no longer than before; 0: never
  int64_t updated_deadline_ns = 0;
  int64_t pause_ns = 0;   // the task is paused once no job of it is left; 0: never
  int64_t resume_ns = 0;  // and asks to resume
  int64_t leave_ns = 0;   // the task is closed once no job of it runs, the process ends; 0: never
  uint32_t device = 0;
  uint32_t arena_chunks = 0;
  uint32_t mutable_chunks = 0;   // at the tail
  std::vector<SimPart> further;  // on devices of their own; not with layers
  // Executed in proportion, as the whole is shorter than declared. Empty: all memory is needed from
  // the start.
  std::vector<protocol::LayerNeed> layers;
  bool resident = false;
  bool late_run = false;
  bool best_effort_if_refused = false;
  int32_t importance = 0;
};

// Expected faults per second of virtual time, over all clients.
struct SimFaults {
  double crashes = 0;           // the process dies and starts anew
  double disconnects = 0;       // the link breaks; the client comes back and resumes
  double hangs = 0;             // nothing is answered for hang_ns
  double lies = 0;              // a message that breaks the protocol
  double restore_failures = 0;  // the next restore of each arena of the client fails
  int64_t hang_ns = 0;
};

struct SimConfig {
  uint32_t devices = 1;  // all alike
  uint64_t chunk_bytes = 2 << 20;
  uint32_t chunk_count = 0;  // of each device
  uint64_t bytes_per_s = 0;  // of its link, each direction; one copy at a time per direction
  int64_t chunk_cost_ns = 0;
  int64_t latency_min_ns = 10'000;  // of one message
  int64_t latency_max_ns = 50'000;
  int64_t round_trip_ns = policy::kRoundTrip_ns;  // that the arbiter charges
  arbiter::Discipline discipline = arbiter::Discipline::edf;
  uint64_t seed = 1;
  int64_t first_release_ns = 0;  // time for reserved memory to load before the promises begin
  // What the arbiter goes on with at once when no message waits comes so much later: the time that
  // its steps take.
  int64_t step_ns = 0;
  int64_t horizon_ns = 0;  // no release after this; waiting work is finished
  int64_t hang_timeout_ns = 10'000'000'000;
  SimFaults faults;
  int64_t faults_end_ns = 0;  // none after this; 0: until the horizon
  // The links become slower, and a client reports it. 0: never.
  int64_t slower_ns = 0;
  uint64_t slower_bytes_per_s = 0;
  bool keep_trace = false;
  bool check_every_step = true;  // the full ledger check after every step
};

struct SimTaskReport {
  std::string name;
  protocol::Verdict verdict;  // the last one
  uint64_t released = 0, met = 0, missed = 0, dropped = 0, cancelled = 0;
  bool updated = false;  // the other deadline came into force
  uint64_t early = 0;    // released less than a period after the one before: count from then on
  // From when it counts to completion on the device, of jobs that ran. 0: none.
  int64_t response_min_ns = 0, response_median_ns = 0, response_max_ns = 0;
  int64_t response_bound_ns = 0;  // largest ever promised; 0: nothing was
  // Jobs released under a promise that took longer than every bound in force from release to end,
  // although no promise was suspended meanwhile and they were not longer than declared.
  uint64_t above_bound = 0;
  int64_t last_completion_ns = 0;
  uint64_t restored_bytes = 0, evicted_bytes = 0;
};

struct SimReport {
  std::vector<SimTaskReport> tasks;
  std::vector<arbiter::Trace> trace;    // with keep_trace
  std::vector<std::string> violations;  // broken invariants, seen from outside the arbiter
  uint64_t steps = 0;                   // of the arbiter
  uint64_t steps_at_once = 0;           // that it asked for, as no message waited
  int64_t ended_ns = 0;
  uint64_t suspensions = 0;  // of promises, on all devices
  size_t loading = 0;        // tasks that are still waiting for their memory at the end
  // Right before the slower link was reported, and when it was decided who keeps a promise.
  protocol::Snapshot before_slower, after_slower;
  uint64_t crashes = 0, disconnects = 0, hangs = 0, lies = 0, restore_failures = 0;
};

SimReport run(const SimConfig& config, const std::vector<SimTask>& tasks);

}  // namespace rtswap::simulation
