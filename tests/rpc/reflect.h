// The fields of the protocol's plain structs, without naming them: random values for every field,
// and equality over every field. A field that the codec forgets fails a test by itself.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <tuple>
#include <type_traits>
#include <variant>
#include <vector>

#include "csrc/base/result.h"
#include "csrc/protocol/messages.h"

namespace rtswap::test {

struct AnyField {
  template <class T>
  operator T() const;
};

template <class T, class... Fields>
constexpr size_t field_count() {
  if constexpr (requires { T{Fields{}..., AnyField{}}; }) {
    return field_count<T, Fields..., AnyField>();
  } else {
    return sizeof...(Fields);
  }
}

// References to all fields of an aggregate.
template <class T>
auto fields(T& v) {
  constexpr size_t n = field_count<std::remove_const_t<T>>();
  static_assert(n <= 20, "add a case");
#define RTSWAP_FIELDS(count, ...) \
  if constexpr (n == count) {     \
    auto& [__VA_ARGS__] = v;      \
    return std::tie(__VA_ARGS__); \
  } else
  RTSWAP_FIELDS(1, a)
  RTSWAP_FIELDS(2, a, b)
  RTSWAP_FIELDS(3, a, b, c)
  RTSWAP_FIELDS(4, a, b, c, d)
  RTSWAP_FIELDS(5, a, b, c, d, e)
  RTSWAP_FIELDS(6, a, b, c, d, e, f)
  RTSWAP_FIELDS(7, a, b, c, d, e, f, g)
  RTSWAP_FIELDS(8, a, b, c, d, e, f, g, h)
  RTSWAP_FIELDS(9, a, b, c, d, e, f, g, h, i)
  RTSWAP_FIELDS(10, a, b, c, d, e, f, g, h, i, j)
  RTSWAP_FIELDS(11, a, b, c, d, e, f, g, h, i, j, k)
  RTSWAP_FIELDS(12, a, b, c, d, e, f, g, h, i, j, k, l)
  RTSWAP_FIELDS(13, a, b, c, d, e, f, g, h, i, j, k, l, m)
  RTSWAP_FIELDS(14, a, b, c, d, e, f, g, h, i, j, k, l, m, o)
  RTSWAP_FIELDS(15, a, b, c, d, e, f, g, h, i, j, k, l, m, o, p)
  RTSWAP_FIELDS(16, a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q)
  RTSWAP_FIELDS(17, a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q, r)
  RTSWAP_FIELDS(18, a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q, r, s)
  RTSWAP_FIELDS(19, a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q, r, s, t)
  RTSWAP_FIELDS(20, a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q, r, s, t, u)
  return std::tuple<>{};
#undef RTSWAP_FIELDS
}

// --- equality ----------------------------------------------------------------------------------

template <class T>
bool same(const T& x, const T& y);

template <class T>
bool same(const std::vector<T>& x, const std::vector<T>& y) {
  if (x.size() != y.size()) return false;
  for (size_t i = 0; i < x.size(); ++i) {
    if (!same(x[i], y[i])) return false;
  }
  return true;
}

template <class... T>
bool same(const std::variant<T...>& x, const std::variant<T...>& y) {
  return x.index() == y.index() &&
         std::visit(
             [&](const auto& value) {
               return same(value, std::get<std::decay_t<decltype(value)>>(y));
             },
             x);
}

template <class T>
bool same(const T& x, const T& y) {
  if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T> || std::is_same_v<T, std::string>) {
    return x == y;
  } else if constexpr (std::is_empty_v<T>) {
    return true;
  } else {
    const auto left = fields(x);
    const auto right = fields(y);
    return [&]<size_t... I>(std::index_sequence<I...>) {
      return (same(std::get<I>(left), std::get<I>(right)) && ...);
    }
    (std::make_index_sequence<std::tuple_size_v<decltype(left)>>{});
  }
}

// --- random values -----------------------------------------------------------------------------

using Random = std::mt19937_64;

// Number of enumerators, all from 0 without gaps.
template <class E>
inline constexpr int kEnumerators = 0;
template <>
inline constexpr int kEnumerators<ErrorCode> = static_cast<int>(ErrorCode::internal) + 1;
template <>
inline constexpr int kEnumerators<protocol::LatePolicy> = 2;
template <>
inline constexpr int kEnumerators<protocol::OnRefusal> = 2;
template <>
inline constexpr int kEnumerators<protocol::TaskState> = 6;

template <class T>
void randomize(T& value, Random& random);

template <class T>
void randomize(std::vector<T>& value, Random& random) {
  value.resize(random() % 5);
  for (T& element : value) randomize(element, random);
}

template <class T>
void randomize(T& value, Random& random) {
  if constexpr (std::is_same_v<T, bool>) {
    value = random() % 2 == 1;
  } else if constexpr (std::is_floating_point_v<T>) {
    value = static_cast<T>(random() % 1000) / 7;
  } else if constexpr (std::is_integral_v<T>) {
    // Edges as often as anything else: sign, zero and the largest value travel differently.
    const uint64_t choices[] = {random(), random() % 100, 0, static_cast<uint64_t>(INT64_MAX)};
    value = static_cast<T>(choices[random() % 4]);
  } else if constexpr (std::is_enum_v<T>) {
    static_assert(kEnumerators<T> > 0, "say how many enumerators it has");
    value = static_cast<T>(random() % kEnumerators<T>);
  } else if constexpr (std::is_same_v<T, std::string>) {
    value.clear();
    for (uint64_t n = random() % 12; n > 0; --n) value += random() % 4 == 0 ? "ä" : "x";
  } else if constexpr (!std::is_empty_v<T>) {
    std::apply([&](auto&... field) { (randomize(field, random), ...); }, fields(value));
  }
}

}  // namespace rtswap::test
