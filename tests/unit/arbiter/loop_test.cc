#include "csrc/arbiter/loop.h"

#include <condition_variable>
#include <mutex>

#include "csrc/base/clock.h"
#include "tests/catch.h"
#include "tests/unit/arbiter/harness.h"

namespace rtswap::arbiter::test {
namespace {

class Recorder : public EffectSink {
 public:
  void send(SessionId, protocol::ArbiterMessage message) override {
    const std::lock_guard lock(mutex_);
    messages_.push_back(std::move(message));
    changed_.notify_all();
  }
  void close_session(SessionId, const Error&) override {}
  void trace(const Trace&) override {}
  void failed(const std::string&) override {}

  template <class Message>
  Message wait_for() {
    std::unique_lock lock(mutex_);
    const Message* found = nullptr;
    changed_.wait(lock, [&] {
      for (const auto& message : messages_) {
        if (const auto* typed = std::get_if<Message>(&message)) found = typed;
      }
      return found != nullptr;
    });
    return *found;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<protocol::ArbiterMessage> messages_;
};

TEST_CASE("events go in, effects come out, and timers fire by themselves") {
  Recorder sink;
  Config config = one_device(8);
  config.hang_timeout_ns = 3'600'000 * kMs;
  Loop loop(config, sink);
  const bool on_this_thread = GENERATE(false, true);
  const auto bring = [&](Event event) {
    if (!on_this_thread) return loop.post(std::move(event));
    loop.queue(std::move(event));
    loop.run_queued();
  };
  const protocol::Timing timing{1000 * kMs, 50 * kMs, 10 * kMs};
  // A picture shows every event posted before it was asked for.
  loop.post(
      std::vector<Event>{SessionOpened{1, 100, "user"}, FromClient{1, protocol::Hello{}},
                         FromClient{1, protocol::OpenArena{1, 0, 2, 0}},
                         FromClient{1, protocol::OpenTask{1, 1, "first", timing, false, {}, {}}},
                         FromClient{1, protocol::OpenTask{2, 1, "second", timing, false, {}, {}}}});
  CHECK(sink.wait_for<protocol::Welcome>().session == 1);
  CHECK(loop.snapshot().tasks.size() == 2);
  // One that ends leaves the loop asleep until it would have counted as hung, an hour later: still
  // it wakes up in time for what follows.
  const int64_t before_ns = monotonic_now_ns();
  bring(FromClient{1, protocol::Release{1, 1, before_ns, before_ns + config.hang_timeout_ns}});
  sink.wait_for<protocol::Grant>();
  bring(FromClient{1, protocol::Restored{1, 2}});
  sink.wait_for<protocol::Run>();
  bring(FromClient{1, protocol::JobDone{1, kMs}});
  // The first job never ends: the second is dropped when its time is over, without another event.
  const int64_t now_ns = monotonic_now_ns();
  bring(FromClient{1, protocol::Release{2, 1, now_ns, now_ns + 50 * kMs}});
  bring(FromClient{1, protocol::Release{3, 2, now_ns, now_ns + 50 * kMs}});
  CHECK(sink.wait_for<protocol::Dropped>().reason.code == ErrorCode::job_dropped);
}

}  // namespace
}  // namespace rtswap::arbiter::test
