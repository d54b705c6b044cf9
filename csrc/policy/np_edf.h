// Non-preemptive EDF on one device: will every job of a set of sporadic tasks end by its deadline?
//
// The demand test of Jeffay, Stanat, Martel (1991) and George, Rivierre, Spuri (1996) for D <= T,
// on blocks instead of execution times, in integer ns:
//
//   for every t >= min D:   sum_i n_i(t) P_i + B(t) + latency <= t
//   n_i(t) = max(0, 1 + floor((t - D_i) / T_i))
//   B(t)   = max{ P_k : D_k > t; outside block }
//
// and, where others go before the set, what they take on the left side (Interference).
//
// A release is seen up to `latency` after it counts, so windows are measured from latency before
// the first release is seen. A job that blocks may then have D_k as short as t - latency; but then
// no other job of its task is in the window, and n_k(t) has counted it.
//
// Blocking is full (P, not P - 1): a release may be seen just after a start of the same tick. It is
// necessary and sufficient for that clock when latency, outside block and
// interference are 0.
// Response of task j: D_j + max over t >= D_j of (left side - t).
//
// Not every t is visited: within a range of constant B the left side F only grows, so F(t) - t
// cannot exceed a known value m anywhere in (F(t) - m, t). Scanning downwards in such jumps is QPA
// (Zhang, Burns 2009) turned from a yes-or-no test into one that finds the maximum.
//
// Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace rtswap::policy {

struct Demand {
  int64_t period_ns = 0;    // minimum distance of releases, > 0
  int64_t deadline_ns = 0;  // 0 < deadline <= period
  int64_t block_ns = 0;     // P, > 0
};

// Work of others that goes before the set: at most N = ceil((t + reach) / period) blocks of it
// delay a window of length t. Where `wait_ns` is known they take no more than N stalls either, and
// that wait once for each job of the set in the window: the test takes the lesser, for each t.
struct Interference {
  int64_t period_ns = 0;                // > 0
  int64_t reach_ns = 0;                 // longest time from a release to the end of its block, >= 0
  int64_t block_ns = 0;                 // > 0
  int64_t stall_ns = 0;                 // 0 to block
  std::optional<int64_t> wait_ns = {};  // >= 0
};

struct NpEdfOptions {
  // Longest block of work outside the set (best effort, staged runs) that may have just begun when
  // a job is released.
  int64_t outside_block_ns = 0;
  // Longest time from a release until the arbiter sees it.
  int64_t release_latency_ns = 0;
  std::vector<Interference> interference = {};
};

// The first instant at which demand exceeds supply.
struct Failure {
  enum class Kind : uint8_t {
    demand,       // at t_ns
    utilisation,  // sum P/T > 1: any deadline is missed in the end
    unbounded,    // sum P/T is so close to 1 that the test has no end worth waiting for
  };
  Kind kind = Kind::demand;
  int64_t t_ns = 0;                     // window length, demand only
  int64_t demand_ns = 0;                // left side at t, demand only
  size_t missing_task = 0;              // its deadline ends the window
  std::optional<size_t> blocking_task;  // the later-deadline block inside; none: demand alone, or
                                        // the outside block
};

// The window in which a task's response is longest.
struct Limit {
  int64_t t_ns = 0;                     // window length
  std::optional<size_t> blocking_task;  // the later-deadline block inside; none: there is none, or
                                        // the outside block
  int64_t blocking_ns = 0;
};

struct NpEdfResult {
  bool schedulable = false;
  double utilisation = 0;
  std::vector<int64_t> response_ns;  // one per task when schedulable
  std::vector<Limit> limits;         // likewise
  std::optional<Failure> failure;    // otherwise
};

// What asking may cost where no answer is needed: check points visited, times tasks. Counted, not
// timed, so that equal questions end equally; one is about 10 ns.
struct Effort {
  int64_t left = 0;
  bool spent() const { return left <= 0; }
};

// REQUIRES: the ranges above. An empty set is schedulable. When `effort` (nullptr: as much as it
// takes) is spent before the answer is known, it is a failure of kind `unbounded`. Where an effort
// is given, a failure is some failing instant, not necessarily the first.
NpEdfResult test_np_edf(const std::vector<Demand>& tasks, const NpEdfOptions& options,
                        Effort* effort = nullptr);

// The same test for planners, which ask often: some failing instant, not necessarily the first, and
// no responses. Nothing: schedulable. `effort` may be spent before the call.
std::optional<Failure> find_failure(const std::vector<Demand>& tasks, const NpEdfOptions& options,
                                    Effort* effort = nullptr);

}  // namespace rtswap::policy
