// Catch2 2.13 (Debian 12) or 3.x: the one CMake found, which need not be the only one installed.
#pragma once

#include <string>

#if RTSWAP_CATCH2_MAJOR >= 3
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

namespace rtswap::test {

// Matcher: the string contains `part`.
inline auto contains(const std::string& part) {
#if RTSWAP_CATCH2_MAJOR >= 3
  return Catch::Matchers::ContainsSubstring(part);
#else
  return Catch::Matchers::Contains(part);
#endif
}

}  // namespace rtswap::test
