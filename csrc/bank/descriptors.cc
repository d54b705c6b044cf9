#include "csrc/bank/descriptors.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

namespace rtswap::bank {
namespace {

// For descriptors that pass through low numbers, and for what the program opens later.
constexpr uint64_t kSpare = 256;

struct OpenDescriptors {
  uint64_t all = 0;
  uint64_t high = 0;  // from kLowestDescriptor on: of other banks, mostly
};

OpenDescriptors count_descriptors() {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir("/proc/self/fd"), &closedir);
  OpenDescriptors count;
  if (folder == nullptr) return count;
  while (const dirent* entry = readdir(folder.get())) {
    if (entry->d_name[0] == '.') continue;
    ++count.all;
    if (std::atoi(entry->d_name) >= kLowestDescriptor) ++count.high;
  }
  return count;
}

}  // namespace

uint64_t descriptors_of_bank(const driver::DeviceInfo& device, uint32_t chunk_count) {
  return uint64_t{device.simulated ? 2u : 1u} * chunk_count;
}

Status make_room_for_descriptors(uint32_t chunk_count, uint64_t descriptors) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return fail(ErrorCode::descriptor_limit,
                std::string("the limit of open files cannot be read: ") + std::strerror(errno));
  }
  const OpenDescriptors open = count_descriptors();
  const uint64_t needed = open.all + descriptors + kSpare;
  const uint64_t comfortable =
      std::max(needed, kLowestDescriptor + open.high + descriptors + kSpare);
  if (limit.rlim_cur >= comfortable) return {};
  const rlimit raised{.rlim_cur = std::min<rlim_t>(comfortable, limit.rlim_max),
                      .rlim_max = limit.rlim_max};
  if (raised.rlim_cur >= needed && setrlimit(RLIMIT_NOFILE, &raised) == 0) return {};
  return fail(ErrorCode::descriptor_limit,
              "a bank of " + std::to_string(chunk_count) + " chunks needs a limit of " +
                  std::to_string(needed) + " open files; the hard limit of this process is " +
                  std::to_string(limit.rlim_max) +
                  ". Raise it (ulimit -Hn, LimitNOFILE= of a systemd unit, --ulimit nofile= of a "
                  "container), or use larger chunks");
}

UniqueFd move_up(UniqueFd fd) {
  if (fd.get() >= kLowestDescriptor) return fd;
  UniqueFd high(fcntl(fd.get(), F_DUPFD_CLOEXEC, kLowestDescriptor));
  return high ? std::move(high) : std::move(fd);
}

}  // namespace rtswap::bank
