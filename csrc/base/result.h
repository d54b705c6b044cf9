// The error vocabulary of the project. Core code never throws across a module border: a call that
// can fail for a reason outside the program returns `Status` or `Result<T>`. Each code maps to one
// Python exception class (rtswap/errors.py) and crosses the wire by name (proto: ErrorCode).
#pragma once

#include <cstdint>
#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace rtswap {

enum class ErrorCode : uint8_t {
  invalid_argument,    // a value the caller passed; nothing was changed
  duplicate_name,      // a task of this name exists in this process
  admission_refused,   // the schedulability test does not pass; the message says why
  model_too_large,     // an arena cannot fit the bank even alone
  out_of_memory,       // device memory: bank, static share, or a failed reservation
  host_memory,         // host image larger than RAM or the memory cgroup leave
  static_memory,       // the client's memory outside the bank does not fit beside it
  daemon_unavailable,  // no daemon at the socket, or the link to it was lost
  protocol_mismatch,   // client and daemon speak different protocol versions
  device_in_use,       // another arbiter manages this GPU
  unknown_device,      // a device that the arbiter does not manage
  unsupported,         // platform, device or backend that rtswap cannot work with
  descriptor_limit,    // too few file descriptors
  timed_out,           // a wait ended at its time limit
  job_dropped,         // the arbiter dropped the job; it can no longer meet its deadline
  nested_job,          // a job entered inside another task's job
  escaped_tensor,      // a registered tensor no longer lies in its arena
  not_resident,        // memory used without a grant
  closed,              // task or session was closed
  interrupted,         // the wait was cancelled by the caller
  driver_failure,      // a driver call failed; message has the call and the driver's words
  device_lost,         // the CUDA context is gone
  protocol_violation,  // the peer broke the protocol
  internal,            // a bug in rtswap
};

// Stable name of a code, e.g. "admission_refused".
const char* to_string(ErrorCode code) noexcept;

// Inverse of to_string; `internal` for a name it does not know (a newer peer).
ErrorCode error_code_from_string(const std::string& name) noexcept;

struct Error {
  ErrorCode code = ErrorCode::internal;
  // What happened, why, and what to do about it: one or more sentences for a person.
  std::string message;
};

template <class T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

inline tl::unexpected<Error> fail(ErrorCode code, std::string message) {
  return tl::make_unexpected(Error{code, std::move(message)});
}
inline tl::unexpected<Error> fail(Error error) { return tl::make_unexpected(std::move(error)); }

}  // namespace rtswap

// Returns the error of `expr` (a Status or Result) from the enclosing function.
#define RTSWAP_TRY(expr)                                               \
  do {                                                                 \
    if (auto rtswap_status_ = (expr); !rtswap_status_.has_value())     \
      return ::tl::make_unexpected(std::move(rtswap_status_).error()); \
  } while (false)

#define RTSWAP_CONCAT_INNER_(a, b) a##b
#define RTSWAP_CONCAT_(a, b) RTSWAP_CONCAT_INNER_(a, b)
#define RTSWAP_ASSIGN_IMPL_(tmp, decl, expr)                                  \
  auto tmp = (expr);                                                          \
  if (!tmp.has_value()) return ::tl::make_unexpected(std::move(tmp).error()); \
  decl = std::move(tmp).value()
// `RTSWAP_ASSIGN(auto x, make_x());` declares x from the value, or returns the error.
#define RTSWAP_ASSIGN(decl, expr) \
  RTSWAP_ASSIGN_IMPL_(RTSWAP_CONCAT_(rtswap_result_, __LINE__), decl, expr)
