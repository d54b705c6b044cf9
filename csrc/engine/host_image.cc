#include "csrc/engine/host_image.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "csrc/base/units.h"
#include "csrc/engine/engine_thread.h"
#include "csrc/engine/host_memory.h"

namespace rtswap::engine {
namespace {

using namespace rtswap::literals;

constexpr uint64_t kHugePage_bytes = 2_MiB;
constexpr uint64_t kSlice_bytes = 16_MiB;  // what a thread takes at a time
constexpr unsigned kMostThreads = 8;       // beyond that the kernel's zeroing no longer gets faster

uint64_t page_bytes() { return static_cast<uint64_t>(sysconf(_SC_PAGESIZE)); }

// Addresses aligned to a huge page; no memory yet.
Result<std::byte*> map_pages(uint64_t bytes) {
  const uint64_t rounded_bytes = round_up(bytes, page_bytes());
  const uint64_t padded_bytes = rounded_bytes + kHugePage_bytes;
  void* const raw = mmap(nullptr, padded_bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED) {
    return fail(ErrorCode::host_memory, "the system has no " + std::to_string(bytes) +
                                            " bytes for a host image: " + std::strerror(errno));
  }
  const auto begin = reinterpret_cast<uint64_t>(raw);
  const uint64_t aligned = round_up(begin, kHugePage_bytes);
  if (aligned > begin) munmap(raw, aligned - begin);
  const uint64_t tail_bytes = begin + padded_bytes - (aligned + rounded_bytes);
  if (tail_bytes > 0) munmap(reinterpret_cast<void*>(aligned + rounded_bytes), tail_bytes);
  auto* const data = reinterpret_cast<std::byte*>(aligned);
  // Advice: a kernel without one of these is slower or dumps more, not wrong.
  for (const int advice : {MADV_HUGEPAGE, MADV_DONTDUMP, MADV_DONTFORK}) {
    (void)madvise(data, rounded_bytes, advice);
  }
  return data;
}

void unmap_pages(std::byte* data, uint64_t bytes) { munmap(data, round_up(bytes, page_bytes())); }

// Makes the kernel provide all pages, on several threads: zeroing them is what takes the time.
void touch_pages(std::byte* data, uint64_t bytes) {
  std::atomic<uint64_t> next_bytes{0};
  const uint64_t step_bytes = page_bytes();
  const auto touch_slices = [&] {
    for (uint64_t begin; (begin = next_bytes.fetch_add(kSlice_bytes)) < bytes;) {
      const uint64_t end = std::min(begin + kSlice_bytes, bytes);
      for (uint64_t offset = begin; offset < end; offset += step_bytes) {
        *reinterpret_cast<volatile std::byte*>(data + offset) = std::byte{0};
      }
    }
  };
  const uint64_t threads = std::min<uint64_t>({std::max(1u, std::thread::hardware_concurrency()),
                                               kMostThreads, div_up(bytes, kSlice_bytes)});
  std::vector<std::thread> helpers;
  try {
    while (helpers.size() + 1 < threads) {
      helpers.push_back(start_engine_thread("rtswap-pages", touch_slices));
    }
  } catch (const std::system_error&) {
    // Fewer threads take longer, that is all.
  }
  touch_slices();
  for (std::thread& helper : helpers) helper.join();
}

}  // namespace

HostImage::~HostImage() { (void)release(); }

Status HostImage::release() {
  if (data_ == nullptr) return {};
  RTSWAP_TRY(run_attached(driver_, [&] { return driver_.unregister_host(data_); }));
  unmap_pages(data_, bytes_);
  data_ = nullptr;
  return {};
}

Result<std::unique_ptr<HostImage>> HostImages::make(uint64_t bytes) {
  std::byte* data = nullptr;
  {
    const std::lock_guard lock(making_);
    RTSWAP_TRY(check_host_memory(bytes));
    RTSWAP_ASSIGN(data, map_pages(bytes));
    touch_pages(data, bytes);
  }
  const Status pinned = run_attached(driver_, [&] { return driver_.register_host(data, bytes); });
  if (!pinned) {
    unmap_pages(data, bytes);
    return fail(pinned.error());
  }
  return std::unique_ptr<HostImage>(new HostImage(driver_, data, bytes));
}

}  // namespace rtswap::engine
