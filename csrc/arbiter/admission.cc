// Between the arbiter's records and the pure test of csrc/policy: who is in the set, what the plan
// in force is, and how both change while promises are being kept (docs/scheduling.md, "When tasks
// come and go").
//
// What makes a promise harder to keep (a task that joins, a prefix that shrinks) happens at once,
// if the test passes. What makes it easier (a task that leaves, a prefix that has grown) counts
// from the next idle instant on: until then, work that it has already done to the running window
// stays in the test.
#include <algorithm>

#include "csrc/arbiter/state.h"
#include "csrc/policy/advice.h"
#include "csrc/policy/stage_rules.h"

namespace rtswap::arbiter {
namespace {

// Where nobody waits for the answer, no better plan is sought for longer (some 2 ms).
constexpr int64_t kReviewEffort = 200'000;

bool is_in(TaskState state) {
  return state == TaskState::admitted || state == TaskState::best_effort ||
         state == TaskState::warming;
}

// What can be taken of an arena that has `chunks` and keeps `prefix` of them. Mutable ones may lie
// anywhere. Of a session that was ended nothing comes back.
policy::Exposure exposed_beyond(const Arena& arena, uint32_t chunks, uint32_t prefix) {
  if (arena.session->phase == Session::Phase::faulted) return {};
  const uint32_t beyond = chunks - std::min(chunks, prefix);
  return {beyond > 0 ? 1U : 0U, std::min(arena.mutable_chunks, beyond)};
}

void add(policy::Exposure& sum, const policy::Exposure& more) {
  sum.arenas += more.arenas;
  sum.mutable_chunks += more.mutable_chunks;
}

std::string no_way(const Task& task) {
  return "the tasks would fit, but there is no way from the present plan to theirs that keeps "
         "every promise; open \"" +
         task.name + "\" before the others, or pause one of them meanwhile";
}

}  // namespace

policy::TaskModel model_of(const Task& task, const Timing& timing) {
  policy::TaskModel model;
  model.name = task.full_name;
  model.period_ns = timing.period_ns;
  model.deadline_ns = timing.deadline_ns;
  model.wcet_ns = timing.wcet_ns;
  for (const protocol::LayerNeed& layer : timing.layers) {
    model.layers.push_back({layer.chunks, layer.execution_ns});
  }
  model.arena = task.arena->key;
  model.arena_chunks = task.arena->chunks;
  model.mutable_chunks = task.arena->mutable_chunks;
  model.resident = task.resident;
  return model;
}

TaskState state_asked_by(const Timing& timing) {
  if (timing.period_ns == 0) return TaskState::best_effort;
  return timing.wcet_ns == 0 ? TaskState::warming : TaskState::admitted;
}

// Memory of sessions that were ended but whose process lives is out of reach.
uint32_t Arbiter::State::usable_chunks(const Device& device) const {
  uint32_t usable = device.ledger.chunk_count();
  for (const Arena* arena : device.arenas) {
    if (arena->session->phase == Session::Phase::faulted) usable -= device.ledger.owned(arena->key);
  }
  return usable;
}

policy::LinkModel Arbiter::State::link_of(const Device& device) const {
  policy::LinkModel link;
  link.restore_bytes_per_s = device.restore_bytes_per_s;
  link.evict_bytes_per_s = device.evict_bytes_per_s;
  link.chunk_bytes = device.config.description.chunk_bytes;
  link.chunk_cost_ns = device.config.chunk_cost_ns;
  link.overhead_ns = config_.round_trip_ns;
  link.prefetch_chunks = policy::quantum_chunks(link.chunk_bytes);
  return link;
}

// Of what is restored ahead: a quantum, or for a lead as much as a plan with staged tasks is
// charged with.
uint32_t Arbiter::State::most_in_flight(const Device& device) const {
  const policy::LinkModel link = link_of(device);
  return device.stage == nullptr ? link.prefetch_chunks : policy::staging_link(link).lead_chunks;
}

// No admitted job waits or holds the device or the stage, and what is left in flight, of a lead or
// of a job that was cancelled, is no more than direct jobs are charged with: whatever happened
// before, no later window begins before now.
bool Arbiter::State::idle(const Device& device) const {
  if (device.holder != nullptr) return false;
  const bool waits =
      std::any_of(device.waiting.begin(), device.waiting.end(),
                  [this](const Job* job) { return promised(*job) && job->eligible_ns <= now_ns_; });
  if (waits) return false;
  return !edf() || (!lands_and_leaves(device) && in_flight(device, nullptr) + incoming(device) <=
                                                     link_of(device).prefetch_chunks);
}

// Whether what has happened since the device was last idle is in a window of the test. While bounds
// are suspended it is in none: they hold from the next idle instant on.
bool Arbiter::State::window_counts(const Device& device) const {
  return !idle(device) && device.suspended.empty();
}

Arbiter::State::Roll Arbiter::State::roll_of_those_in(const Device& device, const Task* joining,
                                                      const Task* candidate) const {
  const auto as_it_stands = [joining](const Task& task) {
    return Standing{&task == joining ? task.wanted : task.state, &task.timing};
  };
  return roll(device, as_it_stands, candidate);
}

Arbiter::State::Roll Arbiter::State::roll_of_all(const Device& device,
                                                 const Task* candidate) const {
  const auto as_it_wants = [](const Task& task) {
    if (task.next_timing && task.next_timing_fits) {
      return Standing{state_asked_by(*task.next_timing), &*task.next_timing};
    }
    const bool loads = task.state == TaskState::loading;
    return Standing{loads ? task.wanted : task.state, &task.timing};
  };
  return roll(device, as_it_wants, candidate);
}

Arbiter::State::Roll Arbiter::State::roll(const Device& device,
                                          const std::function<Standing(const Task&)>& standing_of,
                                          const Task* candidate) const {
  Roll roll;
  policy::AdmissionInput& input = roll.input;
  for (Task* task : device.tasks) {
    const auto [state, timing] = standing_of(*task);
    if (edf() && state == TaskState::admitted && !task->in_question) {
      if (task == candidate) input.candidate = input.promised.size();
      input.promised.push_back(model_of(*task, *timing));
      input.may_run_late.push_back(task->late == protocol::LatePolicy::run);
      roll.promised.push_back(task);
    } else if (is_in(state)) {
      input.best_effort.push_back(model_of(*task, *timing));
      if (task->spans()) {
        input.best_effort.back().hold_ns = block_of(*task);
        input.best_effort.back().layers.clear();
      }
      roll.best_effort.push_back(task);
    }
  }
  input.link = link_of(device);
  input.bank_chunks = usable_chunks(device);
  input.staging = true;
  const auto in_set = [&](const Arena* arena) {
    const auto uses = [arena](const Task* task) { return task->arena == arena; };
    return std::any_of(roll.promised.begin(), roll.promised.end(), uses) ||
           std::any_of(roll.best_effort.begin(), roll.best_effort.end(), uses);
  };
  for (const Arena* arena : device.arenas) {
    if (in_set(arena)) continue;
    roll.others.push_back(arena);
    // For planning; the test of a plan knows more (note_exposed).
    add(input.others, exposed_beyond(*arena, device.ledger.held(arena->key), 0));
  }
  return roll;
}

policy::Plan Arbiter::State::in_force(const Device& device) const {
  policy::Plan plan;
  for (const Arena* arena : device.arenas) plan.prefixes[arena->key] = arena->planned_chunks;
  plan.staged = device.staged;
  return plan;
}

// What may be charged as resident under `prefixes` from now on. In the middle of a window, an arena
// that the window may have used already counts no better than before.
policy::Prefixes Arbiter::State::guaranteed(const Device& device,
                                            const policy::Prefixes& prefixes) const {
  const bool counts = window_counts(device);
  policy::Prefixes guarantee;
  for (const Arena* arena : device.arenas) {
    const bool in_window =
        counts && (std::any_of(arena->tasks.begin(), arena->tasks.end(),
                               [this](const Task* task) {
                                 return edf() && task->state == TaskState::admitted;
                               }) ||
                   std::any_of(device.leaving.begin(), device.leaving.end(),
                               [arena](const Leaving& left) { return left.arena == arena->key; }));
    const uint32_t there = std::min(arena->landed_chunks, kept(device, *arena));
    guarantee[arena->key] = std::min(in_window ? arena->guaranteed_chunks : there,
                                     policy::prefix_of(prefixes, arena->key));
  }
  return guarantee;
}

// Would the promises of those that are in, and of `joining` if given, hold under `plan` with what
// is there now?
Arbiter::State::Assessment Arbiter::State::assess(const Device& device, const policy::Plan& plan,
                                                  const Task* joining,
                                                  policy::Effort* effort) const {
  Assessment result;
  result.set = roll_of_those_in(device, joining, nullptr);
  if (window_counts(device)) {
    for (const Leaving& left : device.leaving) {
      const bool counts_itself = left.resumed && left.task != nullptr &&
                                 (left.task == joining || left.task->state == TaskState::admitted);
      if (!counts_itself) result.set.input.leaving.push_back(left.demand);
    }
  }
  // What the plan keeps for others, that are loading, is no victim either.
  uint32_t& bank_chunks = result.set.input.bank_chunks;
  for (const Arena* arena : result.set.others) {
    bank_chunks -= std::min(bank_chunks, policy::prefix_of(plan.prefixes, arena->key));
  }
  note_exposed(device, plan.prefixes, result);
  result.guarantee = guaranteed(device, plan.prefixes);
  result.decision =
      policy::test(result.set.input, plan.prefixes, result.guarantee, plan.staged, effort);
  return result;
}

// What can be taken of each arena under a plan with these prefixes: of those in the set the test
// knows. In the middle of a window, what could be taken before it stays: a job may have paid for
// it.
void Arbiter::State::note_exposed(const Device& device, const policy::Prefixes& prefixes,
                                  Assessment& assessment) const {
  const bool counts = window_counts(device);
  const std::vector<const Arena*>& outside = assessment.set.others;
  policy::Exposure& others = assessment.set.input.others;
  others = counts ? device.gone : policy::Exposure{};
  for (const Arena* arena : device.arenas) {
    const bool in_set = std::find(outside.begin(), outside.end(), arena) == outside.end();
    const uint32_t chunks = in_set ? arena->chunks : device.ledger.held(arena->key);
    const uint32_t prefix = policy::prefix_of(prefixes, arena->key);
    const policy::Exposure now = exposed_beyond(*arena, chunks, prefix);
    policy::Exposure most = now;
    // Part of the prefix may be on its way out.
    const uint32_t leaves =
        std::min(prefix, device.ledger.held(arena->key)) - std::min(prefix, kept(device, *arena));
    most.mutable_chunks = std::min<uint64_t>(arena->mutable_chunks, most.mutable_chunks + leaves);
    most.arenas = std::max(most.arenas, leaves > 0 ? 1U : 0U);
    if (counts) {
      most.arenas = std::max(most.arenas, arena->exposed.arenas);
      most.mutable_chunks = std::max(most.mutable_chunks, arena->exposed.mutable_chunks);
    }
    assessment.exposed.push_back(most);
    if (in_set) {
      most.arenas -= now.arenas;
      most.mutable_chunks -= now.mutable_chunks;
    }
    add(others, most);
  }
}

// What happened before an idle instant is in no window any more.
void Arbiter::State::forget_window(Device& device) {
  device.leaving.clear();
  device.gone = {};
}

// Puts `plan` in force if it holds. What is not there yet is restored in the background.
bool Arbiter::State::adopt(Device& device, const policy::Plan& plan, Task* joining) {
  const bool device_idle = idle(device);
  if (device_idle) forget_window(device);
  if (!policy::plan_may_change(device.staged, plan.staged, device_idle, joining != nullptr,
                               !device.leaving.empty())) {
    device.review_due = true;  // at the next idle instant
    return false;
  }
  const Assessment found = assess(device, plan, joining);
  if (!found.decision.admitted) return false;
  if (!best_effort_allows(device, found.decision)) {
    device.review_due = true;
    return false;
  }
  if (joining != nullptr) enter(*joining);
  put_in_force(device, plan, found, joining);
  // When what came before counts no more, and what is on its way out is gone.
  if (window_counts(device) || incoming(device) > 0) device.review_due = true;
  suspend_for_unknown_length(device);
  device.promote_due = true;  // it may suit those that are loading, too
  return true;
}

void Arbiter::State::set_prefixes(Device& device, const policy::Plan& plan,
                                  const policy::Prefixes& guarantee) {
  for (Arena* arena : device.arenas) {
    arena->planned_chunks = policy::prefix_of(plan.prefixes, arena->key);
    arena->guaranteed_chunks = policy::prefix_of(guarantee, arena->key);
  }
  device.staged = plan.staged;
}

void Arbiter::State::put_in_force(Device& device, const policy::Plan& plan, const Assessment& found,
                                  const Task* joining) {
  const auto& [set, exposed, guarantee, decision] = found;
  set_prefixes(device, plan, guarantee);
  for (size_t i = 0; i < device.arenas.size(); ++i) device.arenas[i]->exposed = exposed[i];
  device.best_effort_block_ns = decision.best_effort_block_ns;
  device.utilisation = decision.utilisation;
  const auto put = [&](Task& task, const policy::Promise& promise) {
    const int64_t block_ns = task.timing.wcet_ns > 0 ? promise.block_ns : 0;
    const bool changed = task.block_ns != block_ns || task.lead_ns != promise.lead_ns ||
                         task.staged != promise.staged ||
                         task.response_bound_ns != promise.response_ns;
    task.block_ns = block_ns;
    task.lead_ns = promise.lead_ns;
    task.staged = promise.staged;
    task.response_bound_ns = promise.response_ns;
    if (changed && &task != joining) send_verdict(task, false, task.reason);
    if (changed && task.spans()) {  // so is its hold of the others
      for (const Task* part : parts_of(task)) {
        if (part != &task) device_of(*part->arena).review_due = true;
      }
    }
  };
  for (size_t i = 0; i < set.promised.size(); ++i) put(*set.promised[i], decision.promises[i]);
  for (size_t i = 0; i < set.best_effort.size(); ++i) {
    put(*set.best_effort[i], decision.best_effort[i]);
  }
}

// Best-effort work that runs now, or ran in this window, must be part of the new promise; where its
// length is not known, promises are suspended anyway. Beside staged tasks it delays the stage, too,
// by what its task is charged with now.
bool Arbiter::State::best_effort_allows(const Device& device,
                                        const policy::Decision& decision) const {
  const int64_t longest_ns = device.longest_best_effort_ns;
  if (!edf() || longest_ns == 0 || !window_counts(device)) return true;
  return device.staged.empty() && longest_ns <= decision.best_effort_block_ns;
}

// A task becomes what it asked to be. Jobs that it released before count from now, and compete with
// the deadlines that it has now: one of another timing is part of no test any more, and its next
// jobs keep a distance from the last one only where they count as that one's.
void Arbiter::State::enter(Task& task) {
  task.state = task.wanted;
  if (task.state != TaskState::admitted) return;
  Device& device = device_of(*task.arena);
  task.last_order_ns = kNever_ns;
  task.last_seen_ns = now_ns_;
  const bool counts = window_counts(device);
  for (const Leaving& left : device.leaving) {
    if (!counts || left.task != &task || !left.resumed) continue;
    task.last_order_ns = std::max(task.last_order_ns, left.last_order_ns);
  }
  std::vector<Job*> jobs;
  for (Job* job : device.waiting) {
    const bool clocked = job->deadline_ns != kNoDeadline_ns && !job->demoted;
    if (job->task == &task && clocked) jobs.push_back(job);
  }
  std::sort(jobs.begin(), jobs.end(),
            [](const Job* a, const Job* b) { return a->sequence < b->sequence; });
  int64_t earliest_ns = now_ns_;
  for (Job* job : jobs) {
    job->eligible_ns = std::max(job->eligible_ns, earliest_ns);
    job->deadline_ns = job->eligible_ns + task.timing.deadline_ns;
    job->order_ns = job->deadline_ns;
    if (task.last_order_ns != kNever_ns) {
      job->order_ns = std::max(job->order_ns, task.last_order_ns + task.timing.period_ns);
    }
    note_order(*job);
    earliest_ns = job->eligible_ns + task.timing.period_ns;
  }
}

// Its promise ends; what it may have done to the running window does not.
void Arbiter::State::leave(Task& task) {
  Device& device = device_of(*task.arena);
  device.review_due = true;
  // What did not hold beside it may do so now; and it may have been its turn.
  if (device.shedding && is_in(task.state)) device.shedding->seek_anew();
  if (edf() && task.state == TaskState::admitted && task.block_ns > 0) {
    // Has counted for what it left before in this window, and still does.
    std::erase_if(device.leaving,
                  [&](const Leaving& left) { return left.task == &task && left.resumed; });
    device.leaving.push_back(Leaving{
        &task,
        task.arena->key,
        {task.timing.period_ns, task.timing.deadline_ns, task.block_ns},
        task.timing,
        keeps_distance(task) ? task.last_order_ns : kNever_ns,
    });
  }
  task.response_bound_ns = 0;
  task.in_question = false;
}

// REQUIRES: task.state is loading and task.wanted is set. False: `refusal` says why, and the task
// must not stay. Otherwise the task is in, or loading until what the plan needs has landed.
bool Arbiter::State::join(Task& task, policy::Decision& refusal) {
  Device& device = device_of(*task.arena);
  if (device.shedding) return true;  // a newcomer ends no promise: its turn comes after
  mark_resumed(device, task, true);
  if (find_place(device, task, refusal)) return true;
  mark_resumed(device, task, false);
  return false;
}

// A task that comes back before the device was idle goes on with its own releases, which are never
// closer than its period: they count once, unless the earlier jobs may have been longer.
void Arbiter::State::mark_resumed(Device& device, const Task& task, bool resumed) {
  for (Leaving& left : device.leaving) {
    if (left.task != &task) continue;
    left.resumed = resumed && task.wanted == TaskState::admitted &&
                   left.timing.period_ns == task.timing.period_ns &&
                   left.timing.deadline_ns == task.timing.deadline_ns &&
                   left.timing.wcet_ns <= task.timing.wcet_ns &&
                   left.timing.layers == task.timing.layers;
  }
}

bool Arbiter::State::find_place(Device& device, Task& task, policy::Decision& refusal) {
  Roll set = roll_of_all(device, &task);
  refusal = policy::admit(set.input);
  if (!refusal.admitted) return false;
  if (adopt(device, plan_of(refusal), &task)) return true;
  if (go_towards(device, set, plan_of(refusal), nullptr) || !idle(device)) {
    device.review_due = true;  // that is where it is decided at the latest
    return true;
  }
  if (plan_comes_in(device)) {
    device.decision_waits = true;
    return true;
  }
  refusal.reason = no_way(task);
  return false;
}

// Puts a plan for all, those that are loading included, in force for those that are in.
bool Arbiter::State::go_towards(Device& device, Roll& set, const policy::Plan& plan,
                                policy::Effort* effort) {
  if (adopt(device, plan, nullptr)) return true;
  // On the way there, some would lose more than they can spare: let them only give.
  const policy::Prefixes most = guaranteed(device, in_force(device).prefixes);
  for (size_t i = 0; i < set.promised.size(); ++i) {
    if (set.promised[i]->state != TaskState::admitted) continue;
    policy::TaskModel& model = set.input.promised[i];
    model.most_resident_chunks = policy::prefix_of(most, model.arena);
  }
  const policy::Decision limited = policy::decide(set.input, effort);
  return limited.admitted && adopt(device, plan_of(limited), nullptr);
}

// Tasks whose memory has come in meanwhile, or that need less of it than they did.
void Arbiter::State::promote(Device& device) {
  for (Task* task : device.tasks) {
    if (task->state != TaskState::loading) continue;
    if (adopt(device, in_force(device), task)) {
      answer(*task);
    } else if (!idle(device)) {
      device.review_due = true;
    }
  }
}

// At an idle instant: those who left are forgotten, what has landed counts, changes that waited are
// decided, and the memory is planned anew.
void Arbiter::State::review(Device& device) {
  device.review_due = false;
  forget_window(device);
  for (Task* task : device.tasks) {
    if (task->next_timing) change_timing(*task);
  }
  for (;;) {
    Roll set = roll_of_all(device, nullptr);
    const bool some_load =
        std::any_of(device.tasks.begin(), device.tasks.end(),
                    [](const Task* task) { return task->state == TaskState::loading; });
    policy::Effort limited{kReviewEffort};
    policy::Effort* const effort = some_load ? nullptr : &limited;
    policy::Decision fresh = policy::decide(set.input, effort);
    if (fresh.admitted && go_towards(device, set, plan_of(fresh), effort)) break;
    const policy::Plan kept = in_force(device);
    adopt(device, kept, nullptr);
    // The plan in force is one for all, whatever the planner found now.
    if (policy::test(set.input, kept.prefixes, kept.prefixes, kept.staged).admitted) break;
    // Of those that are loading the least important has to go, of equals the youngest.
    Task* gives_way = nullptr;
    for (Task* task : device.tasks) {
      if (task->state != TaskState::loading) continue;
      if (gives_way == nullptr || task->importance <= gives_way->importance) gives_way = task;
    }
    if (gives_way == nullptr) break;
    if (fresh.admitted && plan_comes_in(device)) {
      device.decision_waits = true;
      break;
    }
    Task& task = *gives_way;
    if (!fresh.admitted) policy::explain(set.input, fresh);
    const Error reason{ErrorCode::admission_refused, fresh.admitted ? no_way(task) : fresh.reason};
    if (task.wanted == TaskState::admitted && task.on_refusal == protocol::OnRefusal::best_effort) {
      task.wanted = TaskState::best_effort;
      task.reason = reason;
      continue;
    }
    refuse_request(task, reason);
  }
  device.promote_due = true;
}

}  // namespace rtswap::arbiter
