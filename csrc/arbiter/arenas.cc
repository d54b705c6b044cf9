// Arenas, and what clients report about the memory in them.
#include <algorithm>

#include "csrc/arbiter/state.h"
#include "csrc/base/check.h"

namespace rtswap::arbiter {
namespace {

// A failed restore or eviction is tried again after this, unless a job waits for it.
constexpr int64_t kRest_ns = 1'000'000'000;
// Failed restores in a row after which the job that waits for the memory is given up.
constexpr uint32_t kMostRestoreAttempts = 3;

}  // namespace

Arena& Arbiter::State::make_arena(Session& session, ArenaId id, uint32_t device, uint32_t chunks,
                                  uint32_t mutable_chunks) {
  auto arena = std::make_unique<Arena>();
  arena->key = ++last_key_;
  arena->session = &session;
  arena->id = id;
  arena->device = device;
  arena->chunks = chunks;
  arena->mutable_chunks = mutable_chunks;
  devices_[device].arenas.push_back(arena.get());
  return *(session.arenas[id] = std::move(arena));
}

Arena* Arbiter::State::find_arena(Session& session, ArenaId id) {
  const auto it = session.arenas.find(id);
  if (it != session.arenas.end()) return it->second.get();
  violate(session, ErrorCode::protocol_violation, "unknown arena " + std::to_string(id));
  return nullptr;
}

void Arbiter::State::remove_arena(Arena& arena) {
  Device& device = device_of(arena);
  RTSWAP_CHECK(arena.tasks.empty(), "an arena is removed under its tasks");
  if (window_counts(device)) {
    device.gone.arenas += arena.exposed.arenas;
    device.gone.mutable_chunks += arena.exposed.mutable_chunks;
    device.review_due = true;  // counts no longer from the next idle instant on
  }
  device.ledger.release_all(arena.key);
  std::erase(device.arenas, &arena);
  arena.session->arenas.erase(arena.id);
}

void Arbiter::State::on(Session& session, const protocol::OpenArena& message) {
  if (message.device >= devices_.size()) {
    violate(session, ErrorCode::unknown_device,
            "device " + std::to_string(message.device) + " of " + std::to_string(devices_.size()));
    return;
  }
  const auto it = session.arenas.find(message.arena);
  const bool open = it != session.arenas.end();
  const bool again = open && it->second->reopen_expected && it->second->device == message.device &&
                     message.chunks >= devices_[message.device].ledger.held(it->second->key);
  if ((open && !again) || message.mutable_chunks > message.chunks) {
    violate(session, ErrorCode::protocol_violation,
            "arena " + std::to_string(message.arena) +
                " is open already, or more of it is mutable "
                "than it has");
    return;
  }
  if (again) {
    // Named in Hello already, with what is resident; its size may have changed since.
    it->second->reopen_expected = false;
    it->second->chunks = message.chunks;
    it->second->mutable_chunks = message.mutable_chunks;
    return;
  }
  make_arena(session, message.arena, message.device, message.chunks, message.mutable_chunks);
}

void Arbiter::State::on(Session& session, const protocol::ResizeArena& message) {
  Arena* arena = find_arena(session, message.arena);
  if (arena == nullptr) return;
  Device& device = device_of(*arena);
  const bool busy = device.holder != nullptr && device.holder->task->arena == arena;
  if (message.chunks < arena->chunks || message.mutable_chunks > message.chunks || busy) {
    violate(session, ErrorCode::protocol_violation,
            "arena " + std::to_string(message.arena) +
                " can only grow, and only outside its jobs; mutable chunks are part of it");
    return;
  }
  const uint32_t old_chunks = std::exchange(arena->chunks, message.chunks);
  const uint32_t old_mutable = std::exchange(arena->mutable_chunks, message.mutable_chunks);
  if (arena->tasks.empty()) return;
  // When its jobs use what is new, nobody knows: until they are measured again they wait for all.
  std::vector<std::vector<protocol::LayerNeed>> old_layers;
  for (Task* task : arena->tasks) {
    note_request(*task);
    old_layers.push_back(std::exchange(task->timing.layers, {}));
  }
  if (const Status grown = admit_growth(*arena); grown) {
    for (Task* task : arena->tasks) tell_of_growth(*task);
  } else {
    arena->chunks = old_chunks;
    arena->mutable_chunks = old_mutable;
    for (size_t i = 0; i < old_layers.size(); ++i) {
      arena->tasks[i]->timing.layers = std::move(old_layers[i]);
    }
    for (Task* task : arena->tasks) refuse_request(*task, grown.error());
  }
}

// The promises of an arena that has the size it asks for.
Status Arbiter::State::admit_growth(Arena& arena) {
  Device& device = device_of(arena);
  const auto changes = [](const Task* task) { return task->next_timing.has_value(); };
  if (std::any_of(arena.tasks.begin(), arena.tasks.end(), changes)) {
    // One answer would be taken for that to both.
    for (Task* task : arena.tasks) task->next_timing.reset();
    return fail(ErrorCode::admission_refused,
                "a new timing that waited to come into force was given up, as was the growth of "
                "the memory meanwhile; ask for one after the other");
  }
  if (device.shedding) {  // growth would be tested without those that are in question
    return fail(ErrorCode::admission_refused,
                "it is being found out which promises can be kept; try again");
  }
  const Roll set = roll_of_all(device, arena.tasks.front());
  const policy::Decision decision = policy::admit(set.input);
  if (!decision.admitted) {
    return fail(decision.too_large ? ErrorCode::model_too_large : ErrorCode::admission_refused,
                decision.reason);
  }
  if (adopt(device, plan_of(decision), nullptr)) return {};
  if (adopt(device, in_force(device), nullptr)) return {};
  return fail(ErrorCode::admission_refused,
              "it would fit, but not before what goes on now has ended; try again");
}

void Arbiter::State::tell_of_growth(Task& task) {
  if (state_of(task) == TaskState::loading) {
    answer(task);
    return;
  }
  // The arena has grown, whatever became of the task before.
  task.lead->answer_pending = false;
  send_verdict(task, false, task.reason);
}

void Arbiter::State::on(Session& session, const protocol::CloseArena& message) {
  Arena* arena = find_arena(session, message.arena);
  if (arena == nullptr) return;
  if (!arena->tasks.empty()) {
    violate(session, ErrorCode::protocol_violation,
            "arena " + std::to_string(message.arena) + " is closed under its tasks");
    return;
  }
  remove_arena(*arena);
}

void Arbiter::State::on(Session& session, const protocol::Restored& message) {
  Arena* arena = find_arena(session, message.arena);
  if (arena == nullptr) return;
  Device& device = device_of(*arena);
  if (message.landed_chunks > device.ledger.held(arena->key) ||
      message.landed_chunks < arena->landed_chunks) {
    violate(session, ErrorCode::protocol_violation,
            "arena " + std::to_string(arena->id) + " reports " +
                std::to_string(message.landed_chunks) + " chunks landed of " +
                std::to_string(device.ledger.held(arena->key)) + " granted");
    return;
  }
  if (message.landed_chunks > arena->landed_chunks) arena->failed_restores = 0;
  if (arena->landed_chunks < arena->planned_chunks &&
      message.landed_chunks >= arena->planned_chunks) {
    device.promote_due = device.review_due = true;
  }
  arena->landed_chunks = message.landed_chunks;
  arena->silent = false;
  while (!arena->grants.empty() && arena->grants.front().end_position <= message.landed_chunks) {
    trace(Trace::Kind::restore_end, *arena, arena->grants.front().chunks, "");
    arena->grants.pop_front();
  }
  if (!arena->grants.empty()) arena->grants.front().sent_ns = now_ns_;  // it answers
  if (device.holder != nullptr && device.holder->task->arena == arena) {
    device.holder->progress_ns = now_ns_;
  }
}

void Arbiter::State::on(Session& session, const protocol::Evicted& message) {
  Arena* arena = find_arena(session, message.arena);
  if (arena == nullptr) return;
  Device& device = device_of(*arena);
  const uint32_t held = device.ledger.held(arena->key);
  if (arena->revokes.empty() || message.resident_chunks > held ||
      message.resident_chunks < std::min(held, arena->revokes.front().keep_chunks)) {
    violate(session, ErrorCode::protocol_violation,
            "arena " + std::to_string(arena->id) + " reports an eviction to " +
                std::to_string(message.resident_chunks) + " chunks that was not asked for");
    return;
  }
  // Short of what was asked: the client could not copy out or unmap. It keeps the rest.
  if (message.resident_chunks > arena->revokes.front().keep_chunks) {
    arena->rest_until_ns = now_ns_ + kRest_ns;
  }
  arena->revokes.pop_front();
  if (!arena->revokes.empty()) arena->revokes.front().sent_ns = now_ns_;  // it answers
  arena->silent = false;
  const uint32_t evicted = held - message.resident_chunks;
  device.ledger.truncate(arena->key, message.resident_chunks);
  arena->landed_chunks = std::min(arena->landed_chunks, message.resident_chunks);
  // What had not landed when it was evicted never will.
  while (!arena->grants.empty() && arena->grants.front().end_position <= arena->landed_chunks) {
    arena->grants.pop_front();
  }
  while (!arena->grants.empty() &&
         arena->grants.back().end_position - arena->grants.back().chunks >=
             message.resident_chunks) {
    arena->grants.pop_back();
  }
  if (!arena->grants.empty() && arena->grants.back().end_position > message.resident_chunks) {
    GrantInFlight& cut = arena->grants.back();
    cut.chunks -= cut.end_position - message.resident_chunks;
    cut.end_position = message.resident_chunks;
  }
  if (Task* task = charged_task(*arena)) {
    task->evicted_bytes += bytes(*arena, evicted);
    task->written_back_bytes += message.written_back_bytes;
  }
  trace(Trace::Kind::evict_end, *arena, evicted, "");
}

// Jobs that were given up while their memory came in, and now cannot begin any more.
void Arbiter::State::drop_lost(Session& session, const Arena& arena, const Error& reason) {
  std::vector<Job*> lost;
  for (const auto& [id, job] : session.jobs) {
    const std::vector<Job*> parts = parts_of(*job);
    const bool uses = std::any_of(parts.begin(), parts.end(), [&arena](const Job* part) {
      return part->task->arena == &arena;
    });
    if (uses && job->state == Job::State::lost && !may_have_begun(*job)) lost.push_back(job.get());
  }
  for (Job* job : lost) drop(*job, reason);
}

void Arbiter::State::on(Session& session, const protocol::RestoreFailed& message) {
  Arena* arena = find_arena(session, message.arena);
  if (arena == nullptr) return;
  Device& device = device_of(*arena);
  Ledger& ledger = device.ledger;
  arena->silent = false;
  arena->detached_ns = now_ns_;
  if (ledger.has_detached(arena->key)) {
    // The answer to a grant that came after the failed one and had no ground to stand on.
    ledger.free_detached(arena->key);
    return;
  }
  if (arena->grants.empty() || message.resident_chunks >= arena->grants.front().end_position) {
    violate(session, ErrorCode::protocol_violation,
            "arena " + std::to_string(arena->id) + " reports a failed restore of nothing");
    return;
  }
  // Each later grant is answered on its own; until then its chunks may still be mapped.
  const uint32_t failed_end = arena->grants.front().end_position;
  std::vector<uint32_t> borders;
  for (const GrantInFlight& grant : arena->grants) borders.push_back(grant.end_position);
  borders.pop_back();  // the last one's end is not the start of another
  ledger.detach(arena->key, borders);
  arena->grants.clear();
  ledger.truncate(arena->key, std::min(message.resident_chunks, failed_end));
  arena->landed_chunks = ledger.held(arena->key);
  arena->rest_until_ns = now_ns_ + kRest_ns;
  ++arena->failed_restores;
  trace(Trace::Kind::restore_end, *arena, 0, "failed: " + message.error.message);
  drop_lost(session, *arena, message.error);
  if (arena->failed_restores < kMostRestoreAttempts) return;
  for (Job* job : {device.holder, device.stage}) {
    if (job == nullptr || job->task->arena != arena) continue;
    arena->failed_restores = 0;
    give_up(*job, message.error);
    return;
  }
  for (Task* task : arena->tasks) {  // no promise can be given without its memory
    if (task->state != TaskState::loading) continue;
    arena->failed_restores = 0;
    refuse_request(*task, message.error);
  }
}

}  // namespace rtswap::arbiter
