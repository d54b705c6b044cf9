#include "csrc/rpc/unix_socket.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "csrc/base/clock.h"
#include "csrc/base/open_files.h"

namespace rtswap::rpc {
namespace {

Error connect_error(const std::string& path, int error) {
  const std::string at = " at " + path;
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return {ErrorCode::daemon_unavailable,
              "no daemon" + at +
                  ": the socket does not exist. Start rtswapd, or set RTSWAP_SOCKET "
                  "to the socket of the one that runs"};
    case ECONNREFUSED:
      return {ErrorCode::daemon_unavailable,
              "nobody listens" + at +
                  ": the daemon that made this socket has ended. Start rtswapd "
                  "again (it replaces the socket)"};
    case EACCES:
    case EPERM:
      return {ErrorCode::daemon_unavailable,
              "no permission to use the socket" + at +
                  ": the daemon serves another user. Run as "
                  "that user, or start it with --group and join the group"};
    case ENOTSOCK:
    case EPROTOTYPE:
      return {ErrorCode::daemon_unavailable, "there is something" + at +
                                                 ", but not the socket of a daemon: remove it, or "
                                                 "name the socket of the one that runs"};
    default:
      return {ErrorCode::daemon_unavailable,
              "cannot connect to the daemon" + at + ": " + std::strerror(error)};
  }
}

}  // namespace

std::string descriptor_socket_path(const std::string& socket_path) { return socket_path + ".fds"; }

Result<UniqueFd> connect_unix(const std::string& path, int64_t limit_ns,
                              const Interrupted& interrupted) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return fail(ErrorCode::invalid_argument,
                "a socket path has 1 to " + std::to_string(sizeof(address.sun_path) - 1) +
                    " bytes, this one has " + std::to_string(path.size()) + ": " + path);
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) {
    return fail(ErrorCode::descriptor_limit,
                std::string("cannot make a socket: ") + std::strerror(errno));
  }
  const int64_t deadline_ns = monotonic_now_ns() + limit_ns;
  while (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    // EAGAIN: the queue of the listener is full; a Unix socket cannot be polled for that.
    if (errno != EAGAIN && errno != EINTR) {
      struct stat info {};
      const int error = errno;
      const bool is_file =
          error == ECONNREFUSED && ::stat(path.c_str(), &info) == 0 && !S_ISSOCK(info.st_mode);
      return fail(connect_error(path, is_file ? ENOTSOCK : error));
    }
    if (monotonic_now_ns() >= deadline_ns) {
      return fail(ErrorCode::daemon_unavailable,
                  "the daemon at " + path +
                      " exists but does not accept connections; it hangs or "
                      "is stopped");
    }
    RTSWAP_TRY(check(interrupted));
    sleep_until_ns(monotonic_now_ns() + 1'000'000);
  }
  return fd;
}

Status ensure_descriptor_room(size_t count) {
  return make_room_for_files(count, 0, std::to_string(count) + " descriptors of chunks need");
}

}  // namespace rtswap::rpc
