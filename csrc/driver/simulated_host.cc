#include "csrc/driver/simulated_host.h"

#include <iterator>

namespace rtswap::driver {
namespace {

tl::unexpected<Error> refuse(const char* why) { return fail(ErrorCode::driver_failure, why); }

}  // namespace

Status HostRanges::add(const void* host, uint64_t bytes) {
  const auto begin = reinterpret_cast<uintptr_t>(host);
  if (begin == 0 || bytes == 0 || begin + bytes < begin) return refuse("this is not a range");
  const std::lock_guard lock(mutex_);
  const auto next = ranges_.lower_bound(begin);
  const bool meets_next = next != ranges_.end() && next->first < begin + bytes;
  const bool meets_previous =
      next != ranges_.begin() && std::prev(next)->first + std::prev(next)->second.bytes > begin;
  if (meets_next || meets_previous) return refuse("a part of the range is registered already");
  ranges_.emplace(begin, Range{.bytes = bytes});
  return {};
}

Status HostRanges::remove(const void* host) {
  const std::lock_guard lock(mutex_);
  const auto found = ranges_.find(reinterpret_cast<uintptr_t>(host));
  if (found == ranges_.end()) return refuse("no registered range begins there");
  if (found->second.pins > 0) return refuse("a copy that uses the range is still in flight");
  ranges_.erase(found);
  return {};
}

Result<std::shared_ptr<void>> HostRanges::pin(const void* host, uint64_t bytes) {
  const auto begin = reinterpret_cast<uintptr_t>(host);
  const std::lock_guard lock(mutex_);
  auto found = ranges_.upper_bound(begin);
  if (found == ranges_.begin()) return refuse("the host range is not registered");
  --found;
  const uint64_t offset = begin - found->first;
  if (offset >= found->second.bytes || bytes > found->second.bytes - offset) {
    return refuse("the host range is not inside one registered range");
  }
  ++found->second.pins;
  return std::shared_ptr<void>(this, [self = shared_from_this(), range = found->first](void*) {
    const std::lock_guard unpin_lock(self->mutex_);
    --self->ranges_.at(range).pins;
  });
}

}  // namespace rtswap::driver
