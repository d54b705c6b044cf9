// How much memory this process may still take: what the machine has, and what its memory cgroups
// (version 1 or 2, at every level) leave.
#pragma once

#include <cstdint>
#include <filesystem>

#include "csrc/base/result.h"

namespace rtswap::engine {

// `host_memory`, with the numbers, when `bytes` more would leave less than 5 % of the machine's
// memory or of a cgroup's limit: pinned memory cannot be reclaimed, and going over kills processes.
// `root` is where /proc and /sys are found. A limit that cannot be read does not count.
Status check_host_memory(uint64_t bytes, const std::filesystem::path& root = "/");

}  // namespace rtswap::engine
