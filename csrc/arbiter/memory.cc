// Who gets memory, and from whom.
#include <algorithm>

#include "csrc/arbiter/state.h"
#include "csrc/base/check.h"
#include "csrc/policy/victims.h"

namespace rtswap::arbiter {
namespace {

// Later than every deadline, but wanted; and not wanted by anybody.
constexpr int64_t kSomeday_ns = INT64_MAX - 1;
constexpr int64_t kNotWanted_ns = INT64_MAX;

bool answers(const Arena& arena) {
  return arena.session->phase == Session::Phase::active && !arena.silent;
}

bool wants_memory(const Task& task) {
  return task.state == TaskState::admitted || task.state == TaskState::warming ||
         task.state == TaskState::best_effort || task.state == TaskState::loading;
}

}  // namespace

uint32_t Arbiter::State::kept(const Device& device, const Arena& arena) const {
  const uint32_t held = device.ledger.held(arena.key);
  return arena.revokes.empty() ? held : std::min(held, arena.revokes.back().keep_chunks);
}

// Chunks asked back that clients still owe.
uint32_t Arbiter::State::incoming(const Device& device) const {
  uint32_t chunks = 0;
  for (const Arena* arena : device.arenas) {
    if (answers(*arena)) chunks += device.ledger.held(arena->key) - kept(device, *arena);
  }
  return chunks;
}

uint32_t Arbiter::State::in_flight(const Device& device, const Arena* except) const {
  uint32_t chunks = 0;
  for (const Arena* arena : device.arenas) {
    if (arena != except && answers(*arena))
      chunks += device.ledger.held(arena->key) - arena->landed_chunks;
  }
  return chunks;
}

// Memory of an arena is asked back that has to land first.
bool Arbiter::State::lands_and_leaves(const Device& device) const {
  return std::any_of(device.arenas.begin(), device.arenas.end(), [&](const Arena* arena) {
    return answers(*arena) && !arena->revokes.empty() &&
           arena->landed_chunks < device.ledger.held(arena->key);
  });
}

// Of a job that was cancelled while its memory came in, more may be on its way than blocks or leads
// are charged with: until it is there, that job keeps device or stage (docs/scheduling.md, rules 2
// and 7).
bool Arbiter::State::strays_delay_blocks(const Device& device) const {
  if (!edf()) return false;
  if (lands_and_leaves(device)) return true;
  const policy::LinkModel link = link_of(device);
  const uint32_t charged_chunks =
      device.staged.empty() ? link.prefetch_chunks : policy::staging_link(link).lead_chunks;
  return in_flight(device, nullptr) + incoming(device) > charged_chunks;
}

// What a holder restores is charged to those whose leads it delays.
bool Arbiter::State::strays_delay_leads(const Device& device) const {
  const bool restores = device.holder != nullptr && !device.holder->complete;
  return !restores &&
         in_flight(device, nullptr) + incoming(device) > link_of(device).prefetch_chunks;
}

// What may be taken of it: never its planned prefix, nor the lead of the stage's holder.
uint32_t Arbiter::State::evictable(const Device& device, const Arena& arena) const {
  const bool in_use = device.holder != nullptr && device.holder->task->arena == &arena;
  if (!answers(arena) || in_use || arena.lost_jobs > 0 || arena.rest_until_ns > now_ns_ ||
      device.ledger.has_detached(arena.key)) {
    return 0;
  }
  const uint32_t chunks = kept(device, arena);
  const bool leads = device.stage != nullptr && device.stage->task->arena == &arena;
  const uint32_t safe = std::max(arena.planned_chunks, leads ? lead_end(device, arena) : 0);
  return chunks - std::min(chunks, safe);
}

// Could the arena have its first `chunks`?
bool Arbiter::State::feasible(const Device& device, const Arena& arena, uint32_t chunks) const {
  if (!answers(arena) || arena.lost_jobs > 0) return false;
  const uint32_t missing = chunks - std::min(chunks, kept(device, arena));
  if (missing == 0) return true;
  uint32_t available = device.ledger.free_chunks() + incoming(device);
  for (const Arena* other : device.arenas) {
    if (available >= missing) break;
    if (other != &arena) available += evictable(device, *other);
  }
  return available >= missing;
}

bool Arbiter::State::feed_holder(Device& device) {
  Job& job = *device.holder;
  Arena& arena = *job.task->arena;
  if (job.complete || job.abandoned) return true;
  // Its session is gone but it may run: nothing can be done for it.
  if (arena.session->phase != Session::Phase::active) return true;
  send_run_if_due(job);
  if (device.ledger.has_detached(arena.key)) return true;
  uint32_t missing = arena.chunks - kept(device, arena);
  const uint32_t now = std::min(missing, device.ledger.free_chunks());
  if (now > 0 && arena.revokes.empty()) {
    grant(device, arena, now, "");
    job.progress_ns = now_ns_;
  }
  missing -= now;
  const uint32_t coming = incoming(device);
  if (missing > coming) {
    const uint32_t short_of = missing - coming - revoke(device, arena, missing - coming, kNever_ns);
    if (short_of > 0) {
      give_up(job, Error{ErrorCode::out_of_memory,
                         "memory for \"" + job.task->name +
                             "\" is held by clients that do not answer or cannot give it back"});
      return device.holder != nullptr;
    }
  }
  note_progress(device);
  return true;
}

void Arbiter::State::grant(Device& device, Arena& arena, uint32_t chunks, const char* why) {
  protocol::Grant message;
  message.arena = arena.id;
  message.first_position = device.ledger.held(arena.key);
  message.chunks = device.ledger.grant(arena.key, chunks);
  arena.grants.push_back(GrantInFlight{message.first_position + chunks, chunks, now_ns_});
  if (Task* task = charged_task(arena)) task->restored_bytes += bytes(arena, chunks);
  trace(Trace::Kind::restore_begin, arena, chunks, why);
  send(*arena.session, std::move(message));
}

// Asks for `shortfall` chunks back, of arenas whose next deadline is later than the given one.
// Returns how many are on their way.
uint32_t Arbiter::State::revoke(Device& device, const Arena& beneficiary, uint32_t shortfall,
                                int64_t later_than_ns) {
  for (Task* task : device.tasks) task->waiting_deadline_ns = kNotWanted_ns;
  for (const Job* job : device.waiting) {
    const int64_t deadline_ns = promised(*job) ? job->order_ns : kSomeday_ns;
    job->task->waiting_deadline_ns = std::min(job->task->waiting_deadline_ns, deadline_ns);
  }
  // A job whose arena both comes in and is asked back would wait for both: only the holder may
  // make that so, who is charged for it.
  const bool for_holder = device.holder != nullptr && device.holder->task->arena == &beneficiary;
  std::vector<policy::VictimCandidate> candidates;
  std::vector<Arena*> arenas;
  for (Arena* arena : device.arenas) {
    const uint32_t chunks = arena == &beneficiary ? 0 : evictable(device, *arena);
    const bool lands = arena->landed_chunks < device.ledger.held(arena->key);
    if (chunks == 0 || (edf() && lands && !for_holder)) continue;
    const int64_t next_ns = next_deadline(*arena);
    if (next_ns <= later_than_ns) continue;
    candidates.push_back({arenas.size(), chunks, next_ns, arena->last_used_ns});
    arenas.push_back(arena);
  }
  const auto order =
      edf() ? policy::VictimOrder::latest_deadline : policy::VictimOrder::least_recently_used;
  uint32_t coming = 0;
  for (const policy::Take& take : policy::choose_victims(std::move(candidates), shortfall, order)) {
    Arena& victim = *arenas[take.arena];
    // The baseline is what swapping whole models is elsewhere: one goes out, then the next comes
    // in.
    const std::vector<uint32_t> batches =
        edf() ? policy::batches_of(link_of(device), take.chunks) : std::vector{take.chunks};
    for (const uint32_t chunks : batches) {
      const uint32_t keep = kept(device, victim) - chunks;
      victim.revokes.push_back(RevokeInFlight{keep, now_ns_});
      trace(Trace::Kind::evict_begin, victim, chunks, "");
      send(*victim.session, protocol::Revoke{victim.id, keep});
    }
    coming += take.chunks;
  }
  return std::min(coming, shortfall);
}

int64_t Arbiter::State::next_release(const Task& task) const {
  if (task.timing.period_ns == 0) return kSomeday_ns;
  if (task.last_release_ns == kNever_ns) return now_ns_;
  return std::max(now_ns_, task.last_release_ns + task.timing.period_ns);
}

// REQUIRES: waiting_deadline_ns of the tasks is up to date.
int64_t Arbiter::State::next_deadline(const Arena& arena) const {
  int64_t earliest_ns = kNotWanted_ns;
  for (const Task* task : arena.tasks) {
    if (!wants_memory(*task)) continue;
    int64_t next_ns = task->waiting_deadline_ns;
    if (next_ns == kNotWanted_ns) {
      next_ns = task->state == TaskState::admitted ? next_release(*task) + task->timing.deadline_ns
                                                   : kSomeday_ns;
    }
    earliest_ns = std::min(earliest_ns, next_ns);
  }
  return earliest_ns;
}

// While the copy engine has nothing urgent: first for jobs that wait under a promise, then for
// prefixes that the plan wants, which may be taken from other jobs that wait, then for these, then
// for tasks by their next release, into free memory only. Never more at a time
// than is charged, so that a job that comes in between waits for no more than that. While the stage
// is held, for its holder only.
void Arbiter::State::prefetch(Device& device) {
  if (device.holder != nullptr && !device.holder->complete) return;
  const uint32_t busy = in_flight(device, nullptr) + incoming(device);
  const uint32_t most = most_in_flight(device);
  if (busy >= most) return;
  const uint32_t budget = most - busy;
  if (device.stage != nullptr) {
    restore_lead(device, budget);
    return;
  }
  const std::vector<Job*> jobs = in_order(device);
  const auto other =
      std::find_if(jobs.begin(), jobs.end(), [this](Job* job) { return !promised(*job); });
  const auto restore_ahead = [&](const Job* job) {
    const int64_t deadline_ns = promised(*job) ? job->order_ns : kSomeday_ns;
    Arena& arena = *job->task->arena;
    return prefetch_into(device, arena, arena.chunks, budget, deadline_ns, true);
  };
  if (std::any_of(jobs.begin(), other, restore_ahead) || prefetch_plan(device, budget) ||
      std::any_of(other, jobs.end(), restore_ahead)) {
    return;
  }
  if (device.ledger.free_chunks() == 0) return;
  std::vector<std::pair<int64_t, Arena*>> next;
  for (const Task* task : device.tasks) {
    // One that is loading gets its prefix: no test has counted what more could be taken of it.
    if (task->state != TaskState::loading && wants_memory(*task) &&
        device.ledger.held(task->arena->key) < task->arena->chunks) {
      next.emplace_back(next_release(*task), task->arena);
    }
  }
  std::sort(next.begin(), next.end(), [](const auto& a, const auto& b) {
    return std::tie(a.first, a.second->key) < std::tie(b.first, b.second->key);
  });
  for (const auto& [release_ns, arena] : next) {
    if (prefetch_into(device, *arena, arena->chunks, budget, kSomeday_ns, false)) return;
  }
}

// The plan's prefixes. What waiting jobs have is left to them, unless they came early; all else
// beyond the plan may go.
bool Arbiter::State::prefetch_plan(Device& device, uint32_t budget) {
  int64_t last_deadline_ns = kNever_ns;
  for (const Job* job : device.waiting) {
    if (!promised(*job) || job->eligible_ns > now_ns_) continue;
    last_deadline_ns = std::max(last_deadline_ns, job->order_ns);
  }
  return std::any_of(device.arenas.begin(), device.arenas.end(), [&](Arena* arena) {
    return prefetch_into(device, *arena, arena->planned_chunks, budget, last_deadline_ns, true);
  });
}

// Nothing of it is on its way out.
bool Arbiter::State::can_restore(const Device& device, const Arena& arena) const {
  return answers(arena) && arena.revokes.empty() && arena.lost_jobs == 0 &&
         !device.ledger.has_detached(arena.key);
}

// Not all prefixes of the plan in force are there, but they can still come.
bool Arbiter::State::plan_comes_in(const Device& device) const {
  return std::any_of(device.arenas.begin(), device.arenas.end(), [&](const Arena* arena) {
    const uint32_t there = std::min(arena->landed_chunks, kept(device, *arena));
    return there < arena->planned_chunks && arena->rest_until_ns <= now_ns_ &&
           feasible(device, *arena, arena->planned_chunks);
  });
}

// Grants what is free and asks for the rest of `chunks`. Returns how many are on their way.
uint32_t Arbiter::State::restore(Device& device, Arena& arena, uint32_t chunks,
                                 int64_t later_than_ns) {
  const uint32_t now = std::min(chunks, device.ledger.free_chunks());
  if (now > 0) grant(device, arena, now, "prefetch");
  if (now == chunks) return now;
  return now + revoke(device, arena, chunks - now, later_than_ns);
}

// Up to the first `chunks` of the arena. True when memory was granted or asked for.
bool Arbiter::State::prefetch_into(Device& device, Arena& arena, uint32_t chunks, uint32_t budget,
                                   int64_t deadline_ns, bool may_evict) {
  const uint32_t held = device.ledger.held(arena.key);
  const uint32_t missing = chunks - std::min(chunks, held);
  if (missing == 0 || arena.rest_until_ns > now_ns_ || !can_restore(device, arena)) return false;
  const uint32_t wanted = std::min(missing, budget);
  if (may_evict) return restore(device, arena, wanted, deadline_ns) > 0;
  const uint32_t now = std::min(wanted, device.ledger.free_chunks());
  return now > 0 && restore(device, arena, now, deadline_ns) > 0;
}

}  // namespace rtswap::arbiter
