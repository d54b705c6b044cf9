// Serves the descriptor socket: chunks and message rings to sessions, and chunks back from an
// earlier life's clients.
#pragma once

#include <functional>
#include <list>
#include <mutex>
#include <thread>

#include "csrc/base/unique_fd.h"
#include "daemon/banks.h"
#include "daemon/peer.h"
#include "daemon/sessions.h"

namespace rtswap::daemon {

class DescriptorServer {
 public:
  // `wanted_bank(device)` is the id of the bank that the daemon waits for on that device, or empty.
  DescriptorServer(Banks& banks, Sessions& sessions,
                   std::function<std::string(size_t device)> wanted_bank);
  ~DescriptorServer();  // ends what is under way, joins
  DescriptorServer(const DescriptorServer&) = delete;
  DescriptorServer& operator=(const DescriptorServer&) = delete;

  // Serves one connection on a thread of its own. Any thread.
  void accept(UniqueFd socket, Peer peer);

 private:
  struct Connection {
    UniqueFd socket;
    bool done = false;
    std::thread thread;
  };
  void serve(Connection& connection, int64_t pid);
  void reap(bool all);

  Banks& banks_;
  Sessions& sessions_;
  const std::function<std::string(size_t)> wanted_bank_;
  std::mutex mutex_;
  std::list<Connection> connections_;
};

}  // namespace rtswap::daemon
