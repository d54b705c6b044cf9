// Which arbiter to connect to: a pure rule over what the user said and which sockets exist.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "csrc/base/result.h"
#include "csrc/client/session.h"

namespace rtswap::client {

struct SocketWishes {
  ArbiterChoice choice = ArbiterChoice::automatic;
  std::string socket_path;  // as given by the caller; empty: not given
  std::string environment;  // value of RTSWAP_SOCKET; empty: not set
  std::string runtime_dir;  // value of XDG_RUNTIME_DIR; empty: not set
};

// Path of the daemon's socket; nullopt: an embedded arbiter. A path that was named is used whether
// it exists or not, and a socket that exists is used whether it answers or not: a daemon that is
// down must not silently become an arbiter that knows nothing of the other processes.
// `daemon_unavailable` when a daemon is asked for and there is no socket.
Result<std::optional<std::string>> choose_socket(
    const SocketWishes& wishes, const std::function<bool(const std::string&)>& exists);

// The same for these options, with the environment and the files of this process.
Result<std::optional<std::string>> choose_socket(const ConnectOptions& options);

}  // namespace rtswap::client
