// Tasks that span devices: one part on each, and jobs that get all of their devices at one instant
// or none (docs/scheduling.md, "Work on several devices"). A part counts on its device as
// best-effort work does; what is said here is what the parts have in common.
#include <algorithm>

#include "csrc/arbiter/state.h"

namespace rtswap::arbiter {
namespace {

const char* const kNoPromise =
    "it spans several devices, and a promise over several devices is not offered: it runs as best "
    "effort, when all of its devices are free";

}  // namespace

// False: the session was ended.
bool Arbiter::State::add_parts(Task& lead, const std::vector<ArenaId>& further_arenas) {
  std::vector<uint32_t> devices{lead.arena->device};
  for (const ArenaId id : further_arenas) {
    Arena* arena = find_arena(*lead.session, id);
    if (arena == nullptr) return false;
    if (std::count(devices.begin(), devices.end(), arena->device) != 0) {
      violate(*lead.session, ErrorCode::protocol_violation,
              "task " + std::to_string(lead.id) + " has two arenas on one device");
      return false;
    }
    devices.push_back(arena->device);
    auto part = std::make_unique<Task>();
    part->lead = &lead;
    part->session = lead.session;
    part->arena = arena;
    part->id = lead.id;
    part->name = lead.name;
    part->full_name = lead.full_name;
    part->timing = lead.timing;
    part->resident = lead.resident;
    part->late = lead.late;
    part->on_refusal = lead.on_refusal;
    part->importance = lead.importance;
    lead.others.push_back(std::move(part));
  }
  return true;
}

void Arbiter::State::add_parts(Job& lead) {
  for (const auto& task : lead.task->others) {
    auto part = std::make_unique<Job>();
    part->lead = &lead;
    part->id = lead.id;
    part->task = task.get();
    part->index = lead.index;
    part->sequence = lead.sequence;
    part->release_ns = lead.release_ns;
    part->eligible_ns = lead.eligible_ns;
    part->deadline_ns = lead.deadline_ns;
    part->order_ns = lead.order_ns;
    device_of(*task->arena).waiting.push_back(part.get());
    lead.others.push_back(std::move(part));
  }
}

// What the protocol says of it: loading until it is in on every device.
TaskState Arbiter::State::state_of(const Task& task) const {
  for (const Task* part : parts_of(task)) {
    if (part->state == TaskState::loading) return TaskState::loading;
  }
  return task.lead->state;
}

// Its hold ends on all devices at once, so on each it is the longest of them.
int64_t Arbiter::State::block_of(const Task& task) const {
  int64_t longest_ns = 0;
  for (const Task* part : parts_of(task)) longest_ns = std::max(longest_ns, part->block_ns);
  return longest_ns;
}

// Of a job without promise, which restores all of its memory while it holds the device.
int64_t Arbiter::State::hold_of(const Task& task) const { return block_of(task) + task.lead_ns; }

Error Arbiter::State::no_promise_for(const Task& task) const {
  return {ErrorCode::admission_refused, "task \"" + task.name + "\": " + kNoPromise};
}

// As classify, which calls it.
void Arbiter::State::classify_spanning(Task& lead) {
  if (lead.timing.period_ns > 0 && lead.on_refusal == protocol::OnRefusal::refuse) {
    refuse(lead, no_promise_for(lead));
    return;
  }
  for (Task* part : parts_of(lead)) {
    leave(*part);
    part->state = TaskState::loading;
    part->wanted = TaskState::best_effort;
    part->reason = no_promise_for(lead);
  }
  for (Task* part : parts_of(lead)) {
    policy::Decision refusal;
    if (join(*part, refusal)) continue;
    refuse(lead,
           Error{refusal.too_large ? ErrorCode::model_too_large : ErrorCode::admission_refused,
                 "on " + device_of(*part->arena).config.description.uuid + ": " + refusal.reason});
    return;
  }
}

// Whether the waiting job may have all of its devices now. `soon` keeps best-effort work that comes
// after it from overtaking it where it could start, while its other devices only end what they have
// begun;
// promised work is never held up, and where some waits, so does nobody else for this job.
// `known`: answers found since the last change of anything.
Arbiter::State::Turn Arbiter::State::turn_of(const Job& job,
                                             std::map<const Job*, Turn>& known) const {
  if (const auto found = known.find(job.lead); found != known.end()) return found->second;
  Turn& turn = known[job.lead] = Turn::now;
  for (const Job* part : parts_of(job)) {
    const Arena& arena = *part->task->arena;
    const Device& device = device_of(arena);
    if (!may_start(device, *part) || !feasible(device, arena, arena.chunks)) {
      return turn = Turn::not_yet;
    }
    if (device.holder != nullptr || strays_delay_blocks(device)) turn = Turn::soon;
    const std::vector<Job*> order = in_order(device);
    const auto own = std::find(order.begin(), order.end(), part);
    if (own == order.end()) return turn = Turn::not_yet;
    for (auto it = order.begin(); it != own; ++it) {
      const Job& before = **it;
      const Arena& its = *before.task->arena;
      if (!may_start(device, before) || !feasible(device, its, its.chunks)) continue;
      if (promised(before)) return turn = Turn::not_yet;
      // One that spans devices is asked the same. The order is one for all devices, and each asks
      // only those before it.
      if (!before.spans() || turn_of(before, known) != Turn::not_yet) turn = Turn::soon;
    }
  }
  return turn;
}

// It begins on all of its devices at once, when the last of them has what it starts with.
void Arbiter::State::trace_begin(const Job& job) {
  const std::vector<Job*> parts = parts_of(job);
  if (!std::all_of(parts.begin(), parts.end(), [](const Job* part) { return part->begun; })) return;
  for (const Job* part : parts) trace(Trace::Kind::run_begin, *part, "");
}

int64_t Arbiter::State::last_progress_ns(const Job& job) const {
  int64_t last_ns = kNever_ns;
  for (const Job* part : parts_of(job)) last_ns = std::max(last_ns, part->progress_ns);
  return last_ns;
}

// Once. The client begins no body while memory of its arena is on its way out; one that spans
// devices is told when that is over on all of them, and so is one whose client has yet to answer
// for a restore that failed.
void Arbiter::State::send_run_if_due(Job& job) {
  Job& lead = *job.lead;
  if (lead.run_sent) return;
  const std::vector<Job*> parts = parts_of(job);
  const bool leaving = std::any_of(parts.begin(), parts.end(), [this](const Job* part) {
    const Arena& arena = *part->task->arena;
    return (part->spans() && !arena.revokes.empty()) ||
           device_of(arena).ledger.has_detached(arena.key);
  });
  if (leaving) return;
  lead.run_sent = true;
  for (Job* part : parts) part->first_chunks = part->task->arena->chunks;
  // Whole-model swapping, the baseline, begins no job on a prefix; nor does one that spans devices.
  const auto& layers = lead.task->timing.layers;
  if (edf() && !layers.empty() && !lead.spans()) lead.first_chunks = layers.front().chunks;
  const bool whole = lead.first_chunks == lead.task->arena->chunks;
  send(*lead.task->session, protocol::Run{lead.id, whole ? 0 : lead.first_chunks});
  settle_others(job);
}

// The devices of its other parts have to look again.
void Arbiter::State::settle_others(const Job& job) {
  if (!job.spans()) return;
  for (const Job* part : parts_of(job)) device_of(*part->task->arena).settle_due = true;
}

}  // namespace rtswap::arbiter
