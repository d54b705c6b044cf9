// Operations on the daemon's one completion queue: what stands behind their tags, and the count of
// those that may still begin others.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>

namespace rtswap::daemon {

// What stands behind the tag of an operation. Run by the thread that drains the queue.
class Completion {
 public:
  virtual ~Completion() = default;
  virtual void run(bool ok) = 0;
};

// Calls that are waited for, or have come and are not over. A queue may be shut down only when
// there is none: their next operation would find it closed. When the server has been shut down no
// call comes any more, and those waited for end. Any thread.
class CallCount {
 public:
  void add() {
    const std::lock_guard lock(mutex_);
    ++calls_;
  }

  void remove() {
    const std::lock_guard lock(mutex_);
    --calls_;
    changed_.notify_all();
  }

  void wait_for_none() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return calls_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t calls_ = 0;
};

}  // namespace rtswap::daemon
