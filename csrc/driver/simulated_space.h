// Address space of the simulated device in this process: reservations, and the chunks mapped in
// them. Every request is checked against these tables before the kernel is asked for anything.
//
// Threads: every method may be called from any thread; no lock is held while the kernel maps pages.
// Errors: `driver_failure` (message without the name of the call) unless said otherwise.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>

#include "csrc/base/result.h"
#include "csrc/driver/driver.h"
#include "csrc/driver/simulated_chunk.h"

namespace rtswap::driver {

inline constexpr uint64_t kSimulatedGranularityBytes = 2u << 20;

class SimulatedSpace : public std::enable_shared_from_this<SimulatedSpace> {
 public:
  SimulatedSpace() = default;
  ~SimulatedSpace();  // gives every address back
  SimulatedSpace(const SimulatedSpace&) = delete;
  SimulatedSpace& operator=(const SimulatedSpace&) = delete;

  Result<Address> reserve(uint64_t bytes, std::string_view label);
  Status unreserve(Address address, uint64_t bytes);
  Status map(Address address, std::span<const ChunkPtr> chunks, Access access);
  Status unmap(Address address, uint64_t bytes);

  // Checks that all of the range is mapped, writable when `access` is read_write, and keeps it
  // mapped until the result is destroyed: an unmap is refused meanwhile.
  Result<std::shared_ptr<void>> pin(Address address, uint64_t bytes, Access access);

 private:
  struct Piece {
    ChunkPtr chunk;
    Access access = Access::read_only;
    bool settled = false;  // false while map() or unmap() is at work on it
    uint32_t pins = 0;
  };
  using Pieces = std::map<Address, Piece>;
  using Reservations = std::map<Address, uint64_t>;

  // The reservation that contains the range, or end().
  Reservations::iterator reservation_of(Address address, uint64_t bytes);
  // The piece that contains the address, else the first one behind it.
  Pieces::iterator first_piece(Address address);
  void unpin(Address address, uint64_t bytes);
  // Makes the range inaccessible and takes its pieces out of the table.
  Status clear(Address address, uint64_t bytes);

  std::mutex mutex_;
  Reservations reservations_;  // address -> bytes
  Pieces pieces_;
};

}  // namespace rtswap::driver
