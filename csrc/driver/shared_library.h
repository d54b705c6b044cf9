// Libraries of the NVIDIA driver, opened at run time: rtswap links none of them, so that it loads
// on a machine without a GPU.
#pragma once

#include <vector>

#include "csrc/base/result.h"

namespace rtswap::driver {

// Where to store the address of a symbol, and the names it may have, best first.
struct Symbol {
  void** target = nullptr;
  std::vector<const char*> names;
};

// Opens the library and fills in the symbols. It stays loaded for the life of the process.
// `unsupported` when the library cannot be opened or lacks a symbol; the message names both and
// ends with `advice`.
Status load_symbols(const char* library, const std::vector<Symbol>& symbols, const char* advice);

}  // namespace rtswap::driver
