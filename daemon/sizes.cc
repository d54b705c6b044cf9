#include "daemon/sizes.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <optional>

namespace rtswap::daemon {
namespace {

struct Unit {
  const char* name;
  double bytes;
};
// As rtswap/units.py has them. "Gb" and "Gib" are bits elsewhere.
constexpr std::array<Unit, 11> kUnits{{{"", 1},
                                       {"B", 1},
                                       {"KiB", 1024.0},
                                       {"MiB", 1024.0 * 1024},
                                       {"GiB", 1024.0 * 1024 * 1024},
                                       {"TiB", 1024.0 * 1024 * 1024 * 1024},
                                       {"kB", 1e3},
                                       {"KB", 1e3},
                                       {"MB", 1e6},
                                       {"GB", 1e9},
                                       {"TB", 1e12}}};
constexpr double kLargest_bytes = 16.0 * 1024 * 1024 * 1024 * 1024;

struct Quantity {
  double value = 0;
  std::string unit;
};

std::optional<Quantity> split(const std::string& text) {
  Quantity quantity;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, quantity.value, std::chars_format::fixed);
  if (parsed.ec != std::errc() || !std::isfinite(quantity.value) || quantity.value < 0) return {};
  const char* unit = parsed.ptr;
  while (unit != end && *unit == ' ') ++unit;
  quantity.unit.assign(unit, end);
  return quantity;
}

}  // namespace

Result<uint64_t> parse_size(const std::string& text) {
  if (const auto quantity = split(text)) {
    for (const Unit& unit : kUnits) {
      const double bytes = quantity->value * unit.bytes;
      if (quantity->unit == unit.name && bytes >= 1 && bytes <= kLargest_bytes) {
        return static_cast<uint64_t>(std::llround(bytes));
      }
    }
  }
  return fail(ErrorCode::invalid_argument,
              "\"" + text + "\" is not a size; write for example 4GiB, 512MiB, 4GB or bytes");
}

Result<Budget> parse_budget(const std::string& text) {
  const auto quantity = split(text);
  if (quantity && quantity->unit == "%") {
    if (quantity->value > 0 && quantity->value <= 100) return Budget{0, quantity->value};
    return fail(ErrorCode::invalid_argument,
                "\"" + text + "\" is not a share; write more than 0% and at most 100%");
  }
  RTSWAP_ASSIGN(const uint64_t bytes, parse_size(text));
  return Budget{bytes, 0};
}

std::string size_text(uint64_t bytes) {
  constexpr std::array<const char*, 5> kNames{"bytes", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t name = 0;
  while (value >= 1024 && name + 1 < kNames.size()) {
    value /= 1024;
    ++name;
  }
  const bool whole = value == std::floor(value) || value >= 1000;
  return whole ? fmt::format("{:.0f} {}", value, kNames[name])
               : fmt::format("{:.1f} {}", value, kNames[name]);
}

std::string budget_text(const Budget& budget) {
  return budget.bytes > 0 ? size_text(budget.bytes) : fmt::format("{:g}%", budget.percent);
}

}  // namespace rtswap::daemon
