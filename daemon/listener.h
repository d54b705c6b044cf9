// A listening Unix socket that knows who connects. gRPC could bind a socket itself, but it would
// neither tell the peer's process nor keep other users out, so the daemon accepts and hands over.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "csrc/base/result.h"
#include "csrc/base/unique_fd.h"
#include "daemon/peer.h"
#include "daemon/socket_place.h"

namespace rtswap::daemon {

class Listener {
 public:
  // Called on the listener's thread with each accepted, non-blocking connection.
  using OnPeer = std::function<void(UniqueFd socket, Peer peer)>;

  // Replaces what an ended daemon left at `path`. Without a group the socket is this user's (mode
  // 0600) and others but root are turned away; with one it is 0660, and the kernel keeps all but
  // the group's members out. REQUIRES: the place was checked and the lock of the
  // socket is held.
  static Result<std::unique_ptr<Listener>> create(const std::string& path,
                                                  const SocketAccess& access, OnPeer on_peer);
  ~Listener();  // stops, joins and removes the socket; connections live on
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

 private:
  Listener(std::string path, UniqueFd socket, bool serves_group, OnPeer on_peer);
  void run();
  void accept_one();

  const std::string path_;
  const UniqueFd socket_;
  const UniqueFd stop_;
  const bool serves_group_;
  const OnPeer on_peer_;
  std::thread thread_;
};

}  // namespace rtswap::daemon
