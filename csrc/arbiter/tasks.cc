// Tasks: opening, changing, pausing, and the verdicts that answer.
#include <algorithm>

#include "csrc/arbiter/state.h"
#include "csrc/policy/task_check.h"

namespace rtswap::arbiter {
namespace {

using protocol::OnRefusal;

Timing overridden(Timing timing, const TaskOverride& by) {
  if (by.timing.period_ns != 0) {
    // A deadline that the client meant as "the period" follows the new one.
    if (timing.deadline_ns == timing.period_ns) timing.deadline_ns = by.timing.period_ns;
    timing.period_ns = by.timing.period_ns;
  }
  if (by.timing.deadline_ns != 0) timing.deadline_ns = by.timing.deadline_ns;
  if (by.timing.wcet_ns != 0) {
    timing.wcet_ns = by.timing.wcet_ns;
    timing.layers.clear();  // they are parts of another cost
  }
  return timing;
}

}  // namespace

Task* Arbiter::State::find_task(Session& session, TaskId id) {
  const auto it = session.tasks.find(id);
  if (it != session.tasks.end()) return it->second.get();
  violate(session, ErrorCode::protocol_violation, "unknown task " + std::to_string(id));
  return nullptr;
}

void Arbiter::State::on(Session& session, const protocol::OpenTask& message) {
  Arena* arena = find_arena(session, message.arena);
  if (arena == nullptr) return;
  if (session.tasks.count(message.task) != 0) {
    violate(session, ErrorCode::protocol_violation,
            "task " + std::to_string(message.task) + " is open already");
    return;
  }
  auto owned = std::make_unique<Task>();
  Task& task = *owned;
  task.session = &session;
  task.arena = arena;
  task.id = message.task;
  task.name = message.name;
  task.full_name = message.name + "@" + std::to_string(session.pid);
  task.timing = message.timing;
  task.resident = message.resident;
  task.late = message.late;
  task.on_refusal = message.on_refusal;
  task.importance = message.importance;
  note_request(task);
  if (const auto it = config_.overrides.find(task.name); it != config_.overrides.end()) {
    task.timing = overridden(task.timing, it->second);
    task.resident = it->second.resident.value_or(task.resident);
    task.late = it->second.late.value_or(task.late);
    task.importance = it->second.importance.value_or(task.importance);
  }
  const bool duplicate =
      std::any_of(session.tasks.begin(), session.tasks.end(),
                  [&](const auto& entry) { return entry.second->name == task.name; });
  if (!add_parts(task, message.further_arenas)) return;
  session.tasks[task.id] = std::move(owned);
  for (Task* part : parts_of(task)) {
    part->arena->tasks.push_back(part);
    device_of(*part->arena).tasks.push_back(part);
    part->state = TaskState::refused;  // until classified
  }
  if (duplicate) {
    task.reason = Error{ErrorCode::duplicate_name,
                        "this process has a task named \"" + task.name + "\" already"};
  } else {
    classify(task);
  }
  answer(task);
}

void Arbiter::State::answer(Task& part) {
  Task& task = *part.lead;
  if (state_of(task) == TaskState::loading) {
    trace(Trace::Kind::verdict, task, "loading: waits for the memory that the plan gives it");
    return;
  }
  task.answer_pending = false;
  send_verdict(task, task.state == TaskState::refused, task.reason);
  begin_when_all_are_there();
}

// Until the answer, verdicts that others cause tell of the time before.
void Arbiter::State::note_request(Task& part) {
  Task& task = *part.lead;
  if (!task.answer_pending) task.requests_answered = task.requests;
  task.answer_pending = true;
  ++task.requests;
}

// Finds the best state that passes. Leaves the task refused, with the reason, if none does.
void Arbiter::State::classify(Task& task) {
  std::string mistake = policy::mistake_in(model_of(task, task.timing));
  const bool has_empty_part =
      std::any_of(task.others.begin(), task.others.end(),
                  [](const auto& part) { return part->arena->chunks == 0; });
  if (mistake.empty() && has_empty_part) mistake = "one of its arenas is empty";
  if (!mistake.empty()) {
    refuse(task, Error{ErrorCode::invalid_argument, "task \"" + task.name + "\": " + mistake});
    return;
  }
  if (task.spans()) {
    classify_spanning(task);
    return;
  }
  leave(task);
  task.state = TaskState::loading;
  task.wanted = state_asked_by(task.timing);
  task.reason = Error{};
  policy::Decision refusal;
  if (join(task, refusal)) return;
  const Error reason{refusal.too_large ? ErrorCode::model_too_large : ErrorCode::admission_refused,
                     refusal.reason};
  if (task.wanted == TaskState::admitted && task.on_refusal == OnRefusal::best_effort) {
    task.wanted = TaskState::best_effort;
    if (join(task, refusal)) {
      task.reason = reason;
      return;
    }
  }
  refuse(task, reason);
}

// With all of its parts.
void Arbiter::State::refuse(Task& task, const Error& reason) {
  for (Task* part : parts_of(task)) {
    leave(*part);
    part->state = TaskState::refused;
    part->block_ns = part->lead_ns = 0;
    part->staged = false;
    part->next_timing.reset();
    part->reason = reason;
  }
  drop_waiting(*task.lead, Error{ErrorCode::admission_refused, reason.message});
}

// The request that is being answered. One that has not been let in yet is refused itself.
void Arbiter::State::refuse_request(Task& task, const Error& reason) {
  if (task.state == TaskState::loading) refuse(task, reason);
  task.lead->answer_pending = false;
  send_verdict(task, true, reason);
}

void Arbiter::State::on(Session& session, const protocol::UpdateTask& message) {
  Task* task = find_task(session, message.task);
  if (task == nullptr) return;
  note_request(*task);
  task->next_timing.reset();  // the newer request takes its place
  Timing timing = message.timing;
  if (const auto it = config_.overrides.find(task->name); it != config_.overrides.end()) {
    timing = overridden(timing, it->second);
  }
  const std::string mistake = policy::mistake_in(model_of(*task, timing));
  if (!mistake.empty()) {
    task->answer_pending = false;
    send_verdict(*task, true,
                 Error{ErrorCode::invalid_argument, "task \"" + task->name + "\": " + mistake});
    return;
  }
  if (task->spans() && timing.period_ns > 0 && task->on_refusal == OnRefusal::refuse) {
    task->answer_pending = false;
    send_verdict(*task, true, no_promise_for(*task));
    return;
  }
  if (task->state == TaskState::paused) {  // tested when it resumes
    for (Task* part : parts_of(*task)) part->timing = timing;
    answer(*task);
    return;
  }
  task->overruns_in_a_row = 0;
  const bool keeps_old =
      !task->spans() &&
      (task->state == TaskState::admitted ||
       (task->state == TaskState::best_effort && task->on_refusal == OnRefusal::refuse));
  if (!keeps_old) {
    for (Task* part : parts_of(*task)) part->timing = timing;
    classify(*task);
    answer(*task);
    return;
  }
  task->next_timing = timing;
  task->next_timing_fits = false;
  Device& device = device_of(*task->arena);
  device.review_due = true;
  if (!edf() || (idle(device) && !device.shedding)) change_timing(*task);
}

// Old and new timing in one window are in neither's test: hence only at an idle instant. A timing
// that does not hold yet waits until the plan in force has come in: then more may be possible.
void Arbiter::State::change_timing(Task& task) {
  Device& device = device_of(*task.arena);
  const Timing new_timing = *task.next_timing;
  const Timing old_timing = std::exchange(task.timing, new_timing);
  task.wanted = state_asked_by(task.timing);
  const TaskState old_state = std::exchange(task.state, task.wanted);
  const Error old_reason = std::exchange(task.reason, Error{});
  task.next_timing.reset();
  const Roll set = roll_of_all(device, &task);
  policy::Decision decision = policy::admit(set.input);
  if (decision.admitted &&
      (adopt(device, plan_of(decision), nullptr) || adopt(device, in_force(device), nullptr))) {
    enter(task);
    task.answer_pending = false;
    send_verdict(task, false, task.reason);
    return;
  }
  task.timing = old_timing;
  task.state = old_state;
  task.reason = old_reason;
  if (decision.admitted && plan_comes_in(device)) {
    task.next_timing = new_timing;
    task.next_timing_fits = true;
    device.decision_waits = true;
    return;
  }
  if (decision.admitted) {
    decision.reason = "the new timing of \"" + task.name +
                      "\" fits only with other memory on the device than is planned, and until "
                      "that is there nothing can be promised to it: pause() it, set the timing, "
                      "and resume() it";
  }
  task.answer_pending = false;
  send_verdict(task, true, Error{ErrorCode::admission_refused, decision.reason});
}

void Arbiter::State::on(Session& session, const protocol::PauseTask& message) {
  Task* task = find_task(session, message.task);
  if (task == nullptr) return;
  note_request(*task);
  if (task->state != TaskState::paused && task->state != TaskState::refused) {
    for (Task* part : parts_of(*task)) {
      leave(*part);
      part->state = TaskState::paused;
      part->block_ns = part->lead_ns = 0;
      part->staged = false;
    }
    if (task->next_timing) task->timing = *std::exchange(task->next_timing, std::nullopt);
    drop_waiting(*task, Error{ErrorCode::job_dropped, "task \"" + task->name +
                                                          "\" was paused while the job waited: "
                                                          "call its resume() before the next one"});
  }
  task->answer_pending = false;
  send_verdict(*task, false, task->reason);
}

void Arbiter::State::on(Session& session, const protocol::ResumeTask& message) {
  Task* task = find_task(session, message.task);
  if (task == nullptr) return;
  note_request(*task);
  if (task->state != TaskState::paused && task->state != TaskState::refused) {
    if (!task->next_timing) answer(*task);  // otherwise with the answer about that
    return;
  }
  const TaskState old_state = task->state;
  const Error old_reason = task->reason;
  classify(*task);
  if (task->state == TaskState::refused) {
    const Error refusal = task->reason;
    for (Task* part : parts_of(*task)) {
      part->state = old_state;
      part->reason = old_reason;
    }
    task->answer_pending = false;
    send_verdict(*task, true, refusal);
    return;
  }
  answer(*task);
}

void Arbiter::State::on(Session& session, const protocol::CloseTask& message) {
  Task* task = find_task(session, message.task);
  if (task == nullptr) return;
  drop_waiting(*task, Error{ErrorCode::closed, "task \"" + task->name + "\" was closed"});
  // A Run may have crossed this message: the client says that no job of the task is started.
  std::vector<Job*> left;
  for (const auto& [id, job] : session.jobs) {
    if (job->task == task) left.push_back(job.get());
  }
  for (Job* job : left) {
    session.forgiven.insert(job->id);
    erase(*job);
  }
  remove_task(*task);
}

// With all of its parts. REQUIRES: no job of it is left.
void Arbiter::State::remove_task(Task& task) {
  for (Task* part : parts_of(task)) {
    Device& device = device_of(*part->arena);
    leave(*part);
    for (Leaving& left : device.leaving) {
      if (left.task == part) left.task = nullptr;
    }
    std::erase(part->arena->tasks, part);
    std::erase(device.tasks, part);
  }
  task.session->tasks.erase(task.id);
}

// Numbers that the client never gave should not puzzle it.
std::string Arbiter::State::origin_of_timing(const Task& task) const {
  const auto it = config_.overrides.find(task.name);
  if (it == config_.overrides.end()) return {};
  const Timing& said = it->second.timing;
  if (said.period_ns == 0 && said.deadline_ns == 0 && said.wcet_ns == 0) return {};
  return " (what the arbiter's task file says of \"" + task.name +
         "\" counts, not what the task declares)";
}

void Arbiter::State::send_verdict(Task& part, bool request_refused, const Error& reason) {
  Task& task = *part.lead;
  protocol::Verdict verdict;
  verdict.task = task.id;
  verdict.state = state_of(task);
  verdict.request_refused = request_refused;
  verdict.reason = reason;
  const bool about_timing =
      reason.code == ErrorCode::admission_refused || reason.code == ErrorCode::invalid_argument;
  if (about_timing && !reason.message.empty()) {
    verdict.reason.message += origin_of_timing(task);
  }
  verdict.timing = task.timing;
  verdict.resident = task.resident;
  verdict.late = task.late;
  verdict.response_bound_ns = task.response_bound_ns;
  // A restore of unknown speed: nothing can be said.
  const int64_t block_ns = block_of(task);
  verdict.staged = task.staged;
  verdict.lead_ns = task.lead_ns;
  verdict.block_ns = block_ns == INT64_MAX ? 0 : block_ns;
  verdict.importance = task.importance;
  if (verdict.state == TaskState::admitted) verdict.suspended = device_of(*task.arena).suspended;
  verdict.requests_answered = task.answer_pending ? task.requests_answered : task.requests;
  std::string detail = protocol::to_string(verdict.state);
  if (request_refused) detail += ", request refused";
  if (!reason.message.empty()) detail += ": " + reason.message;
  trace(Trace::Kind::verdict, task, detail);
  send(*task.session, std::move(verdict));
}

}  // namespace rtswap::arbiter
