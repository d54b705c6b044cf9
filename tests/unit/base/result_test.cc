#include "csrc/base/result.h"

#include "csrc/base/check.h"
#include "csrc/base/units.h"
#include "tests/catch.h"

using namespace rtswap;

TEST_CASE("error codes keep their names on the wire") {
  for (int code = 0; code <= static_cast<int>(ErrorCode::internal); ++code) {
    const auto expected = static_cast<ErrorCode>(code);
    CHECK(error_code_from_string(to_string(expected)) == expected);
  }
  CHECK(error_code_from_string("a code of a newer peer") == ErrorCode::internal);
}

namespace {
Result<int> half(int n) {
  if (n % 2 != 0) return fail(ErrorCode::invalid_argument, "odd");
  return n / 2;
}
Result<int> quarter(int n) {
  RTSWAP_ASSIGN(int h, half(n));
  RTSWAP_ASSIGN(int q, half(h));
  return q;
}
Status check_even(int n) {
  RTSWAP_TRY(half(n));
  return {};
}
}  // namespace

TEST_CASE("RTSWAP_ASSIGN and RTSWAP_TRY hand errors on unchanged") {
  CHECK(quarter(8).value() == 2);
  REQUIRE_FALSE(quarter(6).has_value());
  CHECK(quarter(6).error().message == "odd");
  CHECK(check_even(2).has_value());
  CHECK(check_even(3).error().code == ErrorCode::invalid_argument);
}

TEST_CASE("a broken invariant names the place, the condition and the detail") {
  const int chunks = 3;
  REQUIRE_THROWS_WITH([&] { RTSWAP_CHECK(chunks == 4, "chunks=" + std::to_string(chunks)); }(),
                      test::contains("chunks == 4") && test::contains("chunks=3"));
}

TEST_CASE("sizes round to whole steps") {
  CHECK(round_up(0, 2_MiB) == 0);
  CHECK(round_up(1, 2_MiB) == 2_MiB);
  CHECK(round_up(2_MiB, 2_MiB) == 2_MiB);
  CHECK(div_up(2_MiB + 1, 2_MiB) == 2);
  CHECK(3_ms == 3'000'000);
}
