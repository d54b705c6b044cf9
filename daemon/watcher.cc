#include "daemon/watcher.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <cstring>

#include "csrc/base/check.h"

namespace rtswap::daemon {
namespace {

constexpr Watcher::WatchId kStop = 0;

bool add(int epoll, int fd, Watcher::WatchId id) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = id;
  return ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

}  // namespace

Watcher::Watcher() : epoll_(::epoll_create1(EPOLL_CLOEXEC)), stop_(::eventfd(0, EFD_CLOEXEC)) {
  RTSWAP_CHECK(epoll_ && stop_, std::strerror(errno));
  RTSWAP_CHECK(add(epoll_.get(), stop_.get(), kStop), std::strerror(errno));
  thread_ = std::thread([this] { run(); });
}

Watcher::~Watcher() {
  ::eventfd_write(stop_.get(), 1);
  thread_.join();
}

Result<Watcher::WatchId> Watcher::watch(UniqueFd pidfd, std::function<void()> on_exit) {
  const std::lock_guard lock(mutex_);
  const WatchId id = next_id_++;
  if (!add(epoll_.get(), pidfd.get(), id)) {
    return fail(ErrorCode::descriptor_limit,
                std::string("rtswapd cannot watch one more process (") + std::strerror(errno) +
                    "): raise fs.epoll.max_user_watches, or its memory limit");
  }
  watches_.emplace(id, Watch{std::move(pidfd), std::move(on_exit)});
  return id;
}

void Watcher::cancel(WatchId id) {
  const std::lock_guard lock(mutex_);
  const auto it = watches_.find(id);
  if (it == watches_.end()) return;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, it->second.pidfd.get(), nullptr);
  watches_.erase(it);
}

void Watcher::run() {
  pthread_setname_np(pthread_self(), "watcher");
  for (;;) {
    epoll_event event{};
    const int ready = ::epoll_wait(epoll_.get(), &event, 1, -1);
    if (ready < 0 && errno == EINTR) continue;
    RTSWAP_CHECK(ready == 1, std::strerror(errno));
    if (event.data.u64 == kStop) return;
    std::function<void()> on_exit;
    {
      const std::lock_guard lock(mutex_);
      const auto it = watches_.find(event.data.u64);
      if (it == watches_.end()) continue;
      ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, it->second.pidfd.get(), nullptr);
      on_exit = std::move(it->second.on_exit);
      watches_.erase(it);
    }
    on_exit();
  }
}

}  // namespace rtswap::daemon
