// Arbiter to client, and the picture of its state.
#include "csrc/rpc/codec_common.h"

namespace rtswap::rpc {
namespace {

using namespace internal;

void put(const protocol::Welcome& in, v1::ArbiterEnvelope& envelope) {
  v1::Welcome* out = envelope.mutable_welcome();
  out->set_protocol_version(in.protocol_version);
  out->set_arbiter_version(to_wire_text(in.arbiter_version));
  out->set_session_id(in.session);
  out->set_epoch(in.epoch);
  for (const protocol::DeviceDescription& device : in.devices) {
    v1::DeviceDescription* wire = out->add_devices();
    wire->set_uuid(to_wire_text(device.uuid));
    wire->set_name(to_wire_text(device.name));
    wire->set_simulated(device.simulated);
    wire->set_total_bytes(device.total_bytes);
    wire->set_bank_id(to_wire_text(device.bank_id));
    wire->set_chunk_bytes(device.chunk_bytes);
    wire->set_bank_chunks(device.chunk_count);
    wire->set_simulated_bytes_per_s(device.simulated_bytes_per_s);
  }
  out->set_wait_for_tasks_count(in.wait_for_tasks);
}

void put(const protocol::Verdict& in, v1::ArbiterEnvelope& envelope) {
  v1::Verdict* out = envelope.mutable_verdict();
  out->set_task_id(in.task);
  out->set_state(to_wire(in.state));
  out->set_request_refused(in.request_refused);
  to_wire(in.reason, out->mutable_reason());
  to_wire(in.timing, out->mutable_timing());
  out->set_resident(in.resident);
  out->set_late_policy(to_wire(in.late));
  out->set_response_bound_ns(in.response_bound_ns);
  out->set_block_ns(in.block_ns);
  out->set_staged(in.staged);
  out->set_lead_ns(in.lead_ns);
  out->set_requests_answered_count(in.requests_answered);
  out->set_importance(in.importance);
  out->set_suspended(to_wire_text(in.suspended));
}

void put(const protocol::Grant& in, v1::ArbiterEnvelope& envelope) {
  v1::Grant* out = envelope.mutable_grant();
  out->set_arena_id(in.arena);
  out->set_first_position_index(in.first_position);
  out->mutable_chunk_ids()->Assign(in.chunks.begin(), in.chunks.end());
}

void put(const protocol::Revoke& in, v1::ArbiterEnvelope& envelope) {
  v1::Revoke* out = envelope.mutable_revoke();
  out->set_arena_id(in.arena);
  out->set_keep_chunks(in.keep_chunks);
}

void put(const protocol::Run& in, v1::ArbiterEnvelope& envelope) {
  v1::Run* out = envelope.mutable_run();
  out->set_job_id(in.job);
  out->set_first_chunks(in.first_chunks);
}

void put(const protocol::Dropped& in, v1::ArbiterEnvelope& envelope) {
  v1::Dropped* out = envelope.mutable_dropped();
  out->set_job_id(in.job);
  to_wire(in.reason, out->mutable_reason());
}

void put(const protocol::Begin& in, v1::ArbiterEnvelope& envelope) {
  envelope.mutable_begin()->set_start_ns(in.start_ns);
}

void put(const protocol::Fault& in, v1::ArbiterEnvelope& envelope) {
  to_wire(in.error, envelope.mutable_fault()->mutable_error());
}

protocol::Welcome take(const v1::Welcome& wire, Findings& findings) {
  protocol::Welcome out;
  out.protocol_version = wire.protocol_version();
  out.arbiter_version = from_wire_text(wire.arbiter_version(), "arbiter_version", findings);
  out.session = wire.session_id();
  out.epoch = wire.epoch();
  for (const v1::DeviceDescription& device : wire.devices()) {
    protocol::DeviceDescription description;
    description.uuid = from_wire_text(device.uuid(), "uuid", findings);
    description.name = from_wire_text(device.name(), "name", findings);
    description.simulated = device.simulated();
    description.total_bytes = device.total_bytes();
    description.bank_id = from_wire_text(device.bank_id(), "bank_id", findings);
    description.chunk_bytes = device.chunk_bytes();
    description.chunk_count = device.bank_chunks();
    description.simulated_bytes_per_s = device.simulated_bytes_per_s();
    out.devices.push_back(std::move(description));
  }
  out.wait_for_tasks = wire.wait_for_tasks_count();
  return out;
}

protocol::Verdict take(const v1::Verdict& wire, Findings& findings) {
  protocol::Verdict out;
  out.task = wire.task_id();
  out.state = from_wire(wire.state(), findings);
  out.request_refused = wire.request_refused();
  out.reason = decode(wire.reason());
  out.timing = from_wire(wire.timing());
  out.resident = wire.resident();
  out.late = from_wire(wire.late_policy(), findings);
  out.response_bound_ns = wire.response_bound_ns();
  out.block_ns = wire.block_ns();
  out.staged = wire.staged();
  out.lead_ns = wire.lead_ns();
  out.requests_answered = wire.requests_answered_count();
  out.importance = wire.importance();
  out.suspended = from_wire_text(wire.suspended(), "suspended", findings);
  return out;
}

protocol::ArbiterMessage take(const v1::ArbiterEnvelope& in, Findings& findings) {
  using Case = v1::ArbiterEnvelope::MessageCase;
  switch (in.message_case()) {
    case Case::kWelcome:
      return take(in.welcome(), findings);
    case Case::kVerdict:
      return take(in.verdict(), findings);
    case Case::kGrant:
      return protocol::Grant{in.grant().arena_id(), in.grant().first_position_index(),
                             from_wire_list(in.grant().chunk_ids(), "chunk_ids", findings)};
    case Case::kRevoke:
      return protocol::Revoke{in.revoke().arena_id(), in.revoke().keep_chunks()};
    case Case::kRun:
      return protocol::Run{in.run().job_id(), in.run().first_chunks()};
    case Case::kDropped:
      return protocol::Dropped{in.dropped().job_id(), decode(in.dropped().reason())};
    case Case::kBegin:
      return protocol::Begin{in.begin().start_ns()};
    case Case::kFault:
      return protocol::Fault{decode(in.fault().error())};
    case Case::MESSAGE_NOT_SET:
      break;
  }
  findings.add("it carries no message that this version knows");
  return protocol::Fault{};
}

void put(const protocol::DeviceStats& in, v1::DeviceStats* out) {
  out->set_uuid(to_wire_text(in.uuid));
  out->set_chunk_bytes(in.chunk_bytes);
  out->set_bank_chunks(in.chunk_count);
  out->set_free_chunks(in.free_chunks);
  out->set_static_bytes(in.static_bytes);
  out->set_static_limit_bytes(in.static_limit_bytes);
  out->set_running_task_name(to_wire_text(in.running));
  out->set_utilisation_ratio(in.utilisation);
  out->set_suspended(to_wire_text(in.suspended));
  out->set_suspension_count(in.suspensions);
}

void put(const protocol::TaskStats& in, v1::TaskStats* out) {
  out->set_name(to_wire_text(in.name));
  out->set_session_id(in.session);
  out->set_device_index(in.device);
  out->set_state(to_wire(in.state));
  to_wire(in.timing, out->mutable_timing());
  out->set_released_count(in.released);
  out->set_met_count(in.met);
  out->set_missed_count(in.missed);
  out->set_dropped_count(in.dropped);
  out->set_overrun_count(in.overruns);
  out->set_restored_bytes(in.restored_bytes);
  out->set_evicted_bytes(in.evicted_bytes);
  out->set_written_back_bytes(in.written_back_bytes);
  out->set_arena_chunks(in.arena_chunks);
  out->set_resident_chunks(in.resident_chunks);
  out->set_response_max_ns(in.response_max_ns);
  out->set_response_bound_ns(in.response_bound_ns);
  out->set_importance(in.importance);
  out->set_staged(in.staged);
  out->set_lead_ns(in.lead_ns);
}

protocol::DeviceStats take(const v1::DeviceStats& wire, Findings& findings) {
  protocol::DeviceStats out;
  out.uuid = from_wire_text(wire.uuid(), "uuid", findings);
  out.chunk_bytes = wire.chunk_bytes();
  out.chunk_count = wire.bank_chunks();
  out.free_chunks = wire.free_chunks();
  out.static_bytes = wire.static_bytes();
  out.static_limit_bytes = wire.static_limit_bytes();
  out.running = from_wire_text(wire.running_task_name(), "running_task_name", findings);
  out.utilisation = wire.utilisation_ratio();
  out.suspended = from_wire_text(wire.suspended(), "suspended", findings);
  out.suspensions = wire.suspension_count();
  return out;
}

protocol::TaskStats take(const v1::TaskStats& wire, Findings& findings) {
  protocol::TaskStats out;
  out.name = from_wire_text(wire.name(), "name", findings);
  out.session = wire.session_id();
  out.device = wire.device_index();
  out.state = from_wire(wire.state(), findings);
  out.timing = from_wire(wire.timing());
  out.released = wire.released_count();
  out.met = wire.met_count();
  out.missed = wire.missed_count();
  out.dropped = wire.dropped_count();
  out.overruns = wire.overrun_count();
  out.restored_bytes = wire.restored_bytes();
  out.evicted_bytes = wire.evicted_bytes();
  out.written_back_bytes = wire.written_back_bytes();
  out.arena_chunks = wire.arena_chunks();
  out.resident_chunks = wire.resident_chunks();
  out.response_max_ns = wire.response_max_ns();
  out.response_bound_ns = wire.response_bound_ns();
  out.importance = wire.importance();
  out.staged = wire.staged();
  out.lead_ns = wire.lead_ns();
  return out;
}

}  // namespace

v1::ArbiterEnvelope encode(const protocol::ArbiterMessage& message) {
  v1::ArbiterEnvelope envelope;
  std::visit([&](const auto& value) { put(value, envelope); }, message);
  return envelope;
}

Result<protocol::ArbiterMessage> decode(const v1::ArbiterEnvelope& envelope) {
  Findings findings;
  protocol::ArbiterMessage message = take(envelope, findings);
  if (!findings.none()) return fail(findings.error("message of the arbiter"));
  return message;
}

v1::StatsReply encode(const protocol::Snapshot& snapshot) {
  v1::StatsReply reply;
  reply.set_recovering(snapshot.recovering);
  for (const auto& device : snapshot.devices) put(device, reply.add_devices());
  for (const auto& task : snapshot.tasks) put(task, reply.add_tasks());
  return reply;
}

Result<protocol::Snapshot> decode(const v1::StatsReply& reply) {
  Findings findings;
  protocol::Snapshot snapshot;
  snapshot.recovering = reply.recovering();
  for (const auto& device : reply.devices()) snapshot.devices.push_back(take(device, findings));
  for (const auto& task : reply.tasks()) snapshot.tasks.push_back(take(task, findings));
  if (!findings.none()) return fail(findings.error("picture of the arbiter"));
  return snapshot;
}

}  // namespace rtswap::rpc
