#include "daemon/sessions.h"

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

}  // namespace

Sessions::Sessions(Options options, StateKeeper& state)
    : options_(std::move(options)), state_(state), last_session_(options_.last_session) {}

Status Sessions::await(std::vector<Survivor> survivors) {
  const std::lock_guard lock(mutex_);
  for (Survivor& survivor : survivors) {
    const SessionId session = survivor.client.session;
    RTSWAP_ASSIGN(
        survivor_watches_[session],
        watcher_.watch(std::move(survivor.process), [this, session] { survivor_died(session); }));
    survivors_.emplace(session, std::move(survivor.client));
  }
  return {};
}

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

Status Sessions::pass_on(SessionId id, const v1::ClientEnvelope& envelope) {
  RTSWAP_ASSIGN(protocol::ClientMessage message, rpc::decode(envelope));
  if (envelope.session_id() != id || envelope.epoch() != options_.epoch) {
    return fail(ErrorCode::protocol_violation,
                "a message of session " + std::to_string(envelope.session_id()) +
                    " in the stream of session " + std::to_string(id));
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
    watcher_.cancel(session.watch);
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
    watcher_.cancel(watch->second);
    survivor_watches_.erase(watch);
  }
  if (const auto previous = sessions_.find(old); previous != sessions_.end()) {
    watcher_.cancel(previous->second.watch);
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
  return fail(ErrorCode::protocol_violation,
              "session " + std::to_string(id) + " is not one of process " + std::to_string(pid));
}

Result<UniqueFd> Sessions::open_ring(SessionId id, pid_t pid) {
  StreamPtr stream;
  {
    const std::lock_guard lock(mutex_);
    RTSWAP_ASSIGN(const Session* const session, own_session(id, pid));
    stream = session->stream;
  }
  if (!stream) {
    return fail(ErrorCode::protocol_violation,
                "session " + std::to_string(id) + " has no stream any more");
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
