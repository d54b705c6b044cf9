#include "csrc/client/device_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

namespace rtswap::client {
namespace {

constexpr mode_t kLockMode = 0644;  // others may read who has it

std::string pid_in(int file) {
  std::array<char, 32> text{};
  const ssize_t got = pread(file, text.data(), text.size() - 1, 0);
  std::string pid(text.data(), got > 0 ? static_cast<size_t>(got) : 0);
  while (!pid.empty() && pid.back() == '\n') pid.pop_back();
  return pid.empty() ? "unknown" : pid;
}

Status lock_and_sign(int file, const std::string& device_uuid) {
  while (flock(file, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno == EWOULDBLOCK) {
      return fail(ErrorCode::device_in_use,
                  "the process with pid " + pid_in(file) + " manages the memory of " + device_uuid +
                      " already: end it, or start rtswapd and let both use it");
    }
    return fail(ErrorCode::unsupported,
                "the lock of " + device_uuid + " cannot be taken: " + std::strerror(errno));
  }
  const std::string pid = std::to_string(getpid()) + "\n";
  // Only for the message above; the lock itself is taken.
  if (ftruncate(file, 0) == 0) (void)!pwrite(file, pid.data(), pid.size(), 0);
  return {};
}

}  // namespace

Result<DeviceLock> DeviceLock::take(const std::string& device_uuid,
                                    const std::vector<std::string>& folders) {
  std::string tried;
  for (const std::string& folder : folders) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    const std::string path = folder + "/" + device_uuid + ".lock";
    UniqueFd file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, kLockMode));
    if (!file) {
      tried += (tried.empty() ? "" : ", ") + path + " (" + std::strerror(errno) + ")";
      continue;
    }
    RTSWAP_TRY(lock_and_sign(file.get(), device_uuid));
    return DeviceLock(std::move(file));
  }
  return fail(ErrorCode::unsupported, "no lock can be made for " + device_uuid +
                                          ", so two arbiters could manage it at once: "
                                          "tried " +
                                          tried +
                                          "; set XDG_RUNTIME_DIR to a folder that can be written");
}

std::vector<std::string> DeviceLock::default_folders() {
  std::vector<std::string> folders;
  if (const char* runtime = std::getenv("XDG_RUNTIME_DIR"); runtime != nullptr && *runtime != 0) {
    folders.push_back(std::string(runtime) + "/rtswap");
  }
  folders.emplace_back("/run/rtswap");
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != 0) {
    folders.push_back(std::string(home) + "/.cache/rtswap");
  }
  return folders;
}

DeviceLock::~DeviceLock() {
  // Explicitly: a forked child shares the open file and would keep the lock after close().
  if (file_) flock(file_.get(), LOCK_UN);
}

}  // namespace rtswap::client
