#include "csrc/bank/device_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>

namespace rtswap::bank {
namespace {

constexpr mode_t kEverybody = 0666;  // the next holder, of any user, signs it
constexpr mode_t kSharedFolder = S_ISVTX | S_IWOTH;

std::string holder_of(int file) {
  std::array<char, 32> text{};
  const ssize_t got = pread(file, text.data(), text.size() - 1, 0);
  std::string pid(text.data(), got > 0 ? static_cast<size_t>(got) : 0);
  while (!pid.empty() && pid.back() == '\n') pid.pop_back();
  if (pid.empty()) return "another process";
  std::string name;
  std::getline(std::ifstream("/proc/" + pid + "/comm"), name);
  return (name.empty() ? "a process" : name) + " (pid " + pid + ")";
}

// Never follows a link that somebody left there, and never creates a file that exists: in a folder
// of everybody the kernel refuses that for files of other users.
UniqueFd open_or_create(const std::string& path) {
  constexpr int kFlags = O_RDWR | O_CLOEXEC | O_NOFOLLOW;
  for (int attempt = 0; attempt < 2; ++attempt) {
    UniqueFd file(open(path.c_str(), kFlags));
    if (file || errno != ENOENT) return file;
    file.reset(open(path.c_str(), kFlags | O_CREAT | O_EXCL, kEverybody));
    if (file) (void)fchmod(file.get(), kEverybody);  // whatever the umask
    if (file || errno != EEXIST) return file;
  }
  return {};
}

}  // namespace

std::string DeviceLock::shared_folder() {
  struct stat status {};
  const std::string folder = "/run/lock";
  const bool shared = stat(folder.c_str(), &status) == 0 && S_ISDIR(status.st_mode) &&
                      (status.st_mode & kSharedFolder) == kSharedFolder;
  return shared ? folder : "/tmp";
}

Result<DeviceLock> DeviceLock::take(const std::string& device_uuid, const std::string& folder) {
  const std::string path = folder + "/rtswap-" + device_uuid + ".lock";
  const auto refuse = [&](const std::string& step) {
    return fail(ErrorCode::unsupported, "the lock of " + device_uuid + " cannot be " + step + ", " +
                                            path + ": " + std::strerror(errno) +
                                            "; without it two arbiters could manage one GPU");
  };
  UniqueFd file = open_or_create(path);
  if (!file) return refuse("opened");
  while (flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return refuse("taken");
    return fail(ErrorCode::device_in_use,
                holder_of(file.get()) + " manages the memory of " + device_uuid +
                    " already, and a GPU has one arbiter: end that process, or let all processes "
                    "use one rtswapd");
  }
  const std::string pid = std::to_string(getpid()) + "\n";
  // Only for the message above; the lock itself is taken.
  if (ftruncate(file.get(), 0) == 0) (void)!pwrite(file.get(), pid.data(), pid.size(), 0);
  return DeviceLock(std::move(file));
}

DeviceLock::~DeviceLock() {
  // Explicitly: a forked child shares the open file and would keep the lock after close().
  if (file_) flock(file_.get(), LOCK_UN);
}

}  // namespace rtswap::bank
