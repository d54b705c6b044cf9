// Pieces shared by both directions of the codec; included by codec_*.cc only.
#pragma once

#include <google/protobuf/repeated_field.h>

#include <string>
#include <vector>

#include "csrc/rpc/codec.h"

namespace rtswap::rpc::internal {

// Collects what is wrong with one message; the first finding is the one reported.
class Findings {
 public:
  void add(std::string finding) {
    if (first_.empty()) first_ = std::move(finding);
  }
  bool none() const noexcept { return first_.empty(); }
  Error error(const char* message_name) const {
    return {ErrorCode::protocol_violation, std::string("malformed ") + message_name + ": " +
                                               first_ +
                                               "; the peer is of another version or not rtswap"};
  }

 private:
  std::string first_;
};

// Text as proto3 wants it: valid UTF-8 (anything else would fail the whole message at the peer) of
// at most kMaxTextBytes.
std::string to_wire_text(const std::string& text);
std::string from_wire_text(const std::string& text, const char* field, Findings& findings);

std::vector<uint32_t> from_wire_list(const google::protobuf::RepeatedField<uint32_t>& list,
                                     const char* field, Findings& findings);

v1::LatePolicy to_wire(protocol::LatePolicy policy);
v1::OnRefusal to_wire(protocol::OnRefusal on_refusal);
v1::TaskState to_wire(protocol::TaskState state);
void to_wire(const protocol::Timing& timing, v1::Timing* wire);
void to_wire(const Error& error, v1::Error* wire);

protocol::LatePolicy from_wire(v1::LatePolicy wire, Findings& findings);
protocol::OnRefusal from_wire(v1::OnRefusal wire, Findings& findings);
protocol::TaskState from_wire(v1::TaskState wire, Findings& findings);
protocol::Timing from_wire(const v1::Timing& wire);

}  // namespace rtswap::rpc::internal
