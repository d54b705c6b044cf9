// The copy engines of a simulated device: one per direction, each serves its copies in the order in
// which they were submitted, at the bandwidth of the link. Time is behind this interface: the wall
// clock link moves bytes on two threads and sleeps; the virtual link has no threads and moves them
// when its clock is advanced, which makes whole runs deterministic.
//
// Threads: every method may be called from any thread.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

namespace rtswap::driver {

enum class CopyDirection : uint8_t { to_device = 0, to_host = 1 };

// The moment at which one copy is complete. Its fields belong to the link.
struct CopyTicket {
  bool done = false;
  int64_t done_at_ns = 0;  // virtual link only: known from the moment of submission
};
using TicketPtr = std::shared_ptr<CopyTicket>;

struct CopyRequest {
  CopyDirection direction = CopyDirection::to_device;
  void* to = nullptr;
  const void* from = nullptr;
  uint64_t bytes = 0;
  // The copy starts after all of these. They were submitted to the same link before it, so that a
  // queue which waits for them cannot wait for itself.
  std::vector<TicketPtr> after;
  // Destroyed before the ticket is done: whatever keeps both ranges valid until then. Their
  // destructors may not call the link.
  std::vector<std::shared_ptr<void>> holds;
};

class SimulatedLink {
 public:
  virtual ~SimulatedLink() = default;
  SimulatedLink(const SimulatedLink&) = delete;
  SimulatedLink& operator=(const SimulatedLink&) = delete;

  virtual TicketPtr submit(CopyRequest request) = 0;
  virtual bool is_done(const CopyTicket& ticket) = 0;
  // Returns when the copy is complete. The wall clock link blocks; the virtual link advances its
  // clock to that moment.
  virtual void wait(const CopyTicket& ticket) = 0;

  // Bandwidth of each direction.
  virtual uint64_t bytes_per_s() const noexcept = 0;

 protected:
  SimulatedLink() = default;
};

inline constexpr uint64_t kDefaultLinkBytesPerS = 1'000'000'000;

// A link in real time. `bytes_per_s` 0 means kDefaultLinkBytesPerS; more than an eighth of what
// this machine's memcpy does (measured here, some 10 ms) is reduced to that, so that the pace is
// kept even when several processes copy at once: ask bytes_per_s() of the result.
std::shared_ptr<SimulatedLink> make_wall_clock_link(uint64_t bytes_per_s);

// A link in virtual time, which starts at 0 and passes only in advance_to() and wait(). A copy's
// bytes move at the moment it completes.
class VirtualLink final : public SimulatedLink {
 public:
  // 0 means kDefaultLinkBytesPerS.
  explicit VirtualLink(uint64_t bytes_per_s);

  int64_t now_ns() const;
  // Completes every copy due until `time_ns`, in order of completion. A time in the past does
  // nothing.
  void advance_to(int64_t time_ns);

  TicketPtr submit(CopyRequest request) override;
  bool is_done(const CopyTicket& ticket) override;
  void wait(const CopyTicket& ticket) override;
  uint64_t bytes_per_s() const noexcept override { return bytes_per_s_; }

 private:
  struct Pending {
    CopyRequest request;
    TicketPtr ticket;
  };

  void complete_next();

  const uint64_t bytes_per_s_;
  mutable std::mutex mutex_;
  int64_t now_ns_ = 0;
  int64_t busy_until_ns_[2] = {0, 0};
  std::deque<Pending> pending_;  // by done_at_ns, equal ones in order of submission
};

}  // namespace rtswap::driver
