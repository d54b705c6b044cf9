// The limit on open files of this process, which descriptors of chunks come up against.
#pragma once

#include <cstdint>
#include <string>

#include "csrc/base/result.h"

namespace rtswap {

// Raises the soft limit if `count` more files, and some that the program opens meanwhile, do not
// fit below it; if the hard limit allows, so that they fit with numbers from `lowest_number` on.
// `descriptor_limit` with both numbers when the hard limit is too low; `what_needs` begins the
// message: "a bank of 4 chunks needs". Threads: any, but the limit is the process's.
Status make_room_for_files(uint64_t count, int lowest_number, const std::string& what_needs);

}  // namespace rtswap
