#include "daemon/listener.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "csrc/base/check.h"
#include "csrc/base/clock.h"
#include "daemon/log.h"

namespace rtswap::daemon {
namespace {

constexpr int kBacklog = 128;

Error cannot(const std::string& what, const std::string& path) {
  return {ErrorCode::invalid_argument, "cannot " + what + " " + path + ": " + std::strerror(errno) +
                                           "; choose another place with --socket"};
}

Result<UniqueFd> bind_socket(const std::string& path, const SocketAccess& access) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  RTSWAP_CHECK(path.size() < sizeof(address.sun_path), "the place was not checked");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail(cannot("make the socket", path));
  ::unlink(path.c_str());  // ours by the lock
  // The mode of an unbound socket becomes the mode of its file: never open to others, not even for
  // a moment, and no change of the process-wide umask.
  if (::fchmod(fd.get(), 0600) != 0 ||
      ::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    return fail(cannot("bind the socket", path));
  }
  if (!access.group.empty()) {
    RTSWAP_ASSIGN(const gid_t gid, find_group(access.group));
    if (::chown(path.c_str(), static_cast<uid_t>(-1), gid) != 0 ||
        ::chmod(path.c_str(), 0660) != 0) {
      return fail(cannot("give the group \"" + access.group + "\" the socket", path));
    }
  }
  if (::listen(fd.get(), kBacklog) != 0) return fail(cannot("listen on", path));
  return fd;
}

}  // namespace

Result<std::unique_ptr<Listener>> Listener::create(const std::string& path,
                                                   const SocketAccess& access, OnPeer on_peer) {
  RTSWAP_ASSIGN(UniqueFd socket, bind_socket(path, access));
  return std::unique_ptr<Listener>(
      new Listener(path, std::move(socket), !access.group.empty(), std::move(on_peer)));
}

Listener::Listener(std::string path, UniqueFd socket, bool serves_group, OnPeer on_peer)
    : path_(std::move(path)),
      socket_(std::move(socket)),
      stop_(::eventfd(0, EFD_CLOEXEC)),
      serves_group_(serves_group),
      on_peer_(std::move(on_peer)),
      thread_([this] { run(); }) {}

Listener::~Listener() {
  ::eventfd_write(stop_.get(), 1);
  thread_.join();
  ::unlink(path_.c_str());
}

void Listener::run() {
  pthread_setname_np(pthread_self(), "listener");
  for (;;) {
    std::array<pollfd, 2> entries{{{socket_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}}};
    if (::poll(entries.data(), entries.size(), -1) < 0) continue;
    if (entries[1].revents != 0) return;
    accept_one();
  }
}

void Listener::accept_one() {
  UniqueFd connection(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!connection) {
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      spdlog::error("cannot accept a client: {}; raise the limit on open files",
                    std::strerror(errno));
      sleep_until_ns(monotonic_now_ns() + 100'000'000);  // the connection waits in the queue
    }
    return;
  }
  Result<Peer> peer = identify_peer(connection.get());
  if (!peer) {
    spdlog::warn("turned a client away: {}", peer.error().message);
    return;
  }
  if (!serves_group_ && peer->uid != ::geteuid() && peer->uid != 0) {
    spdlog::warn(
        "turned away process {} of user {}: this rtswapd serves another user (--group "
        "serves several)",
        peer->pid, peer->user);
    return;
  }
  on_peer_(std::move(connection), std::move(*peer));
}

}  // namespace rtswap::daemon
