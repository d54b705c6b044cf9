// One process's connection to its arbiter: in-process (csrc/client/embedded.h) or gRPC
// (csrc/rpc/grpc_link.h). Messages arrive in the order they were sent, in both directions.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "csrc/base/interrupted.h"
#include "csrc/base/result.h"
#include "csrc/base/unique_fd.h"
#include "csrc/protocol/messages.h"
#include "csrc/protocol/snapshot.h"

namespace rtswap::protocol {

// What a link tells its owner. One call at a time, from a thread of the link or from within
// flush() or poll(), never from within send(); must not block for long: the next message waits
// behind them.
class LinkReceiver {
 public:
  virtual ~LinkReceiver() = default;
  virtual void on_message(ArbiterMessage message) = 0;
  // The link is gone; no further call follows. The arbiter may be back later on a new link.
  virtual void on_lost(const Error& error) = 0;
};

class Link {
 public:
  virtual ~Link() = default;  // joins the link's threads; no receiver call after that
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  // Starts delivering to `receiver`, which outlives the link. Called once.
  virtual Status start(LinkReceiver& receiver) = 0;

  // Queues one message; never blocks. `daemon_unavailable` once the link is lost.
  virtual Status send(ClientMessage message) = 0;

  // As send(), for a caller that calls flush() next, after it has released its locks.
  virtual Status queue(ClientMessage message) { return send(std::move(message)); }
  // Where the arbiter is in this process: lets it take in what is queued on the calling thread,
  // which saves the time in which another thread wakes up; answers may arrive before it returns.
  // REQUIRES: the caller holds no lock that the receiver takes.
  virtual void flush() {}

  // Opens the way that poll() looks at, where the arbiter offers one. Blocks (a second socket);
  // called after Welcome, not from a receiver call.
  virtual Status open_shortcut(SessionId session, const Interrupted& interrupted = {}) {
    (void)session, (void)interrupted;
    return {};
  }
  // Delivers on the calling thread what the arbiter has said and the link's own threads have not
  // read yet, if it can be seen without waiting: for a thread that looks for an answer.
  // REQUIRES: as flush().
  virtual void poll() {}

  // The arbiter's view of all sessions. Blocks for at most `limit_ns`; not from a receiver call.
  virtual Result<Snapshot> snapshot(int64_t limit_ns) = 0;

  // The bank's chunks of one device as descriptors, index = ChunkId. Blocks (a second socket);
  // called after Welcome, not from a receiver call.
  virtual Result<std::vector<UniqueFd>> fetch_chunks(SessionId session, uint32_t device,
                                                     const Interrupted& interrupted = {}) = 0;

  // Gives copies of the descriptors back to an arbiter that restarted and asks for them; before
  // Hello on a new link. `fds` stay the caller's. Does nothing when the arbiter has its chunks.
  // Blocks.
  virtual Status offer_chunks(const std::string& bank_id, const std::string& device_uuid,
                              uint64_t chunk_bytes, const std::vector<int>& fds,
                              const Interrupted& interrupted = {}) = 0;

 protected:
  Link() = default;
};

}  // namespace rtswap::protocol
