#include "csrc/driver/simulated_space.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "csrc/base/check.h"
#include "csrc/base/units.h"
#include "csrc/driver/simulated_fault.h"

namespace rtswap::driver {
namespace {

void* pointer(Address address) { return reinterpret_cast<void*>(address); }

tl::unexpected<Error> refuse(const std::string& why) {
  return fail(ErrorCode::driver_failure, why);
}

tl::unexpected<Error> system_failure(const char* call, int error) {
  return refuse(std::string(call) + ": " + std::strerror(error));
}

bool is_whole_granules(uint64_t value) { return value % kSimulatedGranularityBytes == 0; }

// Inaccessible addresses that no other mmap() takes, in forked children either.
bool block_range(Address address, uint64_t bytes) {
  return mmap(pointer(address), bytes, PROT_NONE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED;
}

bool map_chunk(Address address, const SimulatedChunk& chunk, Access access) {
  const int protection = access == Access::read_write ? PROT_READ | PROT_WRITE : PROT_READ;
  // Populated here, at 0.1 ms per MiB, because faults taken by the copy cost three times that.
  const void* const result = mmap(pointer(address), chunk.bytes(), protection,
                                  MAP_SHARED | MAP_FIXED | MAP_POPULATE, chunk.fd(), 0);
  // As with device memory, a forked child must not see the chunk: it would write into the parent's.
  return result != MAP_FAILED && madvise(pointer(address), chunk.bytes(), MADV_DONTFORK) == 0;
}

}  // namespace

SimulatedSpace::~SimulatedSpace() {
  for (auto& [address, piece] : pieces_) piece.chunk->disclaim();
  for (const auto& [address, bytes] : reservations_) {
    forget_fault_range(address);
    munmap(pointer(address), bytes);
  }
}

Result<Address> SimulatedSpace::reserve(uint64_t bytes, std::string_view label) {
  if (bytes == 0 || !is_whole_granules(bytes)) {
    return refuse("the size is not a positive multiple of " +
                  std::to_string(kSimulatedGranularityBytes));
  }
  // mmap aligns to pages only: take one granule more and give back what lies around the aligned
  // part.
  const uint64_t padded_bytes = bytes + kSimulatedGranularityBytes;
  void* const raw = padded_bytes < bytes ? MAP_FAILED
                                         : mmap(nullptr, padded_bytes, PROT_NONE,
                                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED) {
    return fail(ErrorCode::out_of_memory,
                "no free range of " + std::to_string(bytes) + " addresses in this process");
  }
  const auto begin = reinterpret_cast<Address>(raw);
  const Address address = round_up(begin, kSimulatedGranularityBytes);
  if (address > begin) munmap(raw, address - begin);
  const uint64_t tail_bytes = begin + padded_bytes - (address + bytes);
  if (tail_bytes > 0) munmap(pointer(address + bytes), tail_bytes);
  report_faults_in(address, bytes, label);
  const std::lock_guard lock(mutex_);
  reservations_.emplace(address, bytes);
  return address;
}

Status SimulatedSpace::unreserve(Address address, uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  const auto found = reservations_.find(address);
  if (found == reservations_.end() || found->second != bytes) {
    return refuse("this is not exactly one reservation");
  }
  const auto piece = first_piece(address);
  if (piece != pieces_.end() && piece->first < address + bytes) {
    return refuse("memory is still mapped in it");
  }
  forget_fault_range(address);
  munmap(pointer(address), bytes);
  reservations_.erase(found);
  return {};
}

Status SimulatedSpace::map(Address address, std::span<const ChunkPtr> chunks, Access access) {
  if (chunks.empty()) return refuse("no chunks");
  if (!is_whole_granules(address))
    return refuse("the address is not a multiple of the granularity");
  const uint64_t chunk_bytes = chunks.front()->bytes();
  const uint64_t bytes = chunks.size() * chunk_bytes;
  {
    const std::lock_guard lock(mutex_);
    if (reservation_of(address, bytes) == reservations_.end()) {
      return refuse("the range is not inside one reservation");
    }
    const auto piece = first_piece(address);
    if (piece != pieces_.end() && piece->first < address + bytes) {
      return refuse("memory is already mapped in the range");
    }
    for (size_t i = 0; i < chunks.size(); ++i) {
      if (Status claimed = chunks[i]->claim(access); !claimed) {
        for (size_t j = 0; j < i; ++j) {
          chunks[j]->disclaim();
          pieces_.erase(address + j * chunk_bytes);
        }
        return claimed;
      }
      pieces_.emplace(address + i * chunk_bytes, Piece{.chunk = chunks[i], .access = access});
    }
  }
  for (size_t i = 0; i < chunks.size(); ++i) {
    if (map_chunk(address + i * chunk_bytes, *chunks[i], access)) continue;
    const int error = errno;
    RTSWAP_TRY(clear(address, bytes));
    return system_failure("mmap of a chunk", error);
  }
  const std::lock_guard lock(mutex_);
  for (size_t i = 0; i < chunks.size(); ++i) pieces_.at(address + i * chunk_bytes).settled = true;
  return {};
}

Status SimulatedSpace::unmap(Address address, uint64_t bytes) {
  {
    const std::lock_guard lock(mutex_);
    const Address end = address + bytes;
    Address expected = address;
    auto piece = pieces_.find(address);
    for (; piece != pieces_.end() && piece->first == expected && expected < end; ++piece) {
      if (!piece->second.settled) return refuse("another call is mapping or unmapping the range");
      if (piece->second.pins > 0) return refuse("a copy that uses the range is still in flight");
      expected += piece->second.chunk->bytes();
    }
    if (bytes == 0 || expected != end) return refuse("the range is not mapped as whole chunks");
    for (auto it = pieces_.find(address); it != piece; ++it) it->second.settled = false;
  }
  return clear(address, bytes);
}

Status SimulatedSpace::clear(Address address, uint64_t bytes) {
  const bool blocked = block_range(address, bytes);
  const int error = errno;
  const std::lock_guard lock(mutex_);
  const auto begin = pieces_.lower_bound(address);
  const auto end = pieces_.lower_bound(address + bytes);
  if (!blocked) {
    for (auto piece = begin; piece != end; ++piece) piece->second.settled = true;
    return system_failure("mmap over the range", error);
  }
  for (auto piece = begin; piece != end; ++piece) piece->second.chunk->disclaim();
  pieces_.erase(begin, end);
  return {};
}

Result<std::shared_ptr<void>> SimulatedSpace::pin(Address address, uint64_t bytes, Access access) {
  const std::lock_guard lock(mutex_);
  const Address end = address + bytes;
  if (bytes == 0 || end < address) return refuse("the device range is empty or wraps around");
  const auto first = first_piece(address);
  Address covered_to = first == pieces_.end() ? end : first->first;
  auto piece = first;
  if (covered_to > address) return refuse("the device range is not mapped");
  for (; piece != pieces_.end() && covered_to < end; ++piece) {
    if (piece->first != covered_to || !piece->second.settled) break;
    if (access == Access::read_write && piece->second.access == Access::read_only) {
      return refuse("the device range is mapped read-only");
    }
    covered_to = piece->first + piece->second.chunk->bytes();
  }
  if (covered_to < end) return refuse("only a part of the device range is mapped");
  for (auto it = first; it != piece; ++it) ++it->second.pins;
  return std::shared_ptr<void>(
      this, [self = shared_from_this(), address, bytes](void*) { self->unpin(address, bytes); });
}

void SimulatedSpace::unpin(Address address, uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  for (auto piece = first_piece(address); piece != pieces_.end() && piece->first < address + bytes;
       ++piece) {
    RTSWAP_CHECK(piece->second.pins > 0, "unpinned twice");
    --piece->second.pins;
  }
}

SimulatedSpace::Reservations::iterator SimulatedSpace::reservation_of(Address address,
                                                                      uint64_t bytes) {
  auto next = reservations_.upper_bound(address);
  if (next == reservations_.begin()) return reservations_.end();
  --next;
  const Address end = next->first + next->second;
  return address < end && bytes <= end - address ? next : reservations_.end();
}

SimulatedSpace::Pieces::iterator SimulatedSpace::first_piece(Address address) {
  auto next = pieces_.upper_bound(address);
  if (next == pieces_.begin()) return next;
  const auto before = std::prev(next);
  return address < before->first + before->second.chunk->bytes() ? before : next;
}

}  // namespace rtswap::driver
