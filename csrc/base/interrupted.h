// Waits that their owner may end before their limit.
#pragma once

#include <cstdint>
#include <functional>

#include "csrc/base/result.h"

namespace rtswap {

// Asked again and again while a call waits, by the thread that waits: true ends the call with
// `interrupted`. Empty: it waits up to its limit. The question may take Python's GIL, so the only
// lock of ours that may be held meanwhile is one that nobody waits for with the GIL.
using Interrupted = std::function<bool()>;

// Longest time between two questions.
inline constexpr int64_t kLookEvery_ns = 50'000'000;

// Fails once the answer is true.
inline Status check(const Interrupted& interrupted) {
  if (!interrupted || !interrupted()) return {};
  return fail(ErrorCode::interrupted, "the caller ended the wait");
}

}  // namespace rtswap
