// Invariant checks that stay on in production. A failed check is a bug in rtswap, never a user's
// mistake. It throws: a call from Python raises rtswap.Internal, and an arbiter that cannot go on
// says so (the daemon logs it and exits, which clients survive). On the other threads of rtswap
// nobody could go on safely: there it ends the process, with this text.
#pragma once

#include <stdexcept>
#include <string>

namespace rtswap {

class InvariantViolation : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

[[noreturn]] inline void invariant_violated(const char* file, int line, const char* condition,
                                            const std::string& detail) {
  throw InvariantViolation(std::string(file) + ":" + std::to_string(line) +
                           ": invariant does not hold: " + condition +
                           (detail.empty() ? "" : " (" + detail + ")"));
}

}  // namespace rtswap

// RTSWAP_CHECK(condition, "detail"): the detail is a std::string expression, built only on failure.
#define RTSWAP_CHECK(condition, detail)                                       \
  do {                                                                        \
    if (!(condition)) [[unlikely]]                                            \
      ::rtswap::invariant_violated(__FILE__, __LINE__, #condition, (detail)); \
  } while (false)
