#include "csrc/base/clock.h"

#include <time.h>

#include <cerrno>

namespace rtswap {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;

int64_t read_clock_ns(clockid_t id) noexcept {
  timespec ts{};
  clock_gettime(id, &ts);
  return static_cast<int64_t>(ts.tv_sec) * kNsPerSecond + ts.tv_nsec;
}

}  // namespace

int64_t monotonic_now_ns() noexcept { return read_clock_ns(CLOCK_MONOTONIC); }

int64_t realtime_now_ns() noexcept { return read_clock_ns(CLOCK_REALTIME); }

void sleep_until_ns(int64_t deadline_ns) noexcept {
  const timespec ts{.tv_sec = deadline_ns / kNsPerSecond, .tv_nsec = deadline_ns % kNsPerSecond};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, nullptr) == EINTR) {
  }
}

}  // namespace rtswap
