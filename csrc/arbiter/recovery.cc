// Clients that come back: after a lost link, and after a restart of the arbiter.
#include <algorithm>
#include <set>

#include "csrc/arbiter/state.h"

namespace rtswap::arbiter {

bool Arbiter::State::resume(Session& session, const protocol::Hello& hello) {
  const auto it = sessions_.find(hello.resumed_session);
  if (it != sessions_.end() && it->second->phase == Session::Phase::faulted) {
    violate(session, ErrorCode::closed, "the session to resume was ended by the arbiter");
    return false;
  }
  if (it == sessions_.end()) return recover(session, hello);
  Session& old = *it->second;
  if (&old == &session || old.phase == Session::Phase::opened || old.pid != session.pid) {
    violate(session, ErrorCode::protocol_violation,
            "session " + std::to_string(hello.resumed_session) + " belongs to another process");
    return false;
  }
  return take_over(session, old, hello);
}

// The old session's memory passes to the new one. What the client holds may be less than the ledger
// says, because grants under way when the link broke are lost; more, or other chunks, is a lie.
bool Arbiter::State::take_over(Session& session, Session& old, const protocol::Hello& hello) {
  std::set<ArenaId> named;
  for (const protocol::HeldArena& held : hello.held) {
    const auto it = old.arenas.find(held.arena);
    if (it == old.arenas.end() && held.resident.empty()) continue;  // it is opened anew
    const bool known = it != old.arenas.end() && it->second->device == held.device;
    const std::vector<ChunkId> owned =
        known ? devices_[held.device].ledger.positions(it->second->key) : std::vector<ChunkId>();
    if (!known || !named.insert(held.arena).second || held.resident.size() > owned.size() ||
        !std::equal(held.resident.begin(), held.resident.end(), owned.begin())) {
      violate(session, ErrorCode::protocol_violation,
              "arena " + std::to_string(held.arena) +
                  " is named twice, or claims chunks that are not its own");
      return false;
    }
  }
  session.static_bytes = old.static_bytes;
  std::vector<Job*> jobs;
  for (const auto& [id, job] : old.jobs) jobs.push_back(job.get());
  for (Job* job : jobs) erase(*job);  // a client that resumes runs no job
  std::vector<Task*> tasks;
  for (const auto& [id, task] : old.tasks) tasks.push_back(task.get());
  for (Task* task : tasks) remove_task(*task);  // they are opened again
  for (const protocol::HeldArena& held : hello.held) {
    const auto it = old.arenas.find(held.arena);
    if (it == old.arenas.end()) continue;
    Device& device = devices_[held.device];
    Arena& arena = *it->second;
    device.ledger.truncate(arena.key, static_cast<uint32_t>(held.resident.size()));
    while (device.ledger.has_detached(arena.key)) device.ledger.free_detached(arena.key);
    arena.session = &session;
    arena.chunks = std::max(held.chunks, device.ledger.held(arena.key));
    arena.landed_chunks = device.ledger.held(arena.key);
    // Others are not charged with what the plan in force keeps of it.
    arena.planned_chunks = std::min(arena.planned_chunks, arena.landed_chunks);
    arena.guaranteed_chunks = 0;  // until its tasks are open again
    arena.grants.clear();
    arena.revokes.clear();
    arena.silent = false;
    arena.reopen_expected = true;
    arena.rest_until_ns = kNever_ns;
    session.arenas[held.arena] = std::move(it->second);
    old.arenas.erase(it);
  }
  remove_session(old);  // with the arenas that the client does not hold any more
  return true;
}

// A session of an earlier arbiter life: the ledger is filled from what the client holds. Two that
// claim the same chunk cannot both be right; the second gets nothing.
bool Arbiter::State::recover(Session& session, const protocol::Hello& hello) {
  if (!recovering()) {
    violate(session, ErrorCode::closed,
            "session " + std::to_string(hello.resumed_session) +
                " is not known: it has ended; start the process anew");
    return false;
  }
  --sessions_to_recover_;
  for (const protocol::HeldArena& held : hello.held) {
    uint32_t index = 0;
    while (index < devices_.size() && devices_[index].config.description.uuid != held.device_uuid) {
      ++index;
    }
    if (index == devices_.size()) continue;  // taken out of the configuration, with its memory
    if (session.arenas.count(held.arena) != 0 || held.resident.size() > held.chunks) {
      violate(session, ErrorCode::protocol_violation,
              "arena " + std::to_string(held.arena) + " is reported twice or beyond its size");
      return false;
    }
    // How much of it is mutable is known when it is opened again.
    Arena& arena = make_arena(session, held.arena, index, held.chunks, held.chunks);
    arena.reopen_expected = true;
    if (!devices_[index].ledger.claim(arena.key, held.resident)) {
      violate(session, ErrorCode::protocol_violation,
              "arena " + std::to_string(held.arena) +
                  " claims a chunk that another arena holds or that does not exist");
      return false;
    }
    arena.landed_chunks = static_cast<uint32_t>(held.resident.size());
  }
  return true;
}

void Arbiter::State::on(const RecoveryPeerDied&) {
  if (sessions_to_recover_ > 0) --sessions_to_recover_;
}

}  // namespace rtswap::arbiter
