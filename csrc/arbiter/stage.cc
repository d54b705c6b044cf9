// The stage: one staged job at a time restores its lead beside direct ones (docs/scheduling.md,
// "Staged tasks"). Jobs without promise of a staged arena pass it by: they restore while they hold
// the device.
#include <algorithm>

#include "csrc/arbiter/state.h"
#include "csrc/policy/stage_rules.h"

namespace rtswap::arbiter {

uint32_t Arbiter::State::lead_end(const Device& device, const Arena& arena) const {
  const auto it = device.staged.find(arena.key);
  return it == device.staged.end() ? 0 : it->second;
}

bool Arbiter::State::staged(const Job& job) const {
  const Arena& arena = *job.task->arena;
  return promised(job) && lead_end(device_of(arena), arena) > 0;
}

bool Arbiter::State::staged_work_waits(const Device& device) const {
  if (device.stage != nullptr && staged(*device.stage)) return true;
  return std::any_of(device.waiting.begin(), device.waiting.end(), [this](const Job* job) {
    return staged(*job) && job->eligible_ns <= now_ns_;
  });
}

// To the waiting staged job with the earliest deadline that can have its lead. Only the end of its
// promise takes it from a job.
void Arbiter::State::give_stage(Device& device) {
  const Job* holder = device.stage;
  if (holder != nullptr && holder->state == Job::State::waiting && !staged(*holder)) {
    device.stage = nullptr;
  }
  if (device.stage != nullptr || device.staged.empty() || strays_delay_leads(device)) return;
  for (Job* job : in_order(device)) {
    const Arena& arena = *job->task->arena;
    if (!staged(*job) || !feasible(device, arena, lead_end(device, arena))) continue;
    device.stage = job;
    return;
  }
}

bool Arbiter::State::staged_may_start(const Device& device, const Job& job) const {
  if (device.stage != &job) return false;
  const Arena& arena = *job.task->arena;
  policy::LeadView view;
  view.arena_chunks = arena.chunks;
  view.lead_end = lead_end(device, arena);
  view.landed_chunks = arena.landed_chunks;
  view.leaving = !arena.revokes.empty() || device.ledger.has_detached(arena.key);
  view.others_in_flight = in_flight(device, &arena) + incoming(device);
  return policy::run_may_begin(view);
}

int64_t Arbiter::State::earliest_start(const Device& device, const Job& job) const {
  if (device.staged.empty() || !promised(job) || staged(job)) return job.eligible_ns;
  return std::max(job.eligible_ns,
                  policy::earliest_start_ns(job.order_ns, job.task->timing.deadline_ns));
}

// What is left of the copy engine goes to the lead, whose job waits for it: at the cost of anybody.
void Arbiter::State::restore_lead(Device& device, uint32_t budget) {
  if (device.stage == device.holder) return;
  Arena& arena = *device.stage->task->arena;
  const uint32_t end = lead_end(device, arena);
  // What was asked back before comes to it, too.
  const uint32_t coming = device.ledger.held(arena.key) + incoming(device);
  if (coming >= end || !can_restore(device, arena)) return;
  restore(device, arena, std::min(end - coming, budget), kNever_ns);
}

}  // namespace rtswap::arbiter
