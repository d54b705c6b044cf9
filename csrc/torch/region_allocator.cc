#include "csrc/torch/region_allocator.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "csrc/base/check.h"
#include "csrc/base/units.h"

namespace rtswap::torch_memory {
namespace {

// torch's segments are multiples of 2 MiB; kernels want 512.
constexpr uint64_t kAlignmentBytes = 512;

// torch's callbacks carry no context, so what they need to find has to be global. Never destroyed:
// pools give their segments back while the interpreter exits.
struct Regions {
  std::mutex mutex;
  std::map<uint64_t, std::shared_ptr<Region>> by_address;
};
Regions& regions() {
  static Regions* const all = new Regions;
  return *all;
}

thread_local std::vector<std::shared_ptr<Region>> entered;

}  // namespace

Region::Region(uint64_t address, uint64_t bytes) : address_(address), bytes_(bytes) {
  free_[address] = {.bytes = bytes};
}

std::shared_ptr<Region> Region::create(uint64_t address, uint64_t bytes) {
  std::shared_ptr<Region> region(new Region(address, bytes));
  Regions& all = regions();
  const std::lock_guard lock(all.mutex);
  all.by_address[address] = region;
  return region;
}

Status Region::enter() {
  const std::lock_guard lock(mutex_);
  if (retired_) {
    return fail(ErrorCode::closed, "This region is closed: its task was closed. Make a new one.");
  }
  entered.push_back(shared_from_this());
  return {};
}

void Region::leave() {
  const auto last = std::find_if(entered.rbegin(), entered.rend(),
                                 [this](const auto& region) { return region.get() == this; });
  RTSWAP_CHECK(last != entered.rend(), "a region is left by a thread that has not entered it");
  entered.erase(std::prev(last.base()));
}

uint64_t Region::held_bytes() const {
  const std::lock_guard lock(mutex_);
  return held_bytes_;
}

uint64_t Region::peak_bytes() const {
  const std::lock_guard lock(mutex_);
  return peak_bytes_;
}

void Region::settle() {
  const std::lock_guard lock(mutex_);
  for (auto& [address, range] : free_) range.any_stream = true;
  for (auto range = free_.begin(); range != free_.end(); ++range) {
    auto next = std::next(range);
    while (next != free_.end() && range->first + range->second.bytes == next->first) {
      range->second.bytes += next->second.bytes;
      next = free_.erase(next);
    }
  }
}

void Region::retire() {
  {
    const std::lock_guard lock(mutex_);
    retired_ = true;
  }
  Regions& all = regions();
  const std::lock_guard lock(all.mutex);
  all.by_address.erase(address_);
}

void* Region::allocate(uint64_t bytes, const void* stream) {
  const uint64_t wanted = round_up(std::max<uint64_t>(bytes, 1), kAlignmentBytes);
  const std::lock_guard lock(mutex_);
  if (retired_) return nullptr;
  const auto fits = std::find_if(free_.begin(), free_.end(), [&](const auto& range) {
    return range.second.bytes >= wanted &&
           (range.second.any_stream || range.second.stream == stream);
  });
  if (fits == free_.end()) return nullptr;
  const uint64_t address = fits->first;
  Free rest = fits->second;
  free_.erase(fits);
  rest.bytes -= wanted;
  if (rest.bytes > 0) free_[address + wanted] = rest;
  held_[address] = {.bytes = wanted, .stream = stream};
  held_bytes_ += wanted;
  peak_bytes_ = std::max(peak_bytes_, held_bytes_);
  return reinterpret_cast<void*>(address);
}

bool Region::free(void* address) {
  const std::lock_guard lock(mutex_);
  const auto held = held_.find(reinterpret_cast<uint64_t>(address));
  if (held == held_.end()) return false;
  held_bytes_ -= held->second.bytes;
  const auto range =
      free_
          .insert(
              {held->first,
               {.bytes = held->second.bytes, .stream = held->second.stream, .any_stream = false}})
          .first;
  held_.erase(held);
  merge_around(range);
  return true;
}

void Region::merge_around(std::map<uint64_t, Free>::iterator middle) {
  const auto alike = [](const Free& a, const Free& b) {
    return a.any_stream == b.any_stream && (a.any_stream || a.stream == b.stream);
  };
  const auto next = std::next(middle);
  if (next != free_.end() && middle->first + middle->second.bytes == next->first &&
      alike(middle->second, next->second)) {
    middle->second.bytes += next->second.bytes;
    free_.erase(next);
  }
  if (middle == free_.begin()) return;
  const auto before = std::prev(middle);
  if (before->first + before->second.bytes == middle->first &&
      alike(before->second, middle->second)) {
    before->second.bytes += middle->second.bytes;
    free_.erase(middle);
  }
}

}  // namespace rtswap::torch_memory

void* rtswap_region_alloc(ssize_t bytes, int /*device*/, void* stream) {
  using rtswap::torch_memory::entered;
  if (entered.empty() || bytes < 0) return nullptr;
  return entered.back()->allocate(static_cast<uint64_t>(bytes), stream);
}

void rtswap_region_free(void* address, size_t /*bytes*/, int /*device*/, void* /*stream*/) {
  std::shared_ptr<rtswap::torch_memory::Region> region;
  {
    rtswap::torch_memory::Regions& all = rtswap::torch_memory::regions();
    const std::lock_guard lock(all.mutex);
    auto after = all.by_address.upper_bound(reinterpret_cast<uint64_t>(address));
    if (after == all.by_address.begin()) return;  // of a region that was closed
    region = std::prev(after)->second;
  }
  region->free(address);
}
