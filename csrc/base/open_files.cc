#include "csrc/base/open_files.h"

#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

namespace rtswap {
namespace {

constexpr uint64_t kOwnRoom = 256;  // for what the program opens meanwhile

struct OpenFiles {
  uint64_t all = 0;
  uint64_t from_lowest = 0;  // with numbers from the lowest wanted one on
};

OpenFiles count_open_files(int lowest_number) {
  std::error_code ignored;
  OpenFiles count;
  for (auto file = std::filesystem::directory_iterator("/proc/self/fd", ignored);
       file != std::filesystem::directory_iterator(); file.increment(ignored)) {
    ++count.all;
    if (std::atoi(file->path().filename().c_str()) >= lowest_number) ++count.from_lowest;
  }
  return count;
}

}  // namespace

Status make_room_for_files(uint64_t count, int lowest_number, const std::string& what_needs) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return {};  // the files will tell
  const OpenFiles open = count_open_files(lowest_number);
  const uint64_t needed = open.all + count + kOwnRoom;
  const uint64_t comfortable =
      std::max(needed, static_cast<uint64_t>(lowest_number) + open.from_lowest + count + kOwnRoom);
  if (limit.rlim_cur >= comfortable) return {};
  if (limit.rlim_max < needed) {
    return fail(ErrorCode::descriptor_limit,
                what_needs + " a limit of " + std::to_string(needed) +
                    " open files, and the hard limit of this process is " +
                    std::to_string(limit.rlim_max) +
                    "; raise it (ulimit -Hn, LimitNOFILE= of a systemd unit, --ulimit nofile= of a "
                    "container) or use larger chunks");
  }
  limit.rlim_cur = std::min<rlim_t>(comfortable, limit.rlim_max);
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return fail(ErrorCode::descriptor_limit,
                std::string("cannot raise the limit on open files: ") + std::strerror(errno));
  }
  return {};
}

}  // namespace rtswap
