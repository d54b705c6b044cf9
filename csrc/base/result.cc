#include "csrc/base/result.h"

#include <array>

namespace rtswap {
namespace {

constexpr std::array<std::pair<ErrorCode, const char*>, 24> kNames{{
    {ErrorCode::invalid_argument, "invalid_argument"},
    {ErrorCode::duplicate_name, "duplicate_name"},
    {ErrorCode::admission_refused, "admission_refused"},
    {ErrorCode::model_too_large, "model_too_large"},
    {ErrorCode::out_of_memory, "out_of_memory"},
    {ErrorCode::host_memory, "host_memory"},
    {ErrorCode::static_memory, "static_memory"},
    {ErrorCode::daemon_unavailable, "daemon_unavailable"},
    {ErrorCode::protocol_mismatch, "protocol_mismatch"},
    {ErrorCode::device_in_use, "device_in_use"},
    {ErrorCode::unknown_device, "unknown_device"},
    {ErrorCode::unsupported, "unsupported"},
    {ErrorCode::descriptor_limit, "descriptor_limit"},
    {ErrorCode::timed_out, "timed_out"},
    {ErrorCode::job_dropped, "job_dropped"},
    {ErrorCode::nested_job, "nested_job"},
    {ErrorCode::escaped_tensor, "escaped_tensor"},
    {ErrorCode::not_resident, "not_resident"},
    {ErrorCode::closed, "closed"},
    {ErrorCode::interrupted, "interrupted"},
    {ErrorCode::driver_failure, "driver_failure"},
    {ErrorCode::device_lost, "device_lost"},
    {ErrorCode::protocol_violation, "protocol_violation"},
    {ErrorCode::internal, "internal"},
}};

}  // namespace

const char* to_string(ErrorCode code) noexcept {
  for (const auto& [candidate, name] : kNames) {
    if (candidate == code) return name;
  }
  return "internal";
}

ErrorCode error_code_from_string(const std::string& name) noexcept {
  for (const auto& [code, candidate] : kNames) {
    if (name == candidate) return code;
  }
  return ErrorCode::internal;
}

}  // namespace rtswap
