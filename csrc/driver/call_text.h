// The text of a call with its arguments, for error messages: call_text("unmap", Hex{a}, Bytes{n})
// is "unmap(0x7f0000000000, 2097152 bytes)".
#pragma once

#include <cstdint>
#include <ostream>
#include <sstream>
#include <string>

namespace rtswap::driver {

struct Hex {
  uint64_t value;
};
struct Bytes {
  uint64_t value;
};

inline std::ostream& operator<<(std::ostream& out, Hex hex) {
  const std::ios_base::fmtflags flags = out.flags();
  out << "0x" << std::hex << hex.value;
  out.flags(flags);
  return out;
}
inline std::ostream& operator<<(std::ostream& out, Bytes bytes) {
  return out << bytes.value << " bytes";
}

template <class... Arguments>
std::string call_text(const char* name, const Arguments&... arguments) {
  std::ostringstream text;
  [[maybe_unused]] const char* separator = "";
  text << name << '(';
  ((text << separator << arguments, separator = ", "), ...);
  text << ')';
  return text.str();
}

}  // namespace rtswap::driver
