// Says what happened when CPU code touches memory of a simulated device that is not there: one line
// on stderr with the name of the arena, before the process dies of the signal as it would have.
// With CUDA the same mistake ends the context (error 700); here it is at least explained.
#pragma once

#include <cstdint>
#include <string_view>

namespace rtswap::driver {

// From now on a SIGSEGV or SIGBUS with an address in [begin, +bytes) is explained as one in arena
// `label` (cut to 63 bytes). The first call installs the signal handler, which hands on to the one
// before it and never turns the signal into anything else. When more than 1024 ranges are known the
// faults in further ones stay unexplained.
void report_faults_in(uint64_t begin, uint64_t bytes, std::string_view label) noexcept;

// Takes back report_faults_in(begin, ...).
void forget_fault_range(uint64_t begin) noexcept;

}  // namespace rtswap::driver
