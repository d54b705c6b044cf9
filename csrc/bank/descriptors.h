// Where the descriptors of a bank live in this process. They are many and stay open for as long as
// the bank does, so they are kept above the numbers that select() can watch and that programs which
// fork workers expect to own, as far as the limit of open files allows.
//
// Threads: any.
#pragma once

#include <cstdint>

#include "csrc/base/result.h"
#include "csrc/base/unique_fd.h"
#include "csrc/driver/driver.h"

namespace rtswap::bank {

inline constexpr int kLowestDescriptor = 4096;

// Open files of a process that makes a bank of so many chunks: the exported descriptors, and on the
// simulated device, whose chunks are files themselves, as many again.
uint64_t descriptors_of_bank(const driver::DeviceInfo& device, uint32_t chunk_count);

// Room for so many more `descriptors` of a bank, with numbers from kLowestDescriptor on if
// possible; see make_room_for_files().
Status make_room_for_descriptors(uint32_t chunk_count, uint64_t descriptors);

// The same descriptor, closed by exec: under a number >= kLowestDescriptor if one is free.
UniqueFd move_up(UniqueFd fd);

}  // namespace rtswap::bank
