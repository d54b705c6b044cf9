// The physical memory of one device: `chunk_count` chunks of equal size, made once by the arbiter
// and known by index (protocol::ChunkId) to everybody. Arbiter and clients hold the same object:
// the arbiter made the chunks, a client imported their descriptors once. Every holder keeps the
// descriptors, because a handle that was imported cannot be exported again and a restarted daemon
// needs them back.
//
// Threads: immutable after construction; any thread may read.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "csrc/base/result.h"
#include "csrc/base/unique_fd.h"
#include "csrc/driver/driver.h"

namespace rtswap::bank {

// Default chunk size for a budget: budget / 128 rounded down to a power of two within 2 MiB ..
// 32 MiB. Mapping and unmapping cost the same for a chunk of any size (60 us on an H200, the copy
// of 3 MiB), while every segment of an arena leaves half a chunk unused in the mean.
uint64_t default_chunk_bytes(uint64_t budget_bytes) noexcept;

class Bank {
 public:
  using Progress = std::function<void(uint32_t chunks_done, uint32_t chunks_total)>;

  // Arbiter: creates all chunks, or none (`out_of_memory`, `descriptor_limit`). Slow on the
  // simulated device (pages are touched), hence `progress`, which may be empty.
  static Result<std::unique_ptr<Bank>> create(driver::Driver& driver, uint64_t chunk_bytes,
                                              uint32_t chunk_count, const Progress& progress);

  // Client, or a restarted arbiter: the chunks behind `descriptors` (index = ChunkId). They are
  // moved above descriptor 4096, out of the way of select() and of forked workers, where the limit
  // of open files allows.
  static Result<std::unique_ptr<Bank>> import(driver::Driver& driver, std::string id,
                                              uint64_t chunk_bytes,
                                              std::vector<UniqueFd> descriptors);

  // Releases the handles. REQUIRES: nothing of the bank is mapped in this process.
  ~Bank();
  Bank(const Bank&) = delete;
  Bank& operator=(const Bank&) = delete;

  // Random, made at creation; chunks of equal id are the same memory.
  const std::string& id() const noexcept { return id_; }
  uint64_t chunk_bytes() const noexcept { return chunk_bytes_; }
  uint32_t chunk_count() const noexcept { return static_cast<uint32_t>(handles_.size()); }

  // REQUIRES: chunk < chunk_count().
  driver::ChunkHandle handle(uint32_t chunk) const;
  int descriptor(uint32_t chunk) const;  // stays the bank's
  std::vector<int> descriptors() const;

 private:
  Bank(driver::Driver& driver, std::string id, uint64_t chunk_bytes);

  driver::Driver& driver_;
  std::string id_;
  uint64_t chunk_bytes_;
  std::vector<driver::ChunkHandle> handles_;
  std::vector<UniqueFd> descriptors_;
};

}  // namespace rtswap::bank
