// From the core's errors to the Python classes of rtswap/errors.py.
#pragma once

#include <pybind11/pybind11.h>

#include <utility>

#include "csrc/base/result.h"

namespace rtswap::python {

// Throws the Python exception of this error (rtswap.errors.from_code). REQUIRES: the GIL.
[[noreturn]] void raise(const Error& error);

// From now on a failed check (csrc/base/check.h) in a call from Python raises rtswap.Internal.
void translate_bugs();

// The value, or the Python exception. REQUIRES: the GIL.
template <class T>
T take(Result<T> result) {
  if (!result.has_value()) raise(result.error());
  if constexpr (!std::is_void_v<T>) return std::move(result).value();
}

// Runs `call` without the GIL and takes its result.
template <class Call>
auto take_unlocked(Call&& call) {
  auto result = [&] {
    pybind11::gil_scoped_release unlocked;
    return call();
  }();
  return take(std::move(result));
}

}  // namespace rtswap::python
