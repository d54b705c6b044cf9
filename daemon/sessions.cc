#include "daemon/sessions.h"

#include <fcntl.h>

#include <algorithm>

#include "csrc/rpc/codec.h"
#include "daemon/log.h"

namespace rtswap::daemon {

using protocol::SessionId;

namespace {

void erase_client(SavedState& state, SessionId session) {
  std::erase_if(state.clients,
                [&](const SavedClient& client) { return client.session == session; });
}

Error violation(const std::string& what) { return {ErrorCode::protocol_violation, what}; }

}  // namespace

Sessions::Sessions(Options options, std::vector<Survivor> survivors, StateKeeper& state)
    : options_(std::move(options)),
      state_(state),
      last_session_(options_.last_session),
      watcher_(std::make_unique<Watcher>()) {
  const std::lock_guard lock(mutex_);
  for (Survivor& survivor : survivors) {
    const SessionId session = survivor.client.session;
    survivors_.emplace(session, std::move(survivor.client));
    survivor_watches_[session] =
        watcher_->watch(std::move(survivor.process), [this, session] { survivor_died(session); });
  }
}

Sessions::~Sessions() { watcher_.reset(); }

void Sessions::open(arbiter::Loop& loop, size_t awaited) {
  std::vector<std::pair<StreamPtr, protocol::Hello>> waiting;
  {
    const std::lock_guard lock(mutex_);
    loop_ = &loop;
    for (size_t left = survivors_.size(); left < awaited; ++left) {
      loop.post(arbiter::RecoveryPeerDied{});  // while the loop was being made
    }
    for (auto& [stream, connection] : connections_) {
      if (connection.waiting) waiting.emplace_back(stream, std::move(*connection.waiting));
      connection.waiting.reset();
    }
  }
  for (const auto& [stream, hello] : waiting) {
    if (const Status opened = open_session(stream, hello); !opened) refuse(stream, opened.error());
  }
}

void Sessions::close() {
  const std::lock_guard lock(mutex_);
  loop_ = nullptr;
  for (const auto& [stream, connection] : connections_) stream->cancel();
}

bool Sessions::is_open() const {
  const std::lock_guard lock(mutex_);
  return loop_ != nullptr;
}

std::vector<SavedClient> Sessions::survivors() const {
  const std::lock_guard lock(mutex_);
  std::vector<SavedClient> all;
  for (const auto& [session, client] : survivors_) all.push_back(client);
  return all;
}

void Sessions::admit(const std::string& key, Peer peer) {
  const std::lock_guard lock(mutex_);
  // gRPC does not tell of connections that end; those with a session are kept by it.
  std::erase_if(peers_, [](const auto& entry) { return has_hung_up(*entry.second); });
  peers_[key] = std::make_shared<Peer>(std::move(peer));
}

grpc::Status Sessions::on_opened(const StreamPtr& stream) {
  const std::lock_guard lock(mutex_);
  // The key is a descriptor's number. A stream whose connection has ended already may find the next
  // connection's peer under it: all it can leave behind is an empty session of that process.
  const auto it = peers_.find(stream->peer());
  if (it == peers_.end()) {
    return {grpc::StatusCode::PERMISSION_DENIED,
            "rtswapd does not know the connection " + stream->peer()};
  }
  stream->use_socket({it->second, &it->second->connection});
  Connection connection;
  connection.peer = it->second;
  connections_.emplace(stream, std::move(connection));
  return grpc::Status::OK;
}

void Sessions::on_message(const StreamPtr& stream, const v1::ClientEnvelope& envelope) {
  SessionId session = 0;
  {
    const std::lock_guard lock(mutex_);
    const auto it = connections_.find(stream);
    if (it == connections_.end() || it->second.refused) return;
    session = it->second.session;
  }
  const Status status = session == 0 ? take_hello(stream, envelope) : pass_on(session, envelope);
  if (!status) refuse(stream, status.error());
}

Status Sessions::take_hello(const StreamPtr& stream, const v1::ClientEnvelope& envelope) {
  RTSWAP_ASSIGN(protocol::ClientMessage message, rpc::decode(envelope));
  auto* hello = std::get_if<protocol::Hello>(&message);
  if (hello == nullptr || envelope.session_id() != 0 || envelope.epoch() != 0) {
    return fail(violation("the first message of a stream must be Hello, of no session yet"));
  }
  {
    const std::lock_guard lock(mutex_);
    Connection& connection = connections_.at(stream);
    if (connection.waiting) return fail(violation("a second Hello before the answer to the first"));
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
  if (connection->second.session != 0) return fail(violation("a second Hello in one stream"));
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
  connection->second.session = id;
  Session& session = sessions_[id];
  session.peer = peer;
  session.stream = stream;
  session.asked_for = asked_for;
  session.resumed = hello.resumed_session;
  session.name = hello.process_name;
  stream->name(id);
  session.watch = watcher_->watch(std::move(process), [this, id] { process_died(id); });
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

// REQUIRES: mutex_ held.
Result<SessionId> Sessions::find_resumed(const Peer& peer, const protocol::Hello& hello) const {
  SessionId resumed = hello.resumed_session;
  if (resumed == 0) return resumed;
  // The client may have tried before and lost its link before the answer: then the latest attempt
  // has what the session had.
  for (const auto& [id, session] : sessions_) {
    if (session.asked_for == hello.resumed_session && session.peer->pid == peer.pid) resumed = id;
  }
  pid_t owner = peer.pid;
  if (const auto it = sessions_.find(resumed); it != sessions_.end()) {
    owner = it->second.peer->pid;
  } else if (const auto survivor = survivors_.find(resumed); survivor != survivors_.end()) {
    owner = survivor->second.pid;
  } else if (hello.held.empty()) {
    return SessionId{0};  // of an earlier life, in which it got no chunks: nobody waits for it
  } else {
    return fail(ErrorCode::closed, "session " + std::to_string(resumed) +
                                       " is not known to this rtswapd; start the process anew");
  }
  if (owner == peer.pid) return resumed;
  return fail(violation("session " + std::to_string(resumed) + " belongs to process " +
                        std::to_string(owner) + ", not to process " + std::to_string(peer.pid)));
}

Status Sessions::pass_on(SessionId id, const v1::ClientEnvelope& envelope) {
  RTSWAP_ASSIGN(protocol::ClientMessage message, rpc::decode(envelope));
  if (envelope.session_id() != id || envelope.epoch() != options_.epoch) {
    return fail(violation("a message of session " + std::to_string(envelope.session_id()) +
                          " in the stream of session " + std::to_string(id)));
  }
  arbiter::Loop* loop = nullptr;
  {
    const std::lock_guard lock(mutex_);
    const auto it = sessions_.find(id);
    if (it == sessions_.end() || loop_ == nullptr) return {};  // dead: a child kept the stream open
    if (std::holds_alternative<protocol::Goodbye>(message)) it->second.said_goodbye = true;
    loop = loop_;
    loop->queue(arbiter::FromClient{id, std::move(message)});
  }
  loop->run_queued();  // outlives the streams, hence this call
  return {};
}

void Sessions::on_end(const StreamPtr& stream) {
  const std::lock_guard lock(mutex_);
  const auto connection = connections_.find(stream);
  if (connection == connections_.end()) return;
  const SessionId id = connection->second.session;
  connections_.erase(connection);
  const auto it = sessions_.find(id);
  if (it == sessions_.end()) return;  // none yet, or dead before its stream
  Session& session = it->second;
  session.stream.reset();
  if (loop_ == nullptr) return;
  if (session.said_goodbye) {
    // It unmapped everything, so the arbiter need not wait for its death.
    loop_->post(arbiter::SessionDied{id});
    watcher_->cancel(session.watch);
    forget(id);
  } else if (!session.ended_by_arbiter) {
    loop_->post(arbiter::SessionDisconnected{id});
  }
}

void Sessions::process_died(SessionId id) {
  StreamPtr stream;
  {
    const std::lock_guard lock(mutex_);
    const auto it = sessions_.find(id);
    if (it == sessions_.end()) return;
    spdlog::info("{} (pid {}) has ended; its memory is free", it->second.name,
                 it->second.peer->pid);
    stream = it->second.stream;
    if (loop_ != nullptr) loop_->post(arbiter::SessionDied{id});
    forget(id);
  }
  if (stream) stream->cancel();  // a forked child may hold the other end
}

void Sessions::survivor_died(SessionId id) {
  const std::lock_guard lock(mutex_);
  survivor_watches_.erase(id);
  state_.update([&](SavedState& state) { erase_client(state, id); });
  if (survivors_.erase(id) == 0) return;  // it came back before
  spdlog::info("session {} of the earlier rtswapd has ended with its process", id);
  if (loop_ != nullptr) loop_->post(arbiter::RecoveryPeerDied{});
}

// The arbiter has accepted the session, and with it the end of the one it resumes.
void Sessions::welcomed(SessionId id) {
  const std::lock_guard lock(mutex_);
  const auto it = sessions_.find(id);
  if (it == sessions_.end() || it->second.resumed == 0) return;
  const SessionId old = it->second.resumed;
  if (const auto watch = survivor_watches_.find(old); watch != survivor_watches_.end()) {
    watcher_->cancel(watch->second);
    survivor_watches_.erase(watch);
  }
  if (const auto previous = sessions_.find(old); previous != sessions_.end()) {
    watcher_->cancel(previous->second.watch);
    if (previous->second.stream) previous->second.stream->cancel();
  }
  forget(old);
}

// REQUIRES: mutex_ held.
void Sessions::forget(SessionId id) {
  sessions_.erase(id);
  state_.update([&](SavedState& state) { erase_client(state, id); });
}

Result<Sessions::Session*> Sessions::own_session(SessionId id, pid_t pid) {
  const auto it = sessions_.find(id);
  if (it != sessions_.end() && it->second.peer->pid == pid) return &it->second;
  return fail(
      violation("session " + std::to_string(id) + " is not one of process " + std::to_string(pid)));
}

Result<UniqueFd> Sessions::open_ring(SessionId id, pid_t pid) {
  StreamPtr stream;
  {
    const std::lock_guard lock(mutex_);
    RTSWAP_ASSIGN(const Session* const session, own_session(id, pid));
    stream = session->stream;
  }
  if (!stream) {
    return fail(violation("session " + std::to_string(id) + " has no stream any more"));
  }
  return stream->open_ring();  // outside the lock: the messages of all sessions would wait for it
}

Status Sessions::note_fetch(SessionId id, pid_t pid, const std::string& device_uuid) {
  {
    const std::lock_guard lock(mutex_);
    RTSWAP_TRY(own_session(id, pid));
    state_.update([&](SavedState& state) {
      for (SavedClient& client : state.clients) {
        if (client.session != id) continue;
        if (std::find(client.devices.begin(), client.devices.end(), device_uuid) ==
            client.devices.end()) {
          client.devices.push_back(device_uuid);
        }
      }
    });
  }
  state_.flush();
  return {};
}

std::optional<protocol::Snapshot> Sessions::snapshot() {
  arbiter::Loop* loop = nullptr;
  {
    const std::lock_guard lock(mutex_);
    loop = loop_;
  }
  // Outside the lock: the loop may be in send(). It outlives the gRPC server, hence this call.
  if (loop == nullptr) return {};
  return loop->snapshot();
}

void Sessions::send(SessionId id, protocol::ArbiterMessage message) {
  if (std::holds_alternative<protocol::Welcome>(message)) welcomed(id);
  StreamPtr stream;
  {
    const std::lock_guard lock(mutex_);
    const auto it = sessions_.find(id);
    if (it != sessions_.end()) stream = it->second.stream;
  }
  if (stream) stream->send(message);
}

void Sessions::close_session(SessionId id, const Error& reason) {
  StreamPtr stream;
  {
    const std::lock_guard lock(mutex_);
    const auto it = sessions_.find(id);
    if (it == sessions_.end()) return;
    it->second.ended_by_arbiter = true;
    stream = it->second.stream;
    if (reason.code != ErrorCode::closed) {
      spdlog::warn("session of {} (pid {}) ended: {}", it->second.name, it->second.peer->pid,
                   reason.message);
    }
  }
  if (stream) stream->finish();
}

void Sessions::trace(const arbiter::Trace& event) {
  if (options_.trace != nullptr) options_.trace->write(event);
  if (spdlog::should_log(spdlog::level::debug)) spdlog::debug("{}", trace_line(event));
}

void Sessions::failed(const std::string& what) { options_.on_failure(what); }

}  // namespace rtswap::daemon
