#include "csrc/engine/host_memory.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace rtswap::engine {
namespace {

namespace fs = std::filesystem;

struct Limit {
  std::string whose;
  uint64_t total_bytes = 0;
  uint64_t available_bytes = 0;

  uint64_t usable_bytes() const noexcept {
    const uint64_t reserve_bytes = total_bytes / 20;
    return available_bytes > reserve_bytes ? available_bytes - reserve_bytes : 0;
  }
};

// The number in a file that holds nothing else; "max" and anything strange: none.
std::optional<uint64_t> read_number(const fs::path& path) {
  std::ifstream file(path);
  uint64_t number = 0;
  if (file >> number) return number;
  return std::nullopt;
}

// The number behind `key` in a file of lines "key number ...".
std::optional<uint64_t> read_field(const fs::path& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string word;
    uint64_t number = 0;
    if (words >> word >> number && word == key) return number;
  }
  return std::nullopt;
}

struct CgroupFiles {
  const char* limit;
  const char* usage;
  const char* reclaimable;  // a field of memory.stat: file cache that gives way
};
constexpr CgroupFiles kVersion1{"memory.limit_in_bytes", "memory.usage_in_bytes",
                                "total_inactive_file"};
constexpr CgroupFiles kVersion2{"memory.max", "memory.current", "inactive_file"};

// The limits of `group` and of the groups around it, up to the mount point.
void add_cgroup_limits(const fs::path& mount, fs::path group, const CgroupFiles& files,
                       std::vector<Limit>& limits) {
  std::error_code ignored;
  // In a container the path is the host's, and only the container's own group is mounted.
  if (!fs::exists(mount / group, ignored)) group.clear();
  while (true) {
    const fs::path folder = mount / group;
    const auto limit_bytes = read_number(folder / files.limit);
    const auto usage_bytes = read_number(folder / files.usage);
    if (limit_bytes && usage_bytes) {
      const uint64_t reclaimable_bytes =
          read_field(folder / "memory.stat", files.reclaimable).value_or(0);
      const uint64_t fixed_bytes = *usage_bytes - std::min(*usage_bytes, reclaimable_bytes);
      limits.push_back({.whose = "the memory cgroup " + folder.string(),
                        .total_bytes = *limit_bytes,
                        .available_bytes = *limit_bytes - std::min(*limit_bytes, fixed_bytes)});
    }
    if (group.empty()) return;
    group = group.has_parent_path() ? group.parent_path() : fs::path();
  }
}

std::vector<Limit> read_limits(const fs::path& root) {
  std::vector<Limit> limits;
  const auto total_kib = read_field(root / "proc/meminfo", "MemTotal:");
  const auto available_kib = read_field(root / "proc/meminfo", "MemAvailable:");
  if (total_kib && available_kib) {
    limits.push_back({.whose = "this machine",
                      .total_bytes = *total_kib * 1024,
                      .available_bytes = *available_kib * 1024});
  }
  // Lines "id:controllers:/path"; version 2 has no controllers.
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const fs::path group = fs::path(line.substr(second + 1)).relative_path();
    if (controllers == ",,") {
      add_cgroup_limits(root / "sys/fs/cgroup", group, kVersion2, limits);
    } else if (controllers.find(",memory,") != std::string::npos) {
      add_cgroup_limits(root / "sys/fs/cgroup/memory", group, kVersion1, limits);
    }
  }
  return limits;
}

std::string text(uint64_t bytes) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, "%.2f GiB (%llu bytes)",
                static_cast<double>(bytes) / (uint64_t{1} << 30),
                static_cast<unsigned long long>(bytes));
  return buffer;
}

}  // namespace

Status check_host_memory(uint64_t bytes, const fs::path& root) {
  const std::vector<Limit> limits = read_limits(root);
  const auto tightest = std::min_element(
      limits.begin(), limits.end(),
      [](const Limit& a, const Limit& b) { return a.usable_bytes() < b.usable_bytes(); });
  if (tightest == limits.end() || bytes <= tightest->usable_bytes()) return {};
  return fail(ErrorCode::host_memory,
              "a host image of " + text(bytes) + " does not fit: " + tightest->whose + " has " +
                  text(tightest->available_bytes) + " of " + text(tightest->total_bytes) +
                  " left, and 5 % of the whole stay free because pinned memory cannot be taken " +
                  "back. Give the process more memory, or register fewer or smaller models");
}

}  // namespace rtswap::engine
