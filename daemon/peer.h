// Who is at the other end of a Unix socket, as the kernel says it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "csrc/base/result.h"
#include "csrc/base/unique_fd.h"

namespace rtswap::daemon {

struct Peer {
  pid_t pid = 0;  // 0: in a PID namespace that this process cannot see
  uid_t uid = 0;
  std::string user;     // the name of `uid`; its number where it has none
  UniqueFd process;     // pidfd: readable once the process is dead
  UniqueFd connection;  // duplicate of the socket, to break it off
};

// Whether the other end of the connection is closed.
bool has_hung_up(const Peer& peer);

// `unsupported` when the kernel can give no pidfd for the peer.
Result<Peer> identify_peer(int socket);

// A pidfd for a process of an earlier life; nullopt when it is dead or its pid belongs to another
// process by now. `start_ticks` as by start_ticks_of().
std::optional<UniqueFd> open_process(pid_t pid, uint64_t start_ticks);
// When the process started, in ticks since boot; 0 when it does not exist. With the pid it names a
// process once and for all, until the next boot.
uint64_t start_ticks_of(pid_t pid);

}  // namespace rtswap::daemon
