#include "csrc/rpc/codec_common.h"

namespace rtswap::rpc {
namespace internal {
namespace {

// Length of the valid UTF-8 sequence at `text[i]`, or 0.
size_t utf8_length(const std::string& text, size_t i) {
  const auto byte = [&](size_t k) { return static_cast<unsigned char>(text[k]); };
  const auto continues = [&](size_t k) { return k < text.size() && (byte(k) & 0xC0) == 0x80; };
  const unsigned char lead = byte(i);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return continues(i + 1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    if (!continues(i + 1) || !continues(i + 2)) return 0;
    const bool overlong = lead == 0xE0 && byte(i + 1) < 0xA0;
    const bool surrogate = lead == 0xED && byte(i + 1) > 0x9F;
    return overlong || surrogate ? 0 : 3;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    if (!continues(i + 1) || !continues(i + 2) || !continues(i + 3)) return 0;
    const bool overlong = lead == 0xF0 && byte(i + 1) < 0x90;
    const bool too_high = lead == 0xF4 && byte(i + 1) > 0x8F;
    return overlong || too_high ? 0 : 4;
  }
  return 0;
}

}  // namespace

std::string to_wire_text(const std::string& text) {
  std::string valid;
  valid.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const size_t length = utf8_length(text, i);
    if (valid.size() + std::max<size_t>(length, 1) > kMaxTextBytes) break;
    if (length == 0) {
      valid += '?';
      ++i;
    } else {
      valid.append(text, i, length);
      i += length;
    }
  }
  return valid;
}

std::string from_wire_text(const std::string& text, const char* field, Findings& findings) {
  if (text.size() > kMaxTextBytes) {
    findings.add(std::string(field) + " has " + std::to_string(text.size()) + " bytes, at most " +
                 std::to_string(kMaxTextBytes) + " are allowed");
    return {};
  }
  return text;
}

std::vector<uint32_t> from_wire_list(const google::protobuf::RepeatedField<uint32_t>& list,
                                     const char* field, Findings& findings) {
  if (list.size() > kMaxListLength) {
    findings.add(std::string(field) + " has " + std::to_string(list.size()) +
                 " elements, at most " + std::to_string(kMaxListLength) + " are allowed");
    return {};
  }
  return {list.begin(), list.end()};
}

v1::LatePolicy to_wire(protocol::LatePolicy policy) {
  return policy == protocol::LatePolicy::run ? v1::LATE_POLICY_RUN : v1::LATE_POLICY_DROP;
}

v1::OnRefusal to_wire(protocol::OnRefusal on_refusal) {
  return on_refusal == protocol::OnRefusal::best_effort ? v1::ON_REFUSAL_BEST_EFFORT
                                                        : v1::ON_REFUSAL_REFUSE;
}

v1::TaskState to_wire(protocol::TaskState state) {
  switch (state) {
    case protocol::TaskState::loading:
      return v1::TASK_STATE_LOADING;
    case protocol::TaskState::warming:
      return v1::TASK_STATE_WARMING;
    case protocol::TaskState::admitted:
      return v1::TASK_STATE_ADMITTED;
    case protocol::TaskState::best_effort:
      return v1::TASK_STATE_BEST_EFFORT;
    case protocol::TaskState::refused:
      return v1::TASK_STATE_REFUSED;
    case protocol::TaskState::paused:
      return v1::TASK_STATE_PAUSED;
  }
  return v1::TASK_STATE_UNSPECIFIED;
}

void to_wire(const protocol::Timing& timing, v1::Timing* wire) {
  wire->set_period_ns(timing.period_ns);
  wire->set_deadline_ns(timing.deadline_ns);
  wire->set_wcet_ns(timing.wcet_ns);
  for (const protocol::LayerNeed& layer : timing.layers) {
    v1::LayerNeed* added = wire->add_layers();
    added->set_chunks(layer.chunks);
    added->set_execution_ns(layer.execution_ns);
  }
}

void to_wire(const Error& error, v1::Error* wire) {
  wire->set_code_name(to_string(error.code));
  wire->set_message(to_wire_text(error.message));
}

protocol::LatePolicy from_wire(v1::LatePolicy wire, Findings& findings) {
  switch (wire) {
    case v1::LATE_POLICY_DROP:
      return protocol::LatePolicy::drop;
    case v1::LATE_POLICY_RUN:
      return protocol::LatePolicy::run;
    default:
      findings.add("late_policy " + std::to_string(static_cast<int>(wire)) + " is unknown");
      return {};
  }
}

protocol::OnRefusal from_wire(v1::OnRefusal wire, Findings& findings) {
  switch (wire) {
    case v1::ON_REFUSAL_REFUSE:
      return protocol::OnRefusal::refuse;
    case v1::ON_REFUSAL_BEST_EFFORT:
      return protocol::OnRefusal::best_effort;
    default:
      findings.add("on_refusal " + std::to_string(static_cast<int>(wire)) + " is unknown");
      return {};
  }
}

protocol::TaskState from_wire(v1::TaskState wire, Findings& findings) {
  switch (wire) {
    case v1::TASK_STATE_LOADING:
      return protocol::TaskState::loading;
    case v1::TASK_STATE_WARMING:
      return protocol::TaskState::warming;
    case v1::TASK_STATE_ADMITTED:
      return protocol::TaskState::admitted;
    case v1::TASK_STATE_BEST_EFFORT:
      return protocol::TaskState::best_effort;
    case v1::TASK_STATE_REFUSED:
      return protocol::TaskState::refused;
    case v1::TASK_STATE_PAUSED:
      return protocol::TaskState::paused;
    default:
      findings.add("task state " + std::to_string(static_cast<int>(wire)) + " is unknown");
      return {};
  }
}

protocol::Timing from_wire(const v1::Timing& wire) {
  protocol::Timing timing{wire.period_ns(), wire.deadline_ns(), wire.wcet_ns(), {}};
  timing.layers.reserve(static_cast<size_t>(wire.layers_size()));
  for (const v1::LayerNeed& layer : wire.layers()) {
    timing.layers.push_back({layer.chunks(), layer.execution_ns()});
  }
  return timing;
}

}  // namespace internal

v1::Error encode(const Error& error) {
  v1::Error wire;
  internal::to_wire(error, &wire);
  return wire;
}

// Total on purpose: an error must arrive whatever its sender wrote into it.
Error decode(const v1::Error& error) {
  return {error_code_from_string(error.code_name()),
          error.message().substr(0, static_cast<size_t>(kMaxTextBytes))};
}

}  // namespace rtswap::rpc
