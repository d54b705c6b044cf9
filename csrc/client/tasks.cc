// Tasks.
#include <set>
#include <utility>

#include "csrc/client/core.h"

namespace rtswap::client {

TaskRecord* Core::find_task(protocol::TaskId id) {
  const auto found = tasks_.find(id);
  return found == tasks_.end() ? nullptr : found->second.get();
}

Result<TaskPtr> Core::open_task(engine::ArenaId arena_id, TaskOptions options) {
  const std::lock_guard lock(mutex_);
  std::vector<engine::ArenaId> arenas{arena_id};
  arenas.insert(arenas.end(), options.further_arenas.begin(), options.further_arenas.end());
  std::set<uint32_t> devices;
  for (const engine::ArenaId id : arenas) {
    RTSWAP_ASSIGN(const ArenaRecord* const arena, open_arena_of(id));
    if (!arena->published) {
      return fail(ErrorCode::invalid_argument,
                  "arena " + arena->label + " must be published before a task uses it");
    }
    if (devices.insert(arena->device).second) continue;
    return fail(ErrorCode::invalid_argument, "task \"" + options.name + "\" has two arenas on " +
                                                 descriptions_[arena->device].uuid +
                                                 ": one on each of its devices is enough");
  }
  if (options.name.empty()) return fail(ErrorCode::invalid_argument, "a task needs a name");
  for (const auto& [id, task] : tasks_) {
    if (task->options.name != options.name) continue;
    return fail(ErrorCode::duplicate_name,
                "this process has a task \"" + options.name + "\" already: choose another name");
  }
  auto task = std::make_shared<TaskRecord>();
  task->id = ++last_task_;
  task->arenas = std::move(arenas);
  task->options = std::move(options);
  task->verdict.task = task->id;
  task->verdict.timing = task->options.timing;
  task->verdict.resident = task->options.resident;
  task->verdict.late = task->options.late;
  task->verdict.importance = task->options.importance;
  tasks_[task->id] = task;
  send_open_task(*task);
  return task;
}

void Core::send_open_task(TaskRecord& task) {
  protocol::OpenTask message;
  message.task = task.id;
  message.arena = task.arenas.front();
  message.further_arenas = task.options.further_arenas;
  message.name = task.options.name;
  message.timing = task.options.timing;
  message.resident = task.options.resident;
  message.late = task.options.late;
  message.on_refusal = task.options.on_refusal;
  message.importance = task.options.importance;
  task.requests = 1;
  task.verdict.requests_answered = 0;
  task.update.reset();
  send(std::move(message));
}

Status Core::check_task(const TaskRecord& task) const {
  if (const auto error = unusable()) return fail(*error);
  if (task.closed) {
    return fail(ErrorCode::closed, "task \"" + task.options.name + "\" was closed");
  }
  if (const auto device = gone_device(task)) return fail(gone_error(*device));
  return {};
}

Verdict Core::verdict(const TaskRecord& task) const {
  const std::lock_guard lock(mutex_);
  return task.verdict;
}

Result<Verdict> Core::wait_answer(std::unique_lock<std::mutex>& lock, const TaskPtr& task,
                                  int64_t limit_ns) {
  const uint32_t request = task->requests;
  const auto answered = [&] { return task->verdict.requests_answered >= request; };
  const bool in_time = wait_limited(changed_, lock, limit_ns,
                                    [&] { return !check_task(*task).has_value() || answered(); });
  RTSWAP_TRY(check_task(*task));
  if (!in_time) {
    return fail(ErrorCode::timed_out, "the arbiter has not answered for task \"" +
                                          task->options.name + "\" within the time limit");
  }
  Verdict verdict = task->verdict;
  verdict.request_refused = task->refusal.has_value();
  if (task->refusal) verdict.reason = *task->refusal;
  return verdict;
}

Result<Verdict> Core::wait_verdict(const TaskPtr& task, int64_t limit_ns) {
  std::unique_lock lock(mutex_);
  RTSWAP_TRY(check_task(*task));
  return wait_answer(lock, task, limit_ns);
}

Result<Verdict> Core::update(const TaskPtr& task, const Timing& timing, int64_t limit_ns) {
  std::unique_lock lock(mutex_);
  RTSWAP_TRY(check_task(*task));
  task->update = TaskRecord::Update{++task->requests, timing};
  send(protocol::UpdateTask{task->id, timing});
  return refusal_as_error(wait_answer(lock, task, limit_ns));
}

Status Core::pause(const TaskPtr& task) {
  const std::lock_guard lock(mutex_);
  RTSWAP_TRY(check_task(*task));
  task->paused = true;
  ++task->requests;
  send(protocol::PauseTask{task->id});
  return {};
}

Result<Verdict> Core::resume(const TaskPtr& task, int64_t limit_ns) {
  std::unique_lock lock(mutex_);
  RTSWAP_TRY(check_task(*task));
  task->paused = false;
  ++task->requests;
  send(protocol::ResumeTask{task->id});
  return refusal_as_error(wait_answer(lock, task, limit_ns));
}

Result<Verdict> Core::refusal_as_error(Result<Verdict> answer) {
  if (answer && answer->request_refused) return fail(answer->reason);
  return answer;
}

Status Core::close_task(const TaskPtr& task) {
  const std::lock_guard lock(mutex_);
  if (task->closed) return {};
  for (const auto& [id, job] : jobs_) {
    if (job->task == task->id && job->runs()) {
      return fail(ErrorCode::invalid_argument,
                  "task \"" + task->options.name + "\" has a running job: end that first");
    }
  }
  task->closed = true;
  const Error reason{ErrorCode::closed, "task \"" + task->options.name + "\" was closed"};
  std::erase_if(jobs_, [&](const auto& entry) {
    if (entry.second->task != task->id) return false;
    if (entry.second->state != JobRecord::State::settling) fail_job(*entry.second, reason);
    return true;
  });
  // A grant that crosses this message is taken back by the arbiter itself.
  if (!gone_device(*task)) send(protocol::CloseTask{task->id});
  tasks_.erase(task->id);
  for (const engine::ArenaId id : task->arenas) {
    ArenaRecord* const arena = find_arena(id);
    if (arena != nullptr && arena->resize && arena->resize->task == task->id) arena->resize.reset();
  }
  changed_.notify_all();
  return {};
}

}  // namespace rtswap::client
