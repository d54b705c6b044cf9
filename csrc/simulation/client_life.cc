// What happens to a simulated process beside its work: it pauses, leaves, and fails.
#include <algorithm>

#include "csrc/simulation/client.h"

namespace rtswap::simulation {
namespace {

constexpr protocol::ArenaId kFirstArena = 1;
constexpr protocol::TaskId kTask = 1;
constexpr int64_t kRestartDelay_ns = 50'000'000;
constexpr int64_t kReconnectDelay_ns = 20'000'000;
constexpr int64_t kLeaveDelay_ns = 1'000'000;  // from closing the task to the process's end
constexpr int64_t kDeathNotice_ns = 100'000;   // from a process's end to the event

}  // namespace

void Client::stop_to_pause() {
  if (wish_ == Wish::run) wish_ = Wish::pause;
  stop_when_done();
}

void Client::stop_to_leave() {
  wish_ = Wish::leave;
  // Jobs that wait end with their task, wherever their memory is on its way.
  if (healthy() && !running_) {
    report_.cancelled += jobs_.size();
    jobs_.clear();
  }
  stop_when_done();
}

void Client::stop_when_done() {
  if (wish_ == Wish::run || !jobs_.empty() || !healthy()) return;
  if (wish_ == Wish::leave) {
    send(protocol::CloseTask{kTask});
    later(world_.timeline.now_ns() + kLeaveDelay_ns, &Client::end);
    return;
  }
  if (!releasing_) return;  // paused already
  releasing_ = false;
  ++requests_;
  send(protocol::PauseTask{kTask});
}

void Client::resume() {
  if (wish_ != Wish::pause || !healthy()) return;
  wish_ = Wish::run;
  if (releasing_) {  // its jobs never ended
    schedule_release(0);
    return;
  }
  ++requests_;
  send(protocol::ResumeTask{kTask});
}

void Client::fail_waiting_jobs() {
  for (auto it = jobs_.begin(); it != jobs_.end();) {
    if (running_ && it->first == *running_) {
      ++it;
      continue;
    }
    ++report_.dropped;
    it = jobs_.erase(it);
  }
}

// --- faults ------------------------------------------------------------------------------------

void Client::crash() {
  if (!alive_) return;
  end();
  later(world_.timeline.now_ns() + kRestartDelay_ns, &Client::restart);
}

// The process is gone.
void Client::end() {
  running_.reset();
  layer_ends_ns_ = -1;
  fail_waiting_jobs();
  const protocol::SessionId session = session_;
  world_.checker.died(session);
  ++life_;
  alive_ = connected_ = welcomed_ = releasing_ = false;
  frozen_until_ns_ = 0;
  session_ = 0;
  resumed_ = 0;
  counts_from_ns_ = -1;
  for (SimArena& arena : arenas_) arena.clear();
  World& world = world_;
  world.timeline.at(world.timeline.now_ns() + kDeathNotice_ns, [&world, session] {
    world.checker.died(session);  // what was granted to it meanwhile
    world.post(arbiter::SessionDied{session});
  });
}

void Client::restart() {
  if (!alive_) start();
}

void Client::disconnect() {
  if (!healthy()) return;
  connected_ = welcomed_ = false;
  if (running_ && !wholly_resident()) break_off();
  fail_waiting_jobs();
  world_.post(arbiter::SessionDisconnected{session_});
  later(world_.timeline.now_ns() + kReconnectDelay_ns, &Client::reconnect);
}

// Comes back when its job has ended and its queued work is done.
void Client::reconnect() {
  if (connected_) return;
  const bool works = std::any_of(arenas_.begin(), arenas_.end(),
                                 [](const SimArena& arena) { return !arena.idle(); });
  if (running_ || works) {
    later(world_.timeline.now_ns() + kReconnectDelay_ns, &Client::reconnect);
    return;
  }
  resumed_ = session_;
  start();
}

void Client::hang(int64_t duration_ns) {
  if (!alive_) return;
  frozen_until_ns_ = std::max(frozen_until_ns_, world_.timeline.now_ns() + duration_ns);
  world_.checker.excuse(session_);
}

void Client::lie() {
  if (!healthy()) return;
  switch (world_.random.between(0, 6)) {
    case 0:
      return send(protocol::Restored{kFirstArena, task_.arena_chunks + 7});
    case 1:
      return send(protocol::Evicted{kFirstArena, task_.arena_chunks + 1, 0});
    case 2:
      return send(protocol::JobDone{last_job_ + 1000, 1});
    case 3:
      return send(protocol::Release{last_job_ + 1000, kTask + 77, 0, 0});
    case 4:
      return send(protocol::OpenArena{kFirstArena, 0, 1, 2});
    case 5:
      return send(protocol::CloseArena{kFirstArena});
    default:
      return send(protocol::Hello{});
  }
}

void Client::closed(protocol::SessionId session) {
  if (session != session_) return;
  // What a process does about it is its own affair; this one ends.
  crash();
}

}  // namespace rtswap::simulation
