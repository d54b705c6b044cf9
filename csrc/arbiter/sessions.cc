// Sessions: from connection to death, and what a client that breaks the protocol loses.
#include <algorithm>

#include "csrc/arbiter/state.h"

namespace rtswap::arbiter {
namespace {

// Clients get the common start this long before it comes.
constexpr int64_t kBeginAhead_ns = 100'000'000;

}  // namespace

void Arbiter::State::on(const SessionOpened& event) {
  if (sessions_.count(event.session) != 0)
    return;  // ids are the caller's; a repeat changes nothing
  auto session = std::make_unique<Session>();
  session->id = event.session;
  session->pid = event.pid;
  session->user = event.user;
  session->static_bytes.resize(devices_.size());
  sessions_[event.session] = std::move(session);
}

void Arbiter::State::on(const FromClient& event) {
  const auto it = sessions_.find(event.session);
  if (it == sessions_.end()) return;  // its end and this message crossed
  Session& session = *it->second;
  const bool hello = std::holds_alternative<protocol::Hello>(event.message);
  if (session.phase == Session::Phase::opened && !hello) {
    violate(session, ErrorCode::protocol_violation, "the first message of a session must be Hello");
    return;
  }
  if (session.phase != Session::Phase::opened && session.phase != Session::Phase::active) return;
  std::visit([&](const auto& message) { on(session, message); }, event.message);
}

void Arbiter::State::on(Session& session, const protocol::Hello& message) {
  if (session.phase != Session::Phase::opened) {
    violate(session, ErrorCode::protocol_violation, "a second Hello in one session");
    return;
  }
  if (message.protocol_version != protocol::kVersion) {
    const bool old_client = message.protocol_version < protocol::kVersion;
    violate(session, ErrorCode::protocol_mismatch,
            "the client (rtswap " + message.library_version + ") speaks protocol version " +
                std::to_string(message.protocol_version) + ", the arbiter (" + config_.version +
                ") version " + std::to_string(protocol::kVersion) + ": update the " +
                (old_client ? "client's rtswap package" : "arbiter (rtswapd)"));
    return;
  }
  session.process_name = message.process_name;
  if (session.pid == 0) session.pid = message.pid;
  if (message.resumed_session != 0 && !resume(session, message)) return;
  if (message.resumed_session == 0 && !message.held.empty()) {
    violate(session, ErrorCode::protocol_violation, "a new session cannot hold memory yet");
    return;
  }
  welcome(session);
}

void Arbiter::State::welcome(Session& session) {
  session.phase = Session::Phase::active;
  protocol::Welcome welcome;
  welcome.arbiter_version = config_.version;
  welcome.session = session.id;
  welcome.epoch = config_.epoch;
  welcome.wait_for_tasks = config_.wait_for_tasks;
  for (const Device& device : devices_) welcome.devices.push_back(device.config.description);
  send(session, std::move(welcome));
  if (begin_ns_ != 0) send(session, protocol::Begin{begin_ns_});
  trace(Trace::Kind::session_opened, session, session.user);
}

void Arbiter::State::on(Session& session, const protocol::DeviceReport& message) {
  if (message.device >= devices_.size()) {
    violate(session, ErrorCode::unknown_device,
            "device " + std::to_string(message.device) + " of " + std::to_string(devices_.size()));
    return;
  }
  Device& device = devices_[message.device];
  session.static_bytes[message.device] = 0;
  uint64_t left_bytes = device.config.static_limit_bytes;
  for (const auto& [id, other] : sessions_) left_bytes -= other->static_bytes[message.device];
  if (message.static_bytes > left_bytes) {
    violate(session, ErrorCode::static_memory,
            "the process uses " + std::to_string(message.static_bytes >> 20) +
                " MiB beside the bank; the device has " +
                std::to_string(device.config.static_limit_bytes >> 20) +
                " MiB for that, of which " + std::to_string(left_bytes >> 20) +
                " MiB are free: run fewer processes, or start the arbiter with a smaller bank");
    return;
  }
  session.static_bytes[message.device] = message.static_bytes;
  const auto worst = [](uint64_t& kept, uint64_t reported, bool measured) {
    if (reported != 0) kept = measured ? std::min(kept, reported) : reported;
  };
  // An assumed bandwidth gives way to the first measured one, whichever is larger.
  const Bandwidth before = bandwidth_of(device);
  worst(device.restore_bytes_per_s, message.restore_bytes_per_s, device.bandwidth_measured);
  worst(device.evict_bytes_per_s, message.evict_bytes_per_s, device.evict_bytes_per_s != 0);
  device.bandwidth_measured |= message.restore_bytes_per_s != 0;
  if (bandwidth_of(device) != before) note_bandwidth(device, before);
}

void Arbiter::State::on(Session& session, const protocol::Goodbye&) {
  trace(Trace::Kind::session_closed, session, "goodbye");
  session.phase = Session::Phase::faulted;
  retire_work(session, false);
  effects_.emplace_back(
      CloseSession{session.id, Error{ErrorCode::closed, "the client ended the session"}});
}

void Arbiter::State::violate(Session& session, ErrorCode code, const std::string& what) {
  const Error error{code, what};
  send(session, protocol::Fault{error});
  effects_.emplace_back(CloseSession{session.id, error});
  trace(Trace::Kind::session_closed, session, what);
  session.phase = Session::Phase::faulted;
  retire_work(session, false);
}

void Arbiter::State::retire_work(Session& session, bool keep_tasks) {
  std::vector<Job*> jobs;
  for (const auto& [id, job] : session.jobs) jobs.push_back(job.get());
  for (Job* job : jobs) {
    // Only a job whose memory has all been granted can have begun; it keeps the device until the
    // process dies, comes back, or takes too long.
    const bool may_run = job->state != Job::State::waiting && may_have_begun(*job);
    if (!may_run) erase(*job);
  }
  if (keep_tasks) return;
  std::vector<Task*> tasks;
  for (const auto& [id, task] : session.tasks) tasks.push_back(task.get());
  for (Task* task : tasks) {
    const bool busy = std::any_of(session.jobs.begin(), session.jobs.end(),
                                  [&](const auto& entry) { return entry.second->task == task; });
    if (!busy) {
      remove_task(*task);
    } else {
      refuse(*task, Error{ErrorCode::closed, "its session has ended"});
    }
  }
}

void Arbiter::State::on(const SessionDisconnected& event) {
  const auto it = sessions_.find(event.session);
  if (it == sessions_.end()) return;
  Session& session = *it->second;
  if (session.phase == Session::Phase::opened) {
    remove_session(session);
    return;
  }
  if (session.phase != Session::Phase::active) return;
  trace(Trace::Kind::session_closed, session, "the link was lost, the process lives");
  session.phase = Session::Phase::disconnected;
  retire_work(session, true);
}

void Arbiter::State::on(const SessionDied& event) {
  const auto it = sessions_.find(event.session);
  if (it == sessions_.end()) return;
  trace(Trace::Kind::session_closed, *it->second, "the process is dead");
  remove_session(*it->second);
}

void Arbiter::State::remove_session(Session& session) {
  std::vector<Job*> jobs;
  for (const auto& [id, job] : session.jobs) jobs.push_back(job.get());
  for (Job* job : jobs) erase(*job);
  std::vector<Task*> tasks;
  for (const auto& [id, task] : session.tasks) tasks.push_back(task.get());
  for (Task* task : tasks) remove_task(*task);
  std::vector<Arena*> arenas;
  for (const auto& [id, arena] : session.arenas) arenas.push_back(arena.get());
  for (Arena* arena : arenas) remove_arena(*arena);
  sessions_.erase(session.id);
}

void Arbiter::State::begin_when_all_are_there() {
  if (config_.wait_for_tasks == 0 || begin_ns_ != 0) return;
  uint32_t ready = 0;
  for (const Device& device : devices_) {
    for (const Task* task : device.tasks) {
      const TaskState state = state_of(*task);
      ready +=
          task == task->lead && (state == TaskState::admitted || state == TaskState::best_effort);
    }
  }
  if (ready < config_.wait_for_tasks) return;
  begin_ns_ = now_ns_ + kBeginAhead_ns;
  for (const auto& [id, session] : sessions_) {
    if (session->phase == Session::Phase::active) send(*session, protocol::Begin{begin_ns_});
  }
}

}  // namespace rtswap::arbiter
