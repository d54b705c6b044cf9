#include "daemon/peer.h"

#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77  // Linux 6.5; newer than some C libraries
#endif

namespace rtswap::daemon {
namespace {

UniqueFd open_pidfd(pid_t pid) {
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

bool has_ended(int pidfd) {
  pollfd entry{pidfd, POLLIN, 0};
  return ::poll(&entry, 1, 0) > 0;
}

std::string name_of_user(uid_t uid) {
  std::array<char, 4096> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr) {
    return entry.pw_name;
  }
  return std::to_string(uid);
}

}  // namespace

bool has_hung_up(const Peer& peer) {
  pollfd entry{peer.connection.get(), POLLRDHUP, 0};
  return ::poll(&entry, 1, 0) > 0;
}

Result<Peer> identify_peer(int socket) {
  ucred credentials{};
  socklen_t length = sizeof(credentials);
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
    return fail(ErrorCode::unsupported,
                std::string("the kernel does not say who connects: ") + std::strerror(errno));
  }
  Peer peer;
  peer.pid = credentials.pid;
  peer.uid = credentials.uid;
  peer.user = name_of_user(peer.uid);
  // Exact, and works across PID namespaces; pidfd_open() of a pid is the fallback before Linux 6.5.
  int pidfd = -1;
  length = sizeof(pidfd);
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &length) == 0) {
    peer.process.reset(pidfd);
  } else if (peer.pid > 0) {
    peer.process = open_pidfd(peer.pid);
  }
  peer.connection.reset(::fcntl(socket, F_DUPFD_CLOEXEC, 0));
  if (!peer.connection) {
    return fail(ErrorCode::descriptor_limit, "rtswapd may not open more files");
  }
  if (!peer.process) {
    return fail(ErrorCode::unsupported,
                "process " + std::to_string(peer.pid) +
                    " cannot be watched, so its memory could never be taken back: it died already, "
                    "or lives in another PID namespace and the kernel is older than 6.5");
  }
  return peer;
}

uint64_t start_ticks_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text((std::istreambuf_iterator<char>(file)), {});
  // The second field is the name in parentheses and may hold anything; field 22 is the start.
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return 0;
  std::istringstream fields(text.substr(name_end + 1));
  std::string skipped;
  for (int field = 3; field < 22; ++field) fields >> skipped;
  uint64_t ticks = 0;
  fields >> ticks;
  return ticks;
}

std::optional<UniqueFd> open_process(pid_t pid, uint64_t start_ticks) {
  if (pid <= 0) return {};
  UniqueFd pidfd = open_pidfd(pid);
  // The pidfd first: what /proc says afterwards is then about the process it holds, or about none.
  if (!pidfd || start_ticks_of(pid) != start_ticks || has_ended(pidfd.get())) return {};
  return pidfd;
}

}  // namespace rtswap::daemon
