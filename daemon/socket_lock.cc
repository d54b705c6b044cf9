#include "daemon/socket_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace rtswap::daemon {
namespace {

std::string lock_path(const std::string& socket_path) { return socket_path + ".lock"; }

int pid_in(int fd) {
  std::array<char, 32> text{};
  const ssize_t length = ::pread(fd, text.data(), text.size() - 1, 0);
  return length > 0 ? std::atoi(text.data()) : 0;
}

}  // namespace

Result<UniqueFd> lock_socket(const std::string& socket_path) {
  const std::string path = lock_path(socket_path);
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) {
    return fail(ErrorCode::invalid_argument, "cannot open the lock " + path + ": " +
                                                 std::strerror(errno) +
                                                 "; choose another place with --socket");
  }
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    const int pid = pid_in(fd.get());
    return fail(ErrorCode::device_in_use,
                "another rtswapd" + (pid > 0 ? " (pid " + std::to_string(pid) + ")" : "") +
                    " serves " + socket_path + " already; stop it first, or use another --socket");
  }
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(fd.get(), 0) != 0 ||
      ::pwrite(fd.get(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    return fail(ErrorCode::invalid_argument,
                "cannot write the lock " + path + ": " + std::strerror(errno));
  }
  return fd;
}

int socket_holder(const std::string& socket_path) {
  const UniqueFd fd(::open(lock_path(socket_path).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd || ::flock(fd.get(), LOCK_SH | LOCK_NB) == 0) return 0;
  return pid_in(fd.get());
}

}  // namespace rtswap::daemon
