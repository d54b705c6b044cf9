#include "csrc/driver/simulated_link.h"

#include <array>
#include <string>

#include "csrc/base/units.h"
#include "tests/catch.h"

namespace rtswap::driver {
namespace {

using namespace rtswap::literals;

// At 1 GB/s a byte takes 1 ns: sizes read as durations.
constexpr uint64_t kBytesPerS = 1'000'000'000;
constexpr uint64_t kBytes = 1000;

struct Buffers {
  std::array<char, kBytes> from{};
  std::array<char, kBytes> to{};

  CopyRequest request(CopyDirection direction, std::vector<TicketPtr> after = {}) {
    return {.direction = direction,
            .to = to.data(),
            .from = from.data(),
            .bytes = kBytes,
            .after = std::move(after),
            .holds = {}};
  }
};

TEST_CASE("virtual time passes only when it is advanced, and bytes move when a copy completes") {
  VirtualLink link(kBytesPerS);
  Buffers buffers;
  buffers.from.fill('x');
  auto held = std::make_shared<int>(0);
  CopyRequest request = buffers.request(CopyDirection::to_device);
  request.holds.push_back(held);
  const TicketPtr ticket = link.submit(std::move(request));
  link.advance_to(999);
  CHECK_FALSE(link.is_done(*ticket));
  CHECK(buffers.to[0] == 0);
  CHECK(held.use_count() == 2);
  link.advance_to(1000);
  CHECK(link.is_done(*ticket));
  CHECK(buffers.to == buffers.from);
  CHECK(held.use_count() == 1);
  link.advance_to(10);
  CHECK(link.now_ns() == 1000);
}

TEST_CASE("a direction serves one copy after the other, both directions work at once") {
  VirtualLink link(kBytesPerS);
  Buffers buffers;
  Buffers more;
  const TicketPtr first = link.submit(buffers.request(CopyDirection::to_device));
  const TicketPtr second = link.submit(buffers.request(CopyDirection::to_device));
  const TicketPtr other = link.submit(more.request(CopyDirection::to_host));
  link.wait(*other);
  CHECK(link.now_ns() == 1000);
  CHECK(link.is_done(*first));
  link.wait(*second);
  CHECK(link.now_ns() == 2000);
  link.wait(*first);
  CHECK(link.now_ns() == 2000);
  // An idle link loses its time: the next copy starts now.
  link.advance_to(5000);
  link.wait(*link.submit(buffers.request(CopyDirection::to_device)));
  CHECK(link.now_ns() == 6000);
}

TEST_CASE("a copy starts after the copies it depends on") {
  VirtualLink link(kBytesPerS);
  Buffers device;
  device.from.fill('y');
  Buffers back;
  const TicketPtr first = link.submit(device.request(CopyDirection::to_device));
  CopyRequest request = back.request(CopyDirection::to_host, {first});
  request.from = device.to.data();
  const TicketPtr second = link.submit(std::move(request));
  link.advance_to(1999);
  CHECK_FALSE(link.is_done(*second));
  link.advance_to(2000);
  CHECK(link.is_done(*second));
  CHECK(back.to == device.from);
}

TEST_CASE("a transfer takes its bytes over the bandwidth, rounded up") {
  VirtualLink link(3'000'000'000);
  Buffers buffers;
  link.wait(*link.submit(buffers.request(CopyDirection::to_host)));
  CHECK(link.now_ns() == 334);
}

TEST_CASE("wall clock link: copies are done in order, and dependencies hold") {
  const auto link = make_wall_clock_link(0);
  CHECK(link->bytes_per_s() > 0);
  CHECK(link->bytes_per_s() <= kDefaultLinkBytesPerS);
  Buffers device;
  device.from.fill('z');
  Buffers back;
  const TicketPtr first = link->submit(device.request(CopyDirection::to_device));
  CopyRequest request = back.request(CopyDirection::to_host, {first});
  request.from = device.to.data();
  const TicketPtr second = link->submit(std::move(request));
  link->wait(*second);
  CHECK(link->is_done(*first));
  CHECK(back.to == device.from);
}

TEST_CASE("wall clock link: the end of a link finishes what was submitted") {
  Buffers buffers;
  buffers.from.fill('w');
  {
    const auto link = make_wall_clock_link(0);
    link->submit(buffers.request(CopyDirection::to_device));
  }
  CHECK(buffers.to == buffers.from);
}

TEST_CASE("a link faster than the host can feed is slowed down") {
  CHECK(make_wall_clock_link(uint64_t{1} << 60)->bytes_per_s() < (uint64_t{1} << 50));
}

}  // namespace
}  // namespace rtswap::driver
