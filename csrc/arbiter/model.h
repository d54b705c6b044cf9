// The records the arbiter keeps: sessions, arenas, tasks, jobs, devices. Plain data; the rules are
// in the files beside this one. Pointers between records are valid as long as both are in the
// tables; whoever removes a record unlinks it first (Arbiter::State::remove_*).
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "csrc/arbiter/arbiter.h"
#include "csrc/arbiter/ledger.h"
#include "csrc/policy/admission.h"
#include "csrc/policy/np_edf.h"
#include "csrc/policy/plan.h"

namespace rtswap::arbiter {

using protocol::ArenaId;
using protocol::JobId;
using protocol::kNoDeadline_ns;
using protocol::TaskId;
using protocol::TaskState;
using protocol::Timing;

inline constexpr int64_t kNever_ns = INT64_MIN;

struct Session;
struct Task;

// Memory sent to a client and not yet reported as landed.
struct GrantInFlight {
  uint32_t end_position = 0;  // exclusive
  uint32_t chunks = 0;
  int64_t sent_ns = 0;
};

// Memory asked back and not yet reported as evicted.
struct RevokeInFlight {
  uint32_t keep_chunks = 0;
  int64_t sent_ns = 0;
};

struct Arena {
  Ledger::Holder key = 0;  // never reused; names the arena in ledger, plan and victim choice
  Session* session = nullptr;
  ArenaId id = 0;
  uint32_t device = 0;
  uint32_t chunks = 0;
  uint32_t mutable_chunks = 0;
  std::vector<Task*> tasks;

  bool reopen_expected = false;  // named in the Hello of a client that came back

  uint32_t landed_chunks = 0;          // of the held positions, these hold their bytes
  std::deque<GrantInFlight> grants;    // oldest first
  std::deque<RevokeInFlight> revokes;  // oldest first, keep_chunks descending
  int64_t detached_ns = kNever_ns;     // since then an answer about detached chunks is awaited
  uint32_t planned_chunks = 0;         // its prefix in the plan in force: never a victim
  uint32_t guaranteed_chunks = 0;      // of these, there when the promises were made: not charged
  // What could be taken of it at most since the device was last idle, or since the promises in
  // force were made if that is longer ago.
  policy::Exposure exposed;
  bool silent = false;                // an answer is overdue: not counted on until it comes
  uint32_t lost_jobs = 0;             // hung jobs that may still use the memory
  uint32_t failed_restores = 0;       // in a row
  int64_t rest_until_ns = kNever_ns;  // after a failed restore or eviction: left alone until then
  int64_t last_used_ns = 0;
};

struct Job {
  enum class State : uint8_t { waiting, holding, lost };
  // Of a task that spans devices: the part that the protocol names, which owns the others. All
  // parts have the same state.
  Job* lead = this;
  std::vector<std::unique_ptr<Job>> others;
  bool spans() const { return lead != this || !others.empty(); }

  JobId id = 0;
  Task* task = nullptr;
  State state = State::waiting;
  uint64_t index = 0;       // of its task, from 0
  uint64_t sequence = 0;    // order of arrival at the arbiter
  int64_t release_ns = 0;   // nominal
  int64_t eligible_ns = 0;  // competes from here: at the earliest one period after the last one
  int64_t deadline_ns = kNoDeadline_ns;
  int64_t order_ns = kNoDeadline_ns;  // the deadline it competes with: never sooner than the test's
  bool demoted = false;               // lost its deadline (late = run)
  bool run_sent = false;              // of the lead: to the client
  uint32_t first_chunks = 0;          // that Run named: its body may begin once they have landed
  bool begun = false;       // its body may have begun, or this part does not keep it waiting
  bool complete = false;    // holds the device and all its memory
  bool abandoned = false;   // has begun and was told that the rest of its memory does not come
  int64_t block_ns = 0;     // what it may hold the device for, known when it got it; 0: not
  int64_t held_ns = 0;      // when it got it
  int64_t progress_ns = 0;  // last sign of life while holding
};

struct Task {
  // Of a task that spans devices: the part that the protocol names, which owns the others, one on
  // each further device. They share its name and timing; each has the state it has on its device.
  Task* lead = this;
  std::vector<std::unique_ptr<Task>> others;
  bool spans() const { return lead != this || !others.empty(); }

  Session* session = nullptr;
  Arena* arena = nullptr;
  TaskId id = 0;
  std::string name;       // plain
  std::string full_name;  // name@pid
  Timing timing;
  bool resident = false;
  protocol::LatePolicy late = protocol::LatePolicy::drop;
  protocol::OnRefusal on_refusal = protocol::OnRefusal::refuse;
  int32_t importance = 0;
  TaskState state = TaskState::warming;
  // While loading: what it will be once the memory it needs has landed.
  TaskState wanted = TaskState::warming;
  bool in_question = false;  // admitted, and whether it stays so is being found out (shedding.cc)
  Error reason;              // of refused and best effort
  // A change of timing that waits for an idle device, or for memory that is on its way.
  std::optional<Timing> next_timing;
  bool next_timing_fits = false;  // once the plan has come in: plans count on it

  int64_t block_ns = 0;           // 0: not known
  bool staged = false;            // promised as a staged task:
  int64_t lead_ns = 0;            // its lead takes so long, and block_ns is that of its run
  int64_t response_bound_ns = 0;  // 0: nothing is promised
  int64_t last_release_ns = kNever_ns;
  int64_t last_order_ns = kNever_ns;             // of the job before,
  int64_t last_seen_ns = kNever_ns;              // and when it came
  int64_t waiting_deadline_ns = kNoDeadline_ns;  // scratch of the victim choice
  uint32_t requests = 0;           // of the client about this task, the one being answered included
  bool answer_pending = false;     // the last request has not been answered yet
  uint32_t requests_answered = 0;  // while so: the ones before it
  uint32_t overruns_in_a_row = 0;
  uint64_t released = 0, met = 0, missed = 0, dropped = 0, overruns = 0;
  uint64_t restored_bytes = 0, evicted_bytes = 0, written_back_bytes = 0;
  int64_t response_max_ns = 0;
};

struct Session {
  enum class Phase : uint8_t { opened, active, disconnected, faulted };
  SessionId id = 0;
  Phase phase = Phase::opened;
  int64_t pid = 0;
  std::string user;
  std::string process_name;
  std::vector<uint64_t> static_bytes;  // per device
  std::map<ArenaId, std::unique_ptr<Arena>> arenas;
  std::map<TaskId, std::unique_ptr<Task>> tasks;
  std::map<JobId, std::unique_ptr<Job>> jobs;
  std::set<JobId>
      forgiven;  // ended here after Run was sent: a JobDone of the client may still come
};

// The record itself and, of a spanning one, its parts on other devices.
template <class Record>
std::vector<Record*> parts_of(const Record& part) {
  std::vector<Record*> parts{part.lead};
  for (const auto& other : part.lead->others) parts.push_back(other.get());
  return parts;
}

// The task as the pure test knows it, with this timing. (admission.cc)
policy::TaskModel model_of(const Task& task, const Timing& timing);

// What a task with this timing wants to be. (admission.cc)
TaskState state_asked_by(const Timing& timing);

inline policy::Plan plan_of(const policy::Decision& decision) {
  return {decision.prefixes, decision.staged, std::nullopt};
}

// What a task that left, or whose promise changed, may still have to do with the running window.
struct Leaving {
  const Task* task = nullptr;  // nullptr: it is gone
  Ledger::Holder arena = 0;
  policy::Demand demand;
  Timing timing;                      // that led to the demand
  int64_t last_order_ns = kNever_ns;  // of its last job in this window
  bool resumed = false;               // its task is back, and counts for both once it is in
};

// A plan by which promises could be kept: the one in force, any, or one that needs nothing but what
// is there.
enum class PlanSought : uint8_t { in_force, any, of_landed };

// Where going through promises has come to (shedding.cc).
struct Shedding {
  std::string why;       // it began
  bool together = true;  // all are tried together, or one after the other
  int64_t effort_left;   // for long searches
  size_t ended = 0;      // promises, so far
  // For those whose turn it is:
  PlanSought sought = PlanSought::in_force;
  policy::PlanSearch search = {};
  void seek_anew() {
    sought = PlanSought::in_force;
    search = {};
  }
};

struct Device {
  explicit Device(DeviceConfig device_config)
      : config(std::move(device_config)), ledger(config.description.chunk_count) {}
  DeviceConfig config;
  Ledger ledger;
  std::vector<Arena*> arenas;
  std::vector<Task*> tasks;   // in the order they were opened
  std::vector<Job*> waiting;  // any order
  Job* holder = nullptr;
  policy::Staged staged;             // of the plan in force; changes at idle instants only
  Job* stage = nullptr;              // who holds the stage; waits, or holds the device, too
  uint64_t restore_bytes_per_s = 0;  // worst reported, until then assumed
  bool bandwidth_measured = false;
  uint64_t evict_bytes_per_s = 0;
  int64_t best_effort_block_ns = 0;  // part of all promises
  double utilisation = 0;
  int64_t last_idle_ns = kNever_ns;    // the latest idle instant that was noticed
  std::vector<Leaving> leaving;        // since the device was last idle
  policy::Exposure gone;               // what could be taken of arenas that were closed since
  int64_t longest_best_effort_ns = 0;  // of best-effort jobs that have got it since
  std::string suspended;             // why bounds do not hold until it is next idle; empty: they do
  uint64_t suspensions = 0;          // how often that has been so
  std::optional<Shedding> shedding;  // while promises are being gone through
  bool review_due = false;           // at the next idle instant
  bool promote_due = false;          // a prefix is complete, or another plan is in force
  bool decision_waits = false;       // on a task or a timing, until the plan has come in
  bool settle_due = false;           // something has changed since it was settled
};

}  // namespace rtswap::arbiter
