// Waits for processes to end. The process is the lease of a client's memory: when its pidfd becomes
// readable the kernel has closed its files, and nothing of it can touch the device any more.
//
// Threads: any; callbacks come from the watcher's own thread, one at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "csrc/base/result.h"
#include "csrc/base/unique_fd.h"

namespace rtswap::daemon {

class Watcher {
 public:
  using WatchId = uint64_t;

  Watcher();
  ~Watcher();  // joins; no callback after that
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  // Calls `on_exit` once when the process behind `pidfd` has ended, at once if it already has.
  // Errors: descriptor_limit where the system watches no more; then it is not called.
  Result<WatchId> watch(UniqueFd pidfd, std::function<void()> on_exit);
  // After this the callback does not come any more, unless it has begun already.
  void cancel(WatchId id);

 private:
  struct Watch {
    UniqueFd pidfd;
    std::function<void()> on_exit;
  };

  void run();

  UniqueFd epoll_;
  UniqueFd stop_;
  std::mutex mutex_;
  std::map<WatchId, Watch> watches_;
  WatchId next_id_ = 1;
  std::thread thread_;
};

}  // namespace rtswap::daemon
