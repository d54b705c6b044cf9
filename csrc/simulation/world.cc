#include "csrc/simulation/world.h"

#include <algorithm>

namespace rtswap::simulation {

void Timeline::at(int64_t at_ns, std::function<void()> action) {
  queue_.push(Entry{std::max(at_ns, now_ns_), sequence_++, std::move(action)});
}

bool Timeline::run_next() {
  if (queue_.empty()) return false;
  const Entry entry = queue_.top();
  queue_.pop();
  now_ns_ = entry.at_ns;
  entry.action();
  return true;
}

}  // namespace rtswap::simulation
