// How a stream becomes a session, new or resumed, or is refused.
#include <fcntl.h>

#include <utility>

#include "csrc/rpc/codec.h"
#include "daemon/log.h"
#include "daemon/sessions.h"

namespace rtswap::daemon {

using protocol::SessionId;

Status Sessions::take_hello(const StreamPtr& stream, const v1::ClientEnvelope& envelope) {
  RTSWAP_ASSIGN(protocol::ClientMessage message, rpc::decode(envelope));
  auto* hello = std::get_if<protocol::Hello>(&message);
  if (hello == nullptr || envelope.session_id() != 0 || envelope.epoch() != 0) {
    return fail(ErrorCode::protocol_violation,
                "the first message of a stream must be Hello, of no session yet");
  }
  {
    const std::lock_guard lock(mutex_);
    Connection& connection = connections_.at(stream);
    if (connection.waiting)
      return fail(ErrorCode::protocol_violation, "a second Hello before the answer to the first");
    if (loop_ == nullptr) {
      connection.waiting = std::move(*hello);  // open() takes it up
      return {};
    }
  }
  return open_session(stream, *hello);
}

void Sessions::on_handshake_limit(const StreamPtr& stream) {
  std::vector<SavedClient> awaited;
  {
    const std::lock_guard lock(mutex_);
    const auto it = connections_.find(stream);
    if (it == connections_.end() || !it->second.waiting) {
      stream->cancel();  // connected, and never said Hello
      return;
    }
    it->second.waiting.reset();
    for (const auto& [session, client] : survivors_) awaited.push_back(client);
  }
  refuse(stream, {ErrorCode::daemon_unavailable,
                  "rtswapd was restarted and waits for the chunks that " +
                      (awaited.empty() ? "an earlier process" : names_of(awaited)) +
                      " still holds; try again, or end that process"});
}

void Sessions::refuse(const StreamPtr& stream, const Error& error) {
  {
    const std::lock_guard lock(mutex_);
    const auto it = connections_.find(stream);
    if (it == connections_.end()) return;  // ended meanwhile
    it->second.refused = true;
    spdlog::warn("process {}: {}", it->second.peer->pid, error.message);
  }
  stream->send(protocol::Fault{error});
  stream->finish();
}

Status Sessions::open_session(const StreamPtr& stream, protocol::Hello hello) {
  const std::lock_guard lock(mutex_);
  const auto connection = connections_.find(stream);
  if (connection == connections_.end()) return {};  // ended meanwhile
  if (connection->second.session != 0)
    return fail(ErrorCode::protocol_violation, "a second Hello in one stream");
  if (loop_ == nullptr) {
    return fail(ErrorCode::daemon_unavailable, "rtswapd is being stopped");
  }
  const std::shared_ptr<Peer> peer = connection->second.peer;
  const SessionId asked_for = hello.resumed_session;
  RTSWAP_ASSIGN(hello.resumed_session, find_resumed(*peer, hello));
  UniqueFd process(::fcntl(peer->process.get(), F_DUPFD_CLOEXEC, 0));
  if (!process) {
    return fail(ErrorCode::descriptor_limit,
                "rtswapd may not open more files, so it cannot watch this process: raise its limit "
                "(LimitNOFILE=, ulimit -n)");
  }
  const SessionId id = ++last_session_;
  RTSWAP_ASSIGN(const Watcher::WatchId watch,
                watcher_.watch(std::move(process), [this, id] { process_died(id); }));
  connection->second.session = id;
  Session& session = sessions_[id];
  session.peer = peer;
  session.stream = stream;
  session.asked_for = asked_for;
  session.resumed = hello.resumed_session;
  session.name = hello.process_name;
  stream->name(id);
  session.watch = watch;
  SavedClient saved;
  saved.session = id;
  saved.name = hello.process_name;
  saved.pid = peer->pid;
  saved.start_ticks = start_ticks_of(peer->pid);
  // What the process has of an earlier session it still has.
  state_.update([&](SavedState& state) {
    for (const SavedClient& client : state.clients) {
      if (client.session == session.resumed) saved.devices = client.devices;
    }
    state.clients.push_back(saved);
    state.last_session = id;
  });
  // Said while the survivor counts as awaited in the arbiter: Hello takes it off that count.
  survivors_.erase(hello.resumed_session);
  std::vector<arbiter::Event> events;
  events.emplace_back(arbiter::SessionOpened{id, peer->pid, peer->user});
  events.emplace_back(arbiter::FromClient{id, std::move(hello)});
  loop_->post(std::move(events));
  return {};
}

Result<SessionId> Sessions::find_resumed(const Peer& peer, const protocol::Hello& hello) const {
  SessionId resumed = hello.resumed_session;
  if (resumed == 0) return resumed;
  // The client may have tried before and lost its link before the answer: then the latest attempt
  // has what the session had.
  for (const auto& [id, later] : sessions_) {
    if (later.asked_for == hello.resumed_session && later.peer->pid == peer.pid) resumed = id;
  }
  const auto session = sessions_.find(resumed);
  const auto survivor = survivors_.find(resumed);
  if (session == sessions_.end() && survivor == survivors_.end()) {
    // Of an earlier life, in which it got no chunks: nobody waits for it.
    if (hello.held.empty()) return SessionId{0};
    return fail(ErrorCode::closed, "session " + std::to_string(resumed) +
                                       " is not known to this rtswapd; start the process anew");
  }
  const pid_t owner = session != sessions_.end() ? session->second.peer->pid : survivor->second.pid;
  if (owner == peer.pid) return resumed;
  return fail(ErrorCode::protocol_violation, "session " + std::to_string(resumed) +
                                                 " belongs to process " + std::to_string(owner) +
                                                 ", not to process " + std::to_string(peer.pid));
}

}  // namespace rtswap::daemon
