// Where a link can be measured: a chunk of its own, outside any bank, mapped, and pinned host
// memory of the same size.
#pragma once

#include <cstdint>
#include <memory>

#include "csrc/base/result.h"
#include "csrc/driver/driver.h"

namespace rtswap::client {

enum class Direction : uint8_t { to_device, to_host };

// Threads: one at a time, attached to the driver.
class CopyPlace {
 public:
  // Of `bytes` or, with less than that free, of half of it, and so on, down to the granularity;
  // `out_of_memory` when there is no room at all, `host_memory` when the host has none. A failure
  // leaves nothing behind. REQUIRES: bytes > 0; `driver` outlives the place.
  static Result<std::unique_ptr<CopyPlace>> make(driver::Driver& driver, uint64_t bytes);
  ~CopyPlace();  // once its copies have ended
  CopyPlace(const CopyPlace&) = delete;
  CopyPlace& operator=(const CopyPlace&) = delete;

  uint64_t bytes() const;

  // Queues a copy of all bytes behind those queued before.
  Status start(Direction direction);
  // Waits for all copies queued so far.
  Status finish();

  // REQUIRES: mapped, nothing queued; or unmapped.
  Status unmap();
  Status map();

 private:
  struct Parts;
  explicit CopyPlace(std::unique_ptr<Parts> parts);

  const std::unique_ptr<Parts> parts_;
};

}  // namespace rtswap::client
