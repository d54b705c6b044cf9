// Memory of an arena for torch's caching allocator: the extern "C" pair that
// torch.cuda.memory.CUDAPluggableAllocator takes, over ranges ("regions") of scratch segments.
//
// torch.cuda.MemPool asks for whole segments (2 MiB and up) and cuts blocks from them itself, so a
// first-fit list is enough. Which region serves an allocation is a matter of the calling thread:
// the one that thread has entered, as with torch's own pools.
//
// Threads: any. The pair is called with torch's allocator lock held: it never blocks beyond a short
// lock, never calls into torch or Python.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "csrc/base/result.h"

namespace rtswap::torch_memory {

class Region : public std::enable_shared_from_this<Region> {
 public:
  // [address, +bytes): device memory that the caller keeps mapped while anything uses it.
  static std::shared_ptr<Region> create(uint64_t address, uint64_t bytes);

  // The calling thread's allocations come from here until leave(). Regions nest; the thread may
  // leave them in any order. Errors: closed.
  Status enter();
  void leave();

  // Bytes of segments that torch holds.
  uint64_t held_bytes() const;
  uint64_t peak_bytes() const;
  uint64_t bytes() const { return bytes_; }

  // All work that used freed segments has completed: they may serve any stream from now on.
  void settle();
  // No more allocations; later frees are ignored.
  void retire();

  // nullptr when nothing fits: torch then frees its cache, tries again, and reports out of memory.
  void* allocate(uint64_t bytes, const void* stream);
  bool free(void* address);  // false: not one of its segments

 private:
  struct Free {
    uint64_t bytes = 0;
    const void* stream = nullptr;  // only this stream may reuse it before settle()
    bool any_stream = true;
  };
  struct Held {
    uint64_t bytes = 0;
    const void* stream = nullptr;
  };

  Region(uint64_t address, uint64_t bytes);
  void merge_around(std::map<uint64_t, Free>::iterator middle);

  const uint64_t address_;
  const uint64_t bytes_;
  mutable std::mutex mutex_;
  std::map<uint64_t, Free> free_;  // by address
  std::map<uint64_t, Held> held_;  // by address
  uint64_t held_bytes_ = 0;
  uint64_t peak_bytes_ = 0;
  bool retired_ = false;
};

}  // namespace rtswap::torch_memory

extern "C" {
__attribute__((visibility("default"))) void* rtswap_region_alloc(ssize_t bytes, int device,
                                                                 void* stream);
__attribute__((visibility("default"))) void rtswap_region_free(void* address, size_t bytes,
                                                               int device, void* stream);
}
