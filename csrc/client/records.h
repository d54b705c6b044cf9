// What a session remembers of its arenas, tasks and jobs. Plain data, guarded by the session's
// mutex; the rules are in the files of Core.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "csrc/base/unique_fd.h"
#include "csrc/client/session.h"

namespace rtswap::client {

// Size of an arena as the arbiter counts it.
struct ArenaSize {
  uint32_t chunks = 0;
  uint32_t mutable_chunks = 0;
  bool operator==(const ArenaSize&) const = default;
};

// Tasks and jobs use the memory of an arena on each of their devices.
template <class Record>
bool uses(const Record& record, engine::ArenaId arena) {
  return std::find(record.arenas.begin(), record.arenas.end(), arena) != record.arenas.end();
}

// A grant that the engine works on.
struct GrantInEngine {
  uint32_t end_position = 0;
  uint32_t revokes_before = 0;  // it lands only after these were answered
};

struct ArenaRecord {
  engine::ArenaId id = 0;
  uint32_t device = 0;
  std::string label;
  ArenaSize size;                      // all its segments
  std::optional<ArenaSize> published;  // what the arbiter knows; none: not the arena itself

  // A ResizeArena that tasks have not been tested with yet: the verdict on `task` that answers
  // request number `request` decides.
  struct Resize {
    protocol::TaskId task = 0;
    uint32_t request = 0;
    ArenaSize before;
  };
  std::optional<Resize> resize;
  std::optional<Error> resize_refused;  // for the thread that asked

  uint32_t landed = 0;         // of the resident prefix, as the engine reported
  uint32_t next_position = 0;  // where the next grant continues
  std::deque<GrantInEngine> grants;
  uint32_t revokes_given = 0;
  uint32_t revokes_answered = 0;
  std::optional<Error> evict_failure;  // of the last eviction, explained
  bool closing = false;                // commands for it are void

  // Its first `chunks` are there and stay; more than it has, or 0: all of them.
  bool resident(uint32_t chunks) const {
    if (!published || revokes_given != revokes_answered) return false;
    return landed >= (chunks == 0 ? published->chunks : std::min(chunks, published->chunks));
  }
};

struct TaskRecord {
  protocol::TaskId id = 0;
  std::vector<engine::ArenaId> arenas;  // one on each of its devices
  TaskOptions options;                  // its timing: the last one that was not refused
  Verdict verdict;                      // the last one
  uint32_t requests = 0;                // sent on this link; answered: verdict.requests_answered
  std::optional<Error> refusal;         // the answer to the last request, if it was that

  struct Update {
    uint32_t request = 0;
    Timing timing;
  };
  std::optional<Update> update;  // not answered yet
  bool paused = false;           // by the client
  bool closed = false;
  uint64_t released = 0;
  // From where the deadline of the last job with one counted; INT64_MIN: there was none.
  int64_t counted_from_ns = INT64_MIN;
};

struct JobRecord {
  enum class State : uint8_t {
    waiting,
    ready,     // granted, and what it starts with is resident; its owner does not know yet
    started,   // its owner knows and uses the memory
    ending,    // the device work is waited for
    settling,  // over for its owner; its arena is still being restored
    over,
  };
  protocol::JobId id = 0;
  protocol::TaskId task = 0;
  std::vector<engine::ArenaId> arenas;  // of its task
  State state = State::waiting;
  bool granted = false;  // Run has come
  Start start = Start::whole;
  uint32_t first_chunks = 0;      // of Run, when granted
  std::optional<Error> given_up;  // while its owner may use the memory: no more comes
  JobInfo info;
  int64_t requested_ns = 0;
  int64_t woken_ns = 0;  // when its owner learned of the start
  uint64_t restored_before_bytes = 0;
  std::optional<Error> error;  // over without having been ended
  UniqueFd ready_fd;
  std::condition_variable changed;
  std::atomic<bool> announced = false;  // that it waits no longer; for those without the mutex

  // Its owner may be using the device.
  bool runs() const { return state == State::started || state == State::ending; }
};

}  // namespace rtswap::client
