// The arbiter: who may hold which memory, and who runs. A pure, single-threaded state machine:
//
//   step(now, event) -> effects
//
// It reads no clock, starts no thread and talks to nobody; the daemon, the embedded arbiter and the
// simulator feed it events and carry out its effects (csrc/arbiter/loop.h does so in real time).
// docs/scheduling.md explains every decision it takes.
//
// Invariants: each chunk is free or owned by exactly one arena; resident positions of an arena are
// a prefix; the running job's memory is never revoked; a chunk changes owner only after its holder
// said so or is dead; at most one job holds a device. step() throws InvariantViolation where it
// sees one broken; check() looks at the whole ledger.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "csrc/base/result.h"
#include "csrc/policy/task_model.h"
#include "csrc/protocol/messages.h"
#include "csrc/protocol/snapshot.h"

namespace rtswap::arbiter {

using protocol::SessionId;

// Which order serves jobs, and how memory is taken. `edf` is rtswap; `request_order` is the
// baseline that demo and benchmarks compare against: first come first served, whole models are
// swapped, nothing is restored ahead.
enum class Discipline : uint8_t { edf, request_order };

struct DeviceConfig {
  protocol::DeviceDescription description;  // uuid, chunks, ...
  // Time to map, set up and unmap one chunk, charged to every restored chunk by the test.
  int64_t chunk_cost_ns = 0;
  // Restore bandwidth the test assumes until a client has reported one; 0: unknown, nothing with a
  // restore is admitted before a report.
  uint64_t assumed_restore_bytes_per_s = 0;
  uint64_t static_limit_bytes = 0;  // memory beside the bank that clients may share
};

// Settings of a task by name that win over what the client declares (rtswapd --tasks).
struct TaskOverride {
  protocol::Timing timing;  // fields that are 0 are left to the client
  std::optional<bool> resident = {};
  std::optional<protocol::LatePolicy> late = {};
  std::optional<int32_t> importance = {};
};

struct Config {
  std::string version;
  uint64_t epoch = 0;
  std::vector<DeviceConfig> devices;
  Discipline discipline = Discipline::edf;
  std::map<std::string, TaskOverride> overrides;
  uint32_t wait_for_tasks = 0;
  int64_t round_trip_ns = policy::kRoundTrip_ns;  // charged to jobs
  // A job that runs this long (or ten times its declared cost, where that is longer), or a Grant or
  // Revoke that goes unanswered so long: the GPU is given to others, the memory stays its holder's
  // until it answers or dies.
  int64_t hang_timeout_ns = 10'000'000'000;
  // Sessions of an earlier life (daemon restart) that may come back. Until each has, or has died,
  // nothing is granted, however long it takes: what a living process may have mapped is never given
  // to another, since a grant over a live mapping would corrupt both.
  uint32_t sessions_to_recover = 0;
};

// ------------------------------------------------------------------------------------- events

// A process connected and was identified; Hello is its first FromClient event.
struct SessionOpened {
  SessionId session = 0;
  int64_t pid = 0;  // from peer credentials; 0 when in another pid namespace
  std::string user;
};
struct FromClient {
  SessionId session = 0;
  protocol::ClientMessage message;
};
// The link broke but the process lives: its memory stays its own, its waiting jobs are gone. It may
// come back with Hello::resumed_session.
struct SessionDisconnected {
  SessionId session = 0;
};
// The process is dead: its memory is free now.
struct SessionDied {
  SessionId session = 0;
};
// An earlier life's client process that was waited for is dead (recovery).
struct RecoveryPeerDied {};
// The instant asked for by a SetTimer effect has come (early or late wake-ups are harmless).
struct TimerFired {};

using Event = std::variant<SessionOpened, FromClient, SessionDisconnected, SessionDied,
                           RecoveryPeerDied, TimerFired>;

// ------------------------------------------------------------------------------------- effects

struct Send {
  SessionId session = 0;
  protocol::ArbiterMessage message;
};
struct CloseSession {
  SessionId session = 0;
  Error reason;
};
// Replaces the timer set before; kNoDeadline_ns: none.
struct SetTimer {
  int64_t at_ns = 0;
};

// One line of the event log: what a timeline, `top` or a test wants to know. Never steers anything.
struct Trace {
  enum class Kind : uint8_t {
    session_opened,
    session_closed,
    verdict,
    released,       // job waits
    granted_gpu,    // job holds the device (restoring what is missing)
    restore_begin,  // chunks granted
    restore_end,    // chunks landed
    evict_begin,
    evict_end,
    run_begin,  // job holds the device, and what its Run named has landed
    run_end,
    dropped,
    missed,     // job ended after its deadline
    overrun,    // job took longer than its declared cost
    suspended,  // because of this job, or of the device if none is named, bounds do not hold
    resumed,    // they hold again, of all tasks of the device
  };
  Kind kind = Kind::released;
  int64_t at_ns = 0;
  uint32_t device = 0;
  std::string task;    // "name@pid"; of the arena's first task for restore and evict
  uint64_t job = 0;    // count of this task's releases, from 0
  uint64_t bytes = 0;  // restored or evicted
  int64_t release_ns = 0;
  int64_t deadline_ns = 0;
  std::string detail;
};
const char* to_string(Trace::Kind kind) noexcept;

using Effect = std::variant<Send, CloseSession, SetTimer, Trace>;

// ------------------------------------------------------------------------------------- queries

using protocol::DeviceStats;
using protocol::Snapshot;
using protocol::TaskStats;

class Arbiter {
 public:
  explicit Arbiter(Config config);
  ~Arbiter();
  Arbiter(const Arbiter&) = delete;
  Arbiter& operator=(const Arbiter&) = delete;

  // Applies one event. `now_ns` (CLOCK_MONOTONIC) never decreases between calls. One thread at a
  // time.
  std::vector<Effect> step(int64_t now_ns, const Event& event);

  Snapshot snapshot() const;

  // Compares the whole ledger with what every arena is said to hold; throws InvariantViolation.
  // O(chunks): for tests and simulation, where it runs after every step.
  void check() const;

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace rtswap::arbiter
