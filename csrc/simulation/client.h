// One simulated process with one model: what a real client does with the protocol, and the faults.
// What becomes of its memory is in sim_arena.h.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "csrc/protocol/messages.h"
#include "csrc/simulation/sim_arena.h"
#include "csrc/simulation/simulation.h"
#include "csrc/simulation/world.h"

namespace rtswap::simulation {

class Client {
 public:
  Client(World& world, const SimTask& task, int64_t pid);

  void start();
  void receive(protocol::SessionId session, const protocol::ArbiterMessage& message);
  // The arbiter sends a verdict now; the client will hear of it.
  void note_promise(const protocol::Verdict& verdict);
  // The arbiter ended the session.
  void closed(protocol::SessionId session);

  bool owns(protocol::SessionId session) const { return session == session_; }
  protocol::SessionId session() const { return session_; }
  int64_t join_ns() const { return task_.join_ns; }
  bool healthy() const { return alive_ && connected_ && welcomed_; }

  // --- faults: each is harmless when it does not apply ------------------------------------------
  void crash();
  void disconnect();
  void hang(int64_t duration_ns);
  void lie();
  void fail_next_restore();

  SimTaskReport report() const;

 private:
  struct PendingJob {
    int64_t release_ns = 0;
    int64_t counts_from_ns = 0;  // later than its release if that came early
    int64_t deadline_ns = 0;
    bool granted = false;
    uint32_t first_chunks = 0;
  };

  void send(protocol::ClientMessage message);
  void later(int64_t at_ns, std::function<void()> action);
  void later(int64_t at_ns, void (Client::*method)());
  void open(const protocol::Welcome& welcome);
  void on(const protocol::Welcome& message) { open(message); }
  void on(const protocol::Verdict& message);
  void on(const protocol::Grant& message);
  void on(const protocol::Revoke& message);
  void on(const protocol::Run& message);
  void on(const protocol::Dropped& message);
  void on(const protocol::Begin&) {}
  void on(const protocol::Fault&) {}

  void release_next();
  int64_t next_stamp_ns();
  void schedule_release(int64_t earliest_ns);
  int64_t next_on_grid(int64_t earliest_ns);
  void cancel(protocol::JobId id);
  SimArena& arena(protocol::ArenaId id) { return arenas_[id - 1]; }
  bool wholly_resident() const;
  bool can_start(const PendingJob& job) const;
  void memory_changed();
  void try_start();
  void go_on();
  void layer_ended();
  void end_job();
  void break_off();
  void update();
  void stop_to_pause();
  void stop_to_leave();
  void stop_when_done();
  void resume();
  void end();
  void reconnect();
  void restart();
  void fail_waiting_jobs();

  World& world_;
  const SimTask task_;
  const int64_t pid_;

  uint64_t life_ = 0;  // actions of an earlier process are dead
  bool alive_ = false;
  bool connected_ = false;
  bool welcomed_ = false;
  int64_t frozen_until_ns_ = 0;
  protocol::SessionId session_ = 0;
  protocol::SessionId resumed_ = 0;
  int64_t last_sent_ns_ = 0;  // messages keep their order, each way
  int64_t last_received_ns_ = 0;

  std::vector<SimArena> arenas_;  // their ids are 1, 2, ...

  std::map<protocol::JobId, PendingJob> jobs_;
  std::optional<protocol::JobId> running_;
  size_t layer_ = 0;            // of the running job, to be executed next
  int64_t layer_ends_ns_ = -1;  // -1: it waits for memory
  int64_t execution_ns_ = 0;    // of the running job, drawn
  protocol::JobId last_job_ = 0;
  bool releasing_ = false;
  int64_t last_release_ns_ = -1;
  int64_t counts_from_ns_ = -1;  // of the last release that was sent
  size_t next_listed_ = 0;       // of SimTask::releases
  int64_t grid_ns_ = 0;          // where the next release would be without jitter
  int64_t next_release_ns_ = 0;
  int64_t last_planned_ns_ = -1;  // the plan carried out last
  enum class Wish : uint8_t { run, pause, leave };
  Wish wish_ = Wish::run;
  uint32_t requests_ = 0;  // about the task, in this session
  struct Bound {
    int64_t from_ns = 0;
    int64_t bound_ns = 0;  // 0: nothing is promised
    bool suspended = false;
  };
  std::vector<Bound> bounds_;

  SimTaskReport report_;
  std::vector<int64_t> responses_;
};

}  // namespace rtswap::simulation
