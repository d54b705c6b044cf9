// Where the descriptors of a bank live in this process. They are many and stay open for as long as
// the bank does, so they are kept above the numbers that select() can watch and that programs which
// fork workers expect to own.
//
// Threads: any. Errors: `descriptor_limit`.
#pragma once

#include <cstdint>

#include "csrc/base/result.h"
#include "csrc/base/unique_fd.h"

namespace rtswap::bank {

inline constexpr int kLowestDescriptor = 4096;

// Makes room for `count` more descriptors from kLowestDescriptor on: raises the soft limit of open
// files toward the hard one when it has to, and fails when even that is too low.
Status make_room_for_descriptors(uint32_t count);

// The same descriptor under a number >= kLowestDescriptor, closed by exec.
Result<UniqueFd> move_up(UniqueFd fd);

}  // namespace rtswap::bank
