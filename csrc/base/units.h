// Byte and time literals. Quantities are plain integers whose unit is part of their name:
// `_bytes` (uint64_t), `_ns` (int64_t, CLOCK_MONOTONIC unless said otherwise).
#pragma once

#include <cstdint>

namespace rtswap {

inline namespace literals {

constexpr uint64_t operator""_KiB(unsigned long long n) { return n << 10; }
constexpr uint64_t operator""_MiB(unsigned long long n) { return n << 20; }
constexpr uint64_t operator""_GiB(unsigned long long n) { return n << 30; }

constexpr int64_t operator""_us(unsigned long long n) { return static_cast<int64_t>(n) * 1'000; }
constexpr int64_t operator""_ms(unsigned long long n) {
  return static_cast<int64_t>(n) * 1'000'000;
}
constexpr int64_t operator""_s(unsigned long long n) {
  return static_cast<int64_t>(n) * 1'000'000'000;
}

}  // namespace literals

// Smallest multiple of `step` that is >= `value`. REQUIRES: step > 0 and no overflow.
constexpr uint64_t round_up(uint64_t value, uint64_t step) {
  return (value + step - 1) / step * step;
}

// Number of `step`-sized pieces that cover `value`. REQUIRES: step > 0.
constexpr uint64_t div_up(uint64_t value, uint64_t step) { return (value + step - 1) / step; }

}  // namespace rtswap
