#include "csrc/driver/simulated_link.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstring>
#include <thread>
#include <utility>

#include "csrc/base/clock.h"
#include "csrc/base/units.h"

namespace rtswap::driver {
namespace {

using namespace rtswap::literals;

constexpr uint64_t kSliceBytes = 1_MiB;  // short enough to keep the pace, long enough to be cheap

int64_t transfer_ns(uint64_t bytes, uint64_t bytes_per_s) {
  // 128 bits: 18 GB times 1e9 is already more than 64 bits hold.
  const auto scaled = static_cast<unsigned __int128>(bytes) * 1'000'000'000u;
  return static_cast<int64_t>((scaled + bytes_per_s - 1) / bytes_per_s);
}

uint64_t or_default(uint64_t bytes_per_s) {
  return bytes_per_s == 0 ? kDefaultLinkBytesPerS : bytes_per_s;
}

// The best of a few warm copies, larger than the caches near a core.
uint64_t measure_memcpy_bytes_per_s() {
  constexpr uint64_t kBytes = 8_MiB;
  std::vector<std::byte> from(kBytes, std::byte{1});
  std::vector<std::byte> to(kBytes);
  int64_t best_ns = 1_s;
  for (int round = 0; round < 4; ++round) {
    const int64_t start_ns = monotonic_now_ns();
    std::memcpy(to.data(), from.data(), kBytes);
    // The compiler may not drop a copy whose result it must assume is read.
    asm volatile("" : : "r"(to.data()) : "memory");
    best_ns = std::min(best_ns, std::max<int64_t>(1, monotonic_now_ns() - start_ns));
  }
  return kBytes * 1'000'000'000 / static_cast<uint64_t>(best_ns);
}

class WallClockLink final : public SimulatedLink {
 public:
  explicit WallClockLink(uint64_t bytes_per_s) : bytes_per_s_(bytes_per_s) {}

  // Finishes what was submitted: the ranges are valid until their copies are done.
  ~WallClockLink() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    for (Engine& engine : engines_) {
      if (engine.worker.joinable()) engine.worker.join();
    }
  }

  TicketPtr submit(CopyRequest request) override {
    auto ticket = std::make_shared<CopyTicket>();
    {
      const std::lock_guard lock(mutex_);
      Engine& engine = engines_[static_cast<size_t>(request.direction)];
      // Started with the first copy: an arbiter never copies and so has no idle threads.
      if (!engine.worker.joinable())
        engine.worker = std::thread([this, &engine] { serve(engine); });
      engine.queue.push_back({std::move(request), ticket});
    }
    changed_.notify_all();
    return ticket;
  }

  bool is_done(const CopyTicket& ticket) override {
    const std::lock_guard lock(mutex_);
    return ticket.done;
  }

  void wait(const CopyTicket& ticket) override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ticket.done; });
  }

  uint64_t bytes_per_s() const noexcept override { return bytes_per_s_; }

 private:
  struct Job {
    CopyRequest request;
    TicketPtr ticket;
  };
  struct Engine {
    std::deque<Job> queue;
    std::thread worker;
    int64_t busy_until_ns = 0;  // touched by the worker only
  };

  void serve(Engine& engine) {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return stopping_ || !engine.queue.empty(); });
      if (engine.queue.empty()) return;
      Job job = std::move(engine.queue.front());
      engine.queue.pop_front();
      changed_.wait(lock, [&] {
        return std::all_of(job.request.after.begin(), job.request.after.end(),
                           [](const TicketPtr& earlier) { return earlier->done; });
      });
      lock.unlock();
      move_bytes(engine, job.request);
      job.request = {};  // lets go of the ranges before anybody can learn that the copy is done
      lock.lock();
      job.ticket->done = true;
      changed_.notify_all();
    }
  }

  void move_bytes(Engine& engine, const CopyRequest& request) {
    auto* to = static_cast<std::byte*>(request.to);
    const auto* from = static_cast<const std::byte*>(request.from);
    for (uint64_t offset = 0; offset < request.bytes; offset += kSliceBytes) {
      const uint64_t bytes = std::min(kSliceBytes, request.bytes - offset);
      const int64_t start_ns = std::max(monotonic_now_ns(), engine.busy_until_ns);
      std::memcpy(to + offset, from + offset, bytes);
      engine.busy_until_ns = start_ns + transfer_ns(bytes, bytes_per_s_);
      sleep_until_ns(engine.busy_until_ns);
    }
  }

  const uint64_t bytes_per_s_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::array<Engine, 2> engines_;
};

}  // namespace

std::shared_ptr<SimulatedLink> make_wall_clock_link(uint64_t bytes_per_s) {
  const uint64_t ceiling = std::max<uint64_t>(1, measure_memcpy_bytes_per_s() / 8);
  return std::make_shared<WallClockLink>(std::min(or_default(bytes_per_s), ceiling));
}

VirtualLink::VirtualLink(uint64_t bytes_per_s) : bytes_per_s_(or_default(bytes_per_s)) {}

int64_t VirtualLink::now_ns() const {
  const std::lock_guard lock(mutex_);
  return now_ns_;
}

TicketPtr VirtualLink::submit(CopyRequest request) {
  auto ticket = std::make_shared<CopyTicket>();
  const std::lock_guard lock(mutex_);
  int64_t& busy_until_ns = busy_until_ns_[static_cast<size_t>(request.direction)];
  int64_t start_ns = std::max(now_ns_, busy_until_ns);
  for (const TicketPtr& earlier : request.after) {
    start_ns = std::max(start_ns, earlier->done_at_ns);
  }
  busy_until_ns = start_ns + transfer_ns(request.bytes, bytes_per_s_);
  ticket->done_at_ns = busy_until_ns;
  const auto later = std::upper_bound(
      pending_.begin(), pending_.end(), ticket->done_at_ns,
      [](int64_t time_ns, const Pending& other) { return time_ns < other.ticket->done_at_ns; });
  pending_.insert(later, {std::move(request), ticket});
  return ticket;
}

void VirtualLink::advance_to(int64_t time_ns) {
  const std::lock_guard lock(mutex_);
  while (!pending_.empty() && pending_.front().ticket->done_at_ns <= time_ns) complete_next();
  now_ns_ = std::max(now_ns_, time_ns);
}

void VirtualLink::complete_next() {
  Pending next = std::move(pending_.front());
  pending_.pop_front();
  now_ns_ = std::max(now_ns_, next.ticket->done_at_ns);
  if (next.request.bytes > 0) std::memcpy(next.request.to, next.request.from, next.request.bytes);
  next.request = {};
  next.ticket->done = true;
}

bool VirtualLink::is_done(const CopyTicket& ticket) {
  const std::lock_guard lock(mutex_);
  return ticket.done;
}

void VirtualLink::wait(const CopyTicket& ticket) { advance_to(ticket.done_at_ns); }

}  // namespace rtswap::driver
