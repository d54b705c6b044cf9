// The Unix sockets of a daemon as a client meets them, and room for what comes over them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "csrc/base/interrupted.h"
#include "csrc/base/result.h"
#include "csrc/base/unique_fd.h"

namespace rtswap::rpc {

// The descriptor socket (fd_channel.h) that belongs to a daemon's listening socket.
std::string descriptor_socket_path(const std::string& socket_path);

// Connects to a Unix socket. `daemon_unavailable` says which of missing, refused, no permission it
// is, and what to do; `invalid_argument` for a path that is too long for a socket; `interrupted`.
// Blocks.
Result<UniqueFd> connect_unix(const std::string& path, int64_t limit_ns,
                              const Interrupted& interrupted = {});

// Room for so many descriptors of chunks; see make_room_for_files().
Status ensure_descriptor_room(size_t count);

}  // namespace rtswap::rpc
