// Physical memory of the simulated device: one memfd per chunk, so that a chunk can be passed to
// another process as a descriptor and outlives the process that made it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <mutex>

#include "csrc/base/result.h"
#include "csrc/base/unique_fd.h"
#include "csrc/driver/driver.h"

namespace rtswap::driver {

// Bytes of all chunks that this process knows, created or imported. Thread-safe.
class ChunkBudget {
 public:
  explicit ChunkBudget(uint64_t total_bytes) : total_bytes_(total_bytes) {}
  // False, and nothing taken, when fewer than `bytes` are free.
  bool take_if_free(uint64_t bytes);
  // For chunks that exist already; imports cannot be refused for want of memory.
  void take(uint64_t bytes);
  void give_back(uint64_t bytes);
  uint64_t free_bytes() const;

 private:
  const uint64_t total_bytes_;
  mutable std::mutex mutex_;
  uint64_t used_bytes_ = 0;
};

// One chunk, alive as long as this process has a handle or a mapping of it. Thread-safe.
class SimulatedChunk {
 public:
  // A new chunk full of 0xFF. Every page is touched, so that later copies run at a steady pace.
  static Result<std::shared_ptr<SimulatedChunk>> create(uint64_t bytes,
                                                        std::shared_ptr<ChunkBudget> budget);
  // The chunk behind `fd`, of which this takes a duplicate.
  static Result<std::shared_ptr<SimulatedChunk>> import(int fd, uint64_t bytes,
                                                        std::shared_ptr<ChunkBudget> budget);
  ~SimulatedChunk();
  SimulatedChunk(const SimulatedChunk&) = delete;
  SimulatedChunk& operator=(const SimulatedChunk&) = delete;

  int fd() const noexcept { return fd_.get(); }
  uint64_t bytes() const noexcept { return bytes_; }
  // The same for every descriptor of the same memory.
  ino_t identity() const noexcept { return identity_; }

  // Overwrites the chunk with 0xFF.
  Status poison();

  // Called around each mapping. A chunk has one owner, so memory that another process has mapped
  // (either of the two for writing) is refused; the kernel forgets the claims of a process that
  // died. A GPU cannot check this: here a mistake in the ledger of chunks is loud. The check is
  // lost, never wrongly strict, when this process closes another descriptor of a chunk that it has
  // mapped.
  Status claim(Access access);
  void disclaim() noexcept;

 private:
  SimulatedChunk(UniqueFd fd, uint64_t bytes, ino_t identity, std::shared_ptr<ChunkBudget> budget);

  const UniqueFd fd_;
  const uint64_t bytes_;
  const ino_t identity_;
  const std::shared_ptr<ChunkBudget> budget_;
  std::mutex mutex_;
  uint32_t claims_ = 0;
  bool claimed_for_writing_ = false;
};

using ChunkPtr = std::shared_ptr<SimulatedChunk>;

// A duplicate of `fd` that an exec closes. `descriptor_limit` when the process has no more.
Result<UniqueFd> duplicate_fd(int fd);

}  // namespace rtswap::driver
