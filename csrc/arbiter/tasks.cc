// Tasks: opening, changing, pausing, and the verdicts that answer.
#include <algorithm>

#include "csrc/arbiter/state.h"

namespace rtswap::arbiter {
namespace {

using protocol::OnRefusal;

// Longer periods are a mistake in the unit, and would overflow sums of deadlines.
constexpr int64_t kLongestPeriod_ns = 366LL * 24 * 3600 * 1'000'000'000;

// Empty: the timing makes sense.
std::string mistake_in(const Timing& timing) {
  if (timing.period_ns < 0 || timing.deadline_ns < 0 || timing.wcet_ns < 0) {
    return "period, deadline and cost must not be negative";
  }
  if (timing.period_ns > kLongestPeriod_ns || timing.wcet_ns > kLongestPeriod_ns) {
    return "period and cost must be shorter than a year; is the unit right?";
  }
  if (timing.period_ns > 0 && timing.deadline_ns == 0) return "the deadline must be more than 0";
  if (timing.period_ns > 0 && timing.deadline_ns > timing.period_ns) {
    return "the deadline (" + std::to_string(timing.deadline_ns) +
           " ns) must not be later than the period (" + std::to_string(timing.period_ns) + " ns)";
  }
  return {};
}

Timing overridden(Timing timing, const TaskOverride& by) {
  if (by.timing.period_ns != 0) {
    // A deadline that the client meant as "the period" follows the new one.
    if (timing.deadline_ns == timing.period_ns) timing.deadline_ns = by.timing.period_ns;
    timing.period_ns = by.timing.period_ns;
  }
  if (by.timing.deadline_ns != 0) timing.deadline_ns = by.timing.deadline_ns;
  if (by.timing.wcet_ns != 0) timing.wcet_ns = by.timing.wcet_ns;
  return timing;
}

TaskState state_asked_by(const Timing& timing) {
  if (timing.period_ns == 0) return TaskState::best_effort;
  return timing.wcet_ns == 0 ? TaskState::warming : TaskState::admitted;
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
  task.requests = 1;
  if (const auto it = config_.overrides.find(task.name); it != config_.overrides.end()) {
    task.timing = overridden(task.timing, it->second);
    task.resident |= it->second.resident;
    if (it->second.late_run) task.late = protocol::LatePolicy::run;
  }
  const bool duplicate =
      std::any_of(session.tasks.begin(), session.tasks.end(),
                  [&](const auto& entry) { return entry.second->name == task.name; });
  session.tasks[task.id] = std::move(owned);
  arena->tasks.push_back(&task);
  device_of(*arena).tasks.push_back(&task);
  task.state = TaskState::refused;  // until classified
  if (duplicate) {
    task.reason = Error{ErrorCode::duplicate_name,
                        "this process has a task named \"" + task.name + "\" already"};
  } else {
    classify(task);
  }
  send_verdict(task, task.state == TaskState::refused, task.reason);
  begin_when_all_are_there();
}

// Finds the best state that passes. Leaves the task refused, with the reason, if none does.
void Arbiter::State::classify(Task& task) {
  Device& device = device_of(*task.arena);
  const std::string mistake = mistake_in(task.timing);
  if (!mistake.empty() || task.arena->chunks == 0) {
    refuse(task, Error{ErrorCode::invalid_argument,
                       "task \"" + task.name +
                           "\": " + (mistake.empty() ? "its arena is empty" : mistake)});
    return;
  }
  const TaskState asked = state_asked_by(task.timing);
  task.state = asked;
  task.reason = Error{};
  const policy::Decision decision = retest(device, &task);
  if (decision.admitted) return;
  const Error reason{decision.too_large ? ErrorCode::model_too_large : ErrorCode::admission_refused,
                     decision.reason};
  if (asked == TaskState::admitted && task.on_refusal == OnRefusal::best_effort) {
    task.state = TaskState::best_effort;
    if (retest(device, &task).admitted) {
      task.reason = reason;
      return;
    }
  }
  refuse(task, reason);
}

void Arbiter::State::refuse(Task& task, Error reason) {
  task.state = TaskState::refused;
  task.reason = std::move(reason);
  task.block_ns = 0;
  task.response_bound_ns = 0;
  drop_waiting(task, Error{ErrorCode::admission_refused, task.reason.message});
  retest(device_of(*task.arena), &task);  // the others are better off
}

void Arbiter::State::on(Session& session, const protocol::UpdateTask& message) {
  Task* task = find_task(session, message.task);
  if (task == nullptr) return;
  ++task->requests;
  Timing timing = message.timing;
  if (const auto it = config_.overrides.find(task->name); it != config_.overrides.end()) {
    timing = overridden(timing, it->second);
  }
  const Timing old_timing = std::exchange(task->timing, timing);
  const TaskState old_state = task->state;
  const std::string mistake = mistake_in(timing);
  if (!mistake.empty()) {
    task->timing = old_timing;
    send_verdict(*task, true, Error{ErrorCode::invalid_argument, mistake});
    return;
  }
  if (old_state == TaskState::paused) {  // tested when it resumes
    send_verdict(*task, false, task->reason);
    return;
  }
  task->overruns_in_a_row = 0;
  const bool keeps_old =
      old_state == TaskState::admitted ||
      (old_state == TaskState::best_effort && task->on_refusal == OnRefusal::refuse);
  if (!keeps_old) {
    classify(*task);
    send_verdict(*task, task->state == TaskState::refused, task->reason);
    begin_when_all_are_there();
    return;
  }
  const Error old_reason = std::exchange(task->reason, Error{});
  task->state = state_asked_by(timing);
  const policy::Decision decision = retest(device_of(*task->arena), task);
  if (decision.admitted) {
    send_verdict(*task, false, task->reason);
    return;
  }
  task->timing = old_timing;
  task->state = old_state;
  task->reason = old_reason;
  send_verdict(*task, true, Error{ErrorCode::admission_refused, decision.reason});
}

void Arbiter::State::on(Session& session, const protocol::PauseTask& message) {
  Task* task = find_task(session, message.task);
  if (task == nullptr) return;
  ++task->requests;
  if (task->state != TaskState::paused && task->state != TaskState::refused) {
    task->state = TaskState::paused;
    task->block_ns = 0;
    task->response_bound_ns = 0;
    drop_waiting(*task, Error{ErrorCode::job_dropped, "task \"" + task->name + "\" is paused"});
    retest(device_of(*task->arena), task);
  }
  send_verdict(*task, false, task->reason);
}

void Arbiter::State::on(Session& session, const protocol::ResumeTask& message) {
  Task* task = find_task(session, message.task);
  if (task == nullptr) return;
  ++task->requests;
  if (task->state != TaskState::paused && task->state != TaskState::refused) {
    send_verdict(*task, false, task->reason);
    return;
  }
  const TaskState old_state = task->state;
  classify(*task);
  const bool refused = task->state == TaskState::refused;
  if (refused) task->state = old_state;
  send_verdict(*task, refused, task->reason);
  begin_when_all_are_there();
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

// REQUIRES: no job of it is left.
void Arbiter::State::remove_task(Task& task) {
  Device& device = device_of(*task.arena);
  std::erase(task.arena->tasks, &task);
  std::erase(device.tasks, &task);
  task.session->tasks.erase(task.id);
  retest(device, nullptr);
}

void Arbiter::State::send_verdict(Task& task, bool request_refused, const Error& reason) {
  protocol::Verdict verdict;
  verdict.task = task.id;
  verdict.state = task.state;
  verdict.request_refused = request_refused;
  verdict.reason = reason;
  verdict.timing = task.timing;
  verdict.resident = task.resident;
  verdict.late = task.late;
  verdict.response_bound_ns = task.response_bound_ns;
  // A restore of unknown speed: nothing can be said.
  verdict.block_ns = task.block_ns == INT64_MAX ? 0 : task.block_ns;
  verdict.requests_answered = task.requests;
  std::string detail = protocol::to_string(task.state);
  if (request_refused) detail += ", request refused";
  if (!reason.message.empty()) detail += ": " + reason.message;
  trace(Trace::Kind::verdict, task, detail);
  send(*task.session, std::move(verdict));
}

}  // namespace rtswap::arbiter
