// The clients of this daemon: turns their streams and deaths into events of the arbiter, and the
// arbiter's effects into messages. No policy lives here.
//
// A session outlives its stream: the process is the lease. When the stream ends the arbiter hears
// SessionDisconnected, and SessionDied once the process is dead (or after Goodbye). No message of a
// session is applied after its SessionDied, although a forked child may keep the stream open.
//
// Threads: any.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "csrc/arbiter/loop.h"
#include "daemon/peer.h"
#include "daemon/session_stream.h"
#include "daemon/state_file.h"
#include "daemon/trace_file.h"
#include "daemon/watcher.h"

namespace rtswap::daemon {

// A process of an earlier life that still holds chunks, to be watched.
struct Survivor {
  SavedClient client;
  UniqueFd process;  // pidfd
};

class Sessions final : public arbiter::EffectSink, public SessionStream::Owner {
 public:
  using StreamPtr = SessionStream::Pointer;

  struct Options {
    uint64_t epoch = 0;
    protocol::SessionId last_session = 0;  // of earlier lives: numbers are never reused
    TraceFile* trace = nullptr;            // may be none
    std::function<void(const std::string&)> on_failure;  // the arbiter has stopped
  };

  // `state` outlives this.
  Sessions(Options options, StateKeeper& state);

  // Watches clients of an earlier rtswapd, which may come back. Before anything else; once.
  // Errors: descriptor_limit.
  Status await(std::vector<Survivor> survivors);

  // Lets sessions through to the arbiter; until then they wait. `awaited`: survivors that the
  // arbiter was made to wait for. REQUIRES: close() before `loop` ends.
  void open(arbiter::Loop& loop, size_t awaited);
  // Ends all streams; no event is posted after that.
  void close();

  // Survivors that have neither died nor come back.
  std::vector<SavedClient> survivors() const;

  // A connection was accepted; gRPC will call it `key` (grpc::ServerContext::peer()).
  void admit(const std::string& key, Peer peer);

  grpc::Status on_opened(const StreamPtr& stream) override;
  void on_message(const StreamPtr& stream, const v1::ClientEnvelope& envelope) override;
  void on_handshake_limit(const StreamPtr& stream) override;
  void on_end(const StreamPtr& stream) override;

  // nullopt while no arbiter is there.
  std::optional<protocol::Snapshot> snapshot();
  bool is_open() const;

  // The process `pid` fetches the chunks of a device for its session; remembered before it gets
  // them. `protocol_violation` when the session is not its own.
  Status note_fetch(protocol::SessionId session, pid_t pid, const std::string& device_uuid);

  // Opens the message ring of its session for the process `pid`; errors as note_fetch().
  Result<UniqueFd> open_ring(protocol::SessionId session, pid_t pid);

  void send(protocol::SessionId session, protocol::ArbiterMessage message) override;
  void close_session(protocol::SessionId session, const Error& reason) override;
  void trace(const arbiter::Trace& event) override;
  void failed(const std::string& what) override;

 private:
  // One stream, from its first byte to its last.
  struct Connection {
    std::shared_ptr<Peer> peer;
    std::optional<protocol::Hello> waiting;  // for the arbiter to be there
    protocol::SessionId session = 0;
    bool refused = false;
  };

  struct Session {
    std::shared_ptr<Peer> peer;
    StreamPtr stream;
    Watcher::WatchId watch = 0;
    protocol::SessionId resumed = 0;    // the session whose memory it takes over
    protocol::SessionId asked_for = 0;  // the one that its client named
    std::string name;
    bool said_goodbye = false;
    bool ended_by_arbiter = false;
  };

  // --- session_handshakes.cc ---
  Status take_hello(const StreamPtr& stream, const v1::ClientEnvelope& envelope);
  Status open_session(const StreamPtr& stream, protocol::Hello hello);
  void refuse(const StreamPtr& stream, const Error& error);
  // The session to resume, 0 for a new one; an error when it is not this peer's to resume.
  // REQUIRES: mutex_ held.
  Result<protocol::SessionId> find_resumed(const Peer& peer, const protocol::Hello& hello) const;

  // --- sessions.cc ---
  // REQUIRES: mutex_ held.
  Result<Session*> own_session(protocol::SessionId session, pid_t pid);
  Status pass_on(protocol::SessionId session, const v1::ClientEnvelope& envelope);
  void process_died(protocol::SessionId session);
  void survivor_died(protocol::SessionId session);
  void welcomed(protocol::SessionId session);
  void forget(protocol::SessionId session);

  const Options options_;
  StateKeeper& state_;
  mutable std::mutex mutex_;
  arbiter::Loop* loop_ = nullptr;
  protocol::SessionId last_session_;
  std::map<std::string, std::shared_ptr<Peer>> peers_;
  std::map<StreamPtr, Connection> connections_;
  std::map<protocol::SessionId, Session> sessions_;
  std::map<protocol::SessionId, SavedClient> survivors_;
  std::map<protocol::SessionId, Watcher::WatchId> survivor_watches_;
  Watcher watcher_;  // last: its callbacks use everything above
};

}  // namespace rtswap::daemon
