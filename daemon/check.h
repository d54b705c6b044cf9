// `rtswapd check`: what this machine offers and what the daemon would do, on stdout.
#pragma once

#include "daemon/config.h"

namespace rtswap::daemon {

// Exit status: 0 when rtswapd would start, 1 otherwise. Changes nothing.
int check(const Config& config);

}  // namespace rtswap::daemon
