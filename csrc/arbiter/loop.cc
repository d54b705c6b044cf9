#include "csrc/arbiter/loop.h"

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "csrc/base/clock.h"

namespace rtswap::arbiter {
namespace {

// steady_clock is CLOCK_MONOTONIC here, the clock of every `_ns` instant of the project.
std::chrono::steady_clock::time_point instant(int64_t at_ns) {
  return std::chrono::steady_clock::time_point(std::chrono::nanoseconds(at_ns));
}

constexpr int64_t kAwake_ns = INT64_MIN;

}  // namespace

class Loop::Impl {
 public:
  Impl(Config config, EffectSink& sink)
      : arbiter_(std::move(config)), sink_(sink), last_snapshot_(arbiter_.snapshot()) {
    thread_ = std::thread([this] { run(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

  void post(std::vector<Event> events) {
    queue(std::move(events));
    wake_.notify_one();
  }

  void queue(std::vector<Event> events) {
    const std::lock_guard lock(mutex_);
    if (stopped_) return;
    posted_ += events.size();
    for (Event& event : events) queue_.push_back(std::move(event));
  }

  void run_queued() {
    std::unique_lock lock(mutex_);
    if (stopping_ || stopped_ || applying_) return;  // whoever is at it takes these as well
    guarded(lock, [&] {
      while (!stopping_ && !queue_.empty()) apply_next(lock);
    });
    if (timer_ns_ < asleep_until_ns_ || stopping_ || !snapshot_after_.empty()) wake_.notify_one();
  }

  Snapshot snapshot() {
    std::unique_lock lock(mutex_);
    const uint64_t ticket = ++snapshots_asked_;
    snapshot_after_.push_back(posted_);
    wake_.notify_one();
    snapshot_taken_.wait(lock, [&] { return stopped_ || snapshots_taken_ >= ticket; });
    return last_snapshot_;
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    guarded(lock, [&] {
      while (!stopping_) serve(lock);
    });
    idle_.wait(lock, [this] { return !applying_; });
    stopped_ = true;
    queue_.clear();
    snapshot_taken_.notify_all();
  }

  // A step that fails stops the loop, whichever thread took it.
  template <class Steps>
  void guarded(std::unique_lock<std::mutex>& lock, Steps steps) {
    try {
      steps();
    } catch (const std::exception& error) {
      // The lock may or may not be held, depending on which step failed.
      if (!lock.owns_lock()) lock.lock();
      stopping_ = applying_ = true;  // no other step begins, and the loop ends after failed()
      lock.unlock();
      sink_.failed(error.what());
      lock.lock();
      applying_ = false;
      idle_.notify_all();
    }
  }

  // One round: everything queued, then the timer, then sleep until there is something to do.
  void serve(std::unique_lock<std::mutex>& lock) {
    if (applying_) {  // another thread runs what is queued
      idle_.wait(lock, [this] { return !applying_; });
      return;
    }
    // A snapshot shows every event posted before it was asked for, and waits for no later one.
    if (!snapshot_after_.empty() && snapshot_after_.front() <= applied_) {
      last_snapshot_ = arbiter_.snapshot();
      while (!snapshot_after_.empty() && snapshot_after_.front() <= applied_) {
        snapshot_after_.pop_front();
        ++snapshots_taken_;
      }
      snapshot_taken_.notify_all();
    }
    if (!queue_.empty()) {
      apply_next(lock);
      return;
    }
    if (timer_ns_ <= monotonic_now_ns()) {
      timer_ns_ = protocol::kNoDeadline_ns;
      apply(lock, TimerFired{});
      return;
    }
    asleep_until_ns_ = timer_ns_;
    const auto something_to_do = [&] {
      return stopping_ || !queue_.empty() || !snapshot_after_.empty() ||
             timer_ns_ < asleep_until_ns_;
    };
    if (asleep_until_ns_ == protocol::kNoDeadline_ns) {
      wake_.wait(lock, something_to_do);
    } else {
      wake_.wait_until(lock, instant(asleep_until_ns_), something_to_do);
    }
    asleep_until_ns_ = kAwake_ns;
  }

  void apply_next(std::unique_lock<std::mutex>& lock) {
    const Event event = std::move(queue_.front());
    queue_.pop_front();
    apply(lock, event);
    ++applied_;
  }

  // One thread at a time touches the arbiter; the lock is released so that post() never waits for
  // it.
  void apply(std::unique_lock<std::mutex>& lock, const Event& event) {
    applying_ = true;
    int64_t timer_ns = timer_ns_;
    lock.unlock();
    for (Effect& effect : arbiter_.step(monotonic_now_ns(), event)) {
      if (const auto* timer = std::get_if<SetTimer>(&effect)) {
        timer_ns = timer->at_ns;
      } else {
        carry_out(effect);
      }
    }
    lock.lock();
    timer_ns_ = timer_ns;
    applying_ = false;
    idle_.notify_all();
  }

  void carry_out(Effect& effect) {
    if (auto* send = std::get_if<Send>(&effect)) {
      sink_.send(send->session, std::move(send->message));
    } else if (auto* close = std::get_if<CloseSession>(&effect)) {
      sink_.close_session(close->session, close->reason);
    } else if (auto* trace = std::get_if<Trace>(&effect)) {
      sink_.trace(*trace);
    }
  }

  Arbiter arbiter_;  // of whoever set applying_, or holds mutex_ while it is not set
  EffectSink& sink_;

  std::mutex mutex_;  // guards everything below
  std::condition_variable wake_;
  std::condition_variable idle_;  // applying_ ended
  bool applying_ = false;
  int64_t timer_ns_ = protocol::kNoDeadline_ns;
  // Only an earlier timer wakes the thread; it looks again by itself when this has come. Each job
  // sets a timer and takes it back, so the one it sleeps for is mostly an old one.
  int64_t asleep_until_ns_ = kAwake_ns;
  std::condition_variable snapshot_taken_;
  std::deque<Event> queue_;
  uint64_t posted_ = 0;  // events
  uint64_t applied_ = 0;
  std::deque<uint64_t> snapshot_after_;  // of snapshots asked for: `posted_` then
  Snapshot last_snapshot_;
  uint64_t snapshots_asked_ = 0;
  uint64_t snapshots_taken_ = 0;
  bool stopping_ = false;
  bool stopped_ = false;
  std::thread thread_;
};

Loop::Loop(Config config, EffectSink& sink)
    : impl_(std::make_unique<Impl>(std::move(config), sink)) {}

Loop::~Loop() = default;

void Loop::post(Event event) {
  std::vector<Event> events;
  events.push_back(std::move(event));
  impl_->post(std::move(events));
}

void Loop::post(std::vector<Event> events) { impl_->post(std::move(events)); }

void Loop::queue(Event event) {
  std::vector<Event> events;
  events.push_back(std::move(event));
  impl_->queue(std::move(events));
}

void Loop::run_queued() { impl_->run_queued(); }

Snapshot Loop::snapshot() { return impl_->snapshot(); }

}  // namespace rtswap::arbiter
