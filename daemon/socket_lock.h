// One daemon per socket: a lock on "<socket>.lock", taken before anything else is touched. Without
// it a second daemon would replace the socket of the first, which would then be unreachable.
#pragma once

#include <string>

#include "csrc/base/result.h"
#include "csrc/base/unique_fd.h"

namespace rtswap::daemon {

// Held until the descriptor is closed, also by a crash. `device_in_use` names the process that
// holds it.
Result<UniqueFd> lock_socket(const std::string& socket_path);

// The process that serves the socket now; 0: none.
int socket_holder(const std::string& socket_path);

}  // namespace rtswap::daemon
