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

namespace rtswap::bank {
namespace {

// For descriptors that pass through low numbers, and for what the program opens later.
constexpr uint64_t kSpare = 256;

// Open descriptors from kLowestDescriptor on: other banks, mostly.
uint64_t count_high_descriptors() {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir("/proc/self/fd"), &closedir);
  if (folder == nullptr) return 0;
  uint64_t count = 0;
  while (const dirent* entry = readdir(folder.get())) {
    if (std::atoi(entry->d_name) >= kLowestDescriptor) ++count;
  }
  return count;
}

}  // namespace

Status make_room_for_descriptors(uint32_t count) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return fail(ErrorCode::descriptor_limit,
                std::string("the limit of open files cannot be read: ") + std::strerror(errno));
  }
  const uint64_t needed = kLowestDescriptor + count_high_descriptors() + count + kSpare;
  if (limit.rlim_cur >= needed) return {};
  // The simulated device keeps one more descriptor for each chunk.
  const uint64_t wanted = needed + count;
  const rlimit raised{.rlim_cur = std::min<rlim_t>(wanted, limit.rlim_max),
                      .rlim_max = limit.rlim_max};
  if (raised.rlim_cur >= needed && setrlimit(RLIMIT_NOFILE, &raised) == 0) return {};
  return fail(ErrorCode::descriptor_limit,
              "a bank of " + std::to_string(count) + " chunks needs a limit of " +
                  std::to_string(needed) + " open files; the hard limit of this process is " +
                  std::to_string(limit.rlim_max) +
                  ". Raise it (ulimit -Hn, LimitNOFILE= of a systemd unit, --ulimit nofile= of a "
                  "container), or use larger chunks");
}

Result<UniqueFd> move_up(UniqueFd fd) {
  if (fd.get() >= kLowestDescriptor) return fd;
  UniqueFd high(fcntl(fd.get(), F_DUPFD_CLOEXEC, kLowestDescriptor));
  if (high) return high;
  return fail(ErrorCode::descriptor_limit,
              "descriptor " + std::to_string(fd.get()) + " cannot be moved above " +
                  std::to_string(kLowestDescriptor) + ": " + std::strerror(errno) +
                  ". Raise the limit of open files (ulimit -n)");
}

}  // namespace rtswap::bank
