// Waiting for the core from Python: without the GIL, and so that Ctrl-C is noticed.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include "csrc/base/clock.h"
#include "csrc/base/interrupted.h"
#include "csrc/base/units.h"
#include "csrc/python/errors.h"

namespace rtswap::python {

// Calls `attempt(slice_ns)` without the GIL until it returns true or `limit_ns` (< 0: none) is
// over, and tells which. A pending signal's exception (KeyboardInterrupt) leaves this function.
// REQUIRES: the GIL.
template <class Attempt>
bool wait_in_slices(int64_t limit_ns, Attempt&& attempt) {
  const int64_t end_ns = limit_ns < 0 ? INT64_MAX : monotonic_now_ns() + limit_ns;
  for (;;) {
    const int64_t left_ns = std::max<int64_t>(0, end_ns - monotonic_now_ns());
    bool done = false;
    {
      pybind11::gil_scoped_release unlocked;
      done = attempt(std::min(left_ns, kLookEvery_ns));
    }
    if (done) return true;
    if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
    if (limit_ns >= 0 && monotonic_now_ns() >= end_ns) return false;
  }
}

// Calls `call(interrupted)` without the GIL and takes its result, for calls that ask that while
// they wait (csrc/base/interrupted.h). A pending signal's exception leaves this function. REQUIRES:
// the GIL.
template <class Call>
auto take_interruptible(Call&& call) {
  std::optional<pybind11::error_already_set> signal;
  const Interrupted interrupted = [&signal] {
    const pybind11::gil_scoped_acquire locked;
    if (!signal && PyErr_CheckSignals() != 0) signal.emplace();
    return signal.has_value();
  };
  auto result = [&] {
    const pybind11::gil_scoped_release unlocked;
    return call(interrupted);
  }();
  if (signal) throw *std::move(signal);
  return take(std::move(result));
}

// Calls `ask(slice_ns)` in slices, as above, until its result is not `timed_out`, and takes it.
// Each slice is a request of its own: for those that are answered within microseconds unless the
// arbiter hangs.
template <class Ask>
auto ask_in_slices(int64_t limit_ns, Ask&& ask) {
  decltype(ask(int64_t{})) answer;
  wait_in_slices(limit_ns, [&](int64_t slice_ns) {
    answer = ask(slice_ns);
    return answer.has_value() || answer.error().code != ErrorCode::timed_out;
  });
  return take(std::move(answer));
}

}  // namespace rtswap::python
