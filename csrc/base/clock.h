// Time: int64_t nanoseconds of CLOCK_MONOTONIC, which all processes of one host share. Policy code
// never reads a clock: `now_ns` enters it as an argument.
#pragma once

#include <cstdint>

namespace rtswap {

// CLOCK_MONOTONIC, ns.
int64_t monotonic_now_ns() noexcept;

// CLOCK_REALTIME, ns.
int64_t realtime_now_ns() noexcept;

// Sleeps until CLOCK_MONOTONIC reaches `deadline_ns` (absolute, so that delays do not add up).
void sleep_until_ns(int64_t deadline_ns) noexcept;

}  // namespace rtswap
