// Sizes as people write them: "4GiB", "4GB", "512MiB", "1.5GiB", "4096" (bytes), and shares: "80%".
#pragma once

#include <cstdint>
#include <string>

#include "csrc/base/result.h"

namespace rtswap::daemon {

// Size of a bank: bytes, or a share of what is free. Exactly one of the two is set.
struct Budget {
  uint64_t bytes = 0;
  double percent = 0;
};

// `invalid_argument` names the text and the accepted forms.
Result<uint64_t> parse_size(const std::string& text);
Result<Budget> parse_budget(const std::string& text);

// "512 MiB", "79.2 GiB".
std::string size_text(uint64_t bytes);
std::string budget_text(const Budget& budget);

}  // namespace rtswap::daemon
