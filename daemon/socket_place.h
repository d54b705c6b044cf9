// Where the daemon's sockets lie, and who may use them.
#pragma once

#include <sys/types.h>

#include <string>

#include "csrc/base/result.h"

namespace rtswap::daemon {

// Who may use the daemon, and so the modes of its folder and sockets.
struct SocketAccess {
  std::string group;  // empty: this user (and root) alone
};

// Whether both sockets can be made at `socket_path`, seen without changing anything: the path is
// short enough, nothing but sockets of an earlier daemon lies there, the folder can be written or
// made, the group exists. `invalid_argument` says what is in the way.
Status check_place(const std::string& socket_path, const SocketAccess& access);

// Makes the folder of the socket if it is missing (0700; with a group 0755).
Status prepare_folder(const std::string& socket_path, const SocketAccess& access);

// `invalid_argument` when there is no such group.
Result<gid_t> find_group(const std::string& name);

}  // namespace rtswap::daemon
