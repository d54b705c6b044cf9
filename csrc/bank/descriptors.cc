#include "csrc/bank/descriptors.h"

#include <fcntl.h>

#include <string>
#include <utility>

#include "csrc/base/open_files.h"

namespace rtswap::bank {

uint64_t descriptors_of_bank(const driver::DeviceInfo& device, uint32_t chunk_count) {
  return uint64_t{device.simulated ? 2u : 1u} * chunk_count;
}

Status make_room_for_descriptors(uint32_t chunk_count, uint64_t descriptors) {
  return make_room_for_files(descriptors, kLowestDescriptor,
                             "a bank of " + std::to_string(chunk_count) + " chunks needs");
}

UniqueFd move_up(UniqueFd fd) {
  if (fd.get() >= kLowestDescriptor) return fd;
  UniqueFd high(fcntl(fd.get(), F_DUPFD_CLOEXEC, kLowestDescriptor));
  return high ? std::move(high) : std::move(fd);
}

}  // namespace rtswap::bank
