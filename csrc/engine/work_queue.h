// Unbounded queue from any threads to one. Threads: every method from any thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

namespace rtswap::engine {

template <class Work>
class WorkQueue {
 public:
  void push(Work work) {
    {
      const std::lock_guard lock(mutex_);
      works_.push_back(std::move(work));
    }
    changed_.notify_one();
  }

  // Waits for work; nothing: the queue was closed and is empty.
  std::optional<Work> pop() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_ || !works_.empty(); });
    return take();
  }

  std::optional<Work> try_pop() {
    const std::lock_guard lock(mutex_);
    return take();
  }

  void close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    changed_.notify_all();
  }

 private:
  std::optional<Work> take() {
    if (works_.empty()) return std::nullopt;
    std::optional<Work> work(std::move(works_.front()));
    works_.pop_front();
    return work;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Work> works_;
  bool closed_ = false;
};

}  // namespace rtswap::engine
