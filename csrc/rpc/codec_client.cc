// Client to arbiter.
#include "csrc/rpc/codec_common.h"

namespace rtswap::rpc {
namespace {

using namespace internal;

void put(const protocol::Hello& in, v1::ClientEnvelope& envelope) {
  v1::Hello* out = envelope.mutable_hello();
  out->set_protocol_version(in.protocol_version);
  out->set_process_name(to_wire_text(in.process_name));
  out->set_library_version(to_wire_text(in.library_version));
  out->set_process_id(in.pid);
  out->set_resumed_session_id(in.resumed_session);
  for (const protocol::HeldArena& held : in.held) {
    v1::HeldArena* wire = out->add_held_arenas();
    wire->set_arena_id(held.arena);
    wire->set_device_index(held.device);
    wire->set_device_uuid(to_wire_text(held.device_uuid));
    wire->set_size_chunks(held.chunks);
    wire->mutable_resident_chunk_ids()->Assign(held.resident.begin(), held.resident.end());
  }
}

void put(const protocol::DeviceReport& in, v1::ClientEnvelope& envelope) {
  v1::DeviceReport* out = envelope.mutable_device_report();
  out->set_device_index(in.device);
  out->set_static_bytes(in.static_bytes);
  out->set_restore_bytes_per_s(in.restore_bytes_per_s);
  out->set_evict_bytes_per_s(in.evict_bytes_per_s);
}

void put(const protocol::OpenArena& in, v1::ClientEnvelope& envelope) {
  v1::OpenArena* out = envelope.mutable_open_arena();
  out->set_arena_id(in.arena);
  out->set_device_index(in.device);
  out->set_size_chunks(in.chunks);
  out->set_mutable_chunks(in.mutable_chunks);
}

void put(const protocol::ResizeArena& in, v1::ClientEnvelope& envelope) {
  v1::ResizeArena* out = envelope.mutable_resize_arena();
  out->set_arena_id(in.arena);
  out->set_size_chunks(in.chunks);
  out->set_mutable_chunks(in.mutable_chunks);
}

void put(const protocol::CloseArena& in, v1::ClientEnvelope& envelope) {
  envelope.mutable_close_arena()->set_arena_id(in.arena);
}

void put(const protocol::OpenTask& in, v1::ClientEnvelope& envelope) {
  v1::OpenTask* out = envelope.mutable_open_task();
  out->set_task_id(in.task);
  out->set_arena_id(in.arena);
  out->set_name(to_wire_text(in.name));
  to_wire(in.timing, out->mutable_timing());
  out->set_resident(in.resident);
  out->set_late_policy(to_wire(in.late));
  out->set_on_refusal(to_wire(in.on_refusal));
  for (const protocol::ArenaId arena : in.further_arenas) out->add_further_arena_ids(arena);
  out->set_importance(in.importance);
}

void put(const protocol::UpdateTask& in, v1::ClientEnvelope& envelope) {
  v1::UpdateTask* out = envelope.mutable_update_task();
  out->set_task_id(in.task);
  to_wire(in.timing, out->mutable_timing());
}

void put(const protocol::PauseTask& in, v1::ClientEnvelope& envelope) {
  envelope.mutable_pause_task()->set_task_id(in.task);
}

void put(const protocol::ResumeTask& in, v1::ClientEnvelope& envelope) {
  envelope.mutable_resume_task()->set_task_id(in.task);
}

void put(const protocol::CloseTask& in, v1::ClientEnvelope& envelope) {
  envelope.mutable_close_task()->set_task_id(in.task);
}

void put(const protocol::Release& in, v1::ClientEnvelope& envelope) {
  v1::Release* out = envelope.mutable_release();
  out->set_job_id(in.job);
  out->set_task_id(in.task);
  out->set_release_ns(in.release_ns);
  out->set_deadline_ns(in.deadline_ns);
}

void put(const protocol::CancelJob& in, v1::ClientEnvelope& envelope) {
  envelope.mutable_cancel_job()->set_job_id(in.job);
}

void put(const protocol::JobDone& in, v1::ClientEnvelope& envelope) {
  v1::JobDone* out = envelope.mutable_job_done();
  out->set_job_id(in.job);
  out->set_execution_ns(in.execution_ns);
}

void put(const protocol::Restored& in, v1::ClientEnvelope& envelope) {
  v1::Restored* out = envelope.mutable_restored();
  out->set_arena_id(in.arena);
  out->set_landed_chunks(in.landed_chunks);
}

void put(const protocol::Evicted& in, v1::ClientEnvelope& envelope) {
  v1::Evicted* out = envelope.mutable_evicted();
  out->set_arena_id(in.arena);
  out->set_resident_chunks(in.resident_chunks);
  out->set_written_back_bytes(in.written_back_bytes);
}

void put(const protocol::RestoreFailed& in, v1::ClientEnvelope& envelope) {
  v1::RestoreFailed* out = envelope.mutable_restore_failed();
  out->set_arena_id(in.arena);
  out->set_resident_chunks(in.resident_chunks);
  to_wire(in.error, out->mutable_error());
}

void put(const protocol::Goodbye&, v1::ClientEnvelope& envelope) { envelope.mutable_goodbye(); }

protocol::Hello take(const v1::Hello& wire, Findings& findings) {
  protocol::Hello out;
  out.protocol_version = wire.protocol_version();
  out.process_name = from_wire_text(wire.process_name(), "process_name", findings);
  out.library_version = from_wire_text(wire.library_version(), "library_version", findings);
  out.pid = wire.process_id();
  out.resumed_session = wire.resumed_session_id();
  if (wire.held_arenas_size() > kMaxListLength) {
    findings.add("held_arenas has " + std::to_string(wire.held_arenas_size()) + " elements");
    return out;
  }
  for (const v1::HeldArena& held : wire.held_arenas()) {
    out.held.push_back({held.arena_id(), held.device_index(),
                        from_wire_text(held.device_uuid(), "device_uuid", findings),
                        held.size_chunks(),
                        from_wire_list(held.resident_chunk_ids(), "resident_chunk_ids", findings)});
  }
  return out;
}

protocol::OpenTask take(const v1::OpenTask& wire, Findings& findings) {
  protocol::OpenTask out;
  out.task = wire.task_id();
  out.arena = wire.arena_id();
  out.name = from_wire_text(wire.name(), "name", findings);
  out.timing = from_wire(wire.timing());
  out.resident = wire.resident();
  out.late = from_wire(wire.late_policy(), findings);
  out.on_refusal = from_wire(wire.on_refusal(), findings);
  out.further_arenas.assign(wire.further_arena_ids().begin(), wire.further_arena_ids().end());
  out.importance = wire.importance();
  return out;
}

protocol::ClientMessage take(const v1::ClientEnvelope& in, Findings& findings) {
  using Case = v1::ClientEnvelope::MessageCase;
  switch (in.message_case()) {
    case Case::kHello:
      return take(in.hello(), findings);
    case Case::kDeviceReport: {
      const v1::DeviceReport& wire = in.device_report();
      return protocol::DeviceReport{wire.device_index(), wire.static_bytes(),
                                    wire.restore_bytes_per_s(), wire.evict_bytes_per_s()};
    }
    case Case::kOpenArena: {
      const v1::OpenArena& wire = in.open_arena();
      return protocol::OpenArena{wire.arena_id(), wire.device_index(), wire.size_chunks(),
                                 wire.mutable_chunks()};
    }
    case Case::kResizeArena: {
      const v1::ResizeArena& wire = in.resize_arena();
      return protocol::ResizeArena{wire.arena_id(), wire.size_chunks(), wire.mutable_chunks()};
    }
    case Case::kCloseArena:
      return protocol::CloseArena{in.close_arena().arena_id()};
    case Case::kOpenTask:
      return take(in.open_task(), findings);
    case Case::kUpdateTask:
      return protocol::UpdateTask{in.update_task().task_id(), from_wire(in.update_task().timing())};
    case Case::kPauseTask:
      return protocol::PauseTask{in.pause_task().task_id()};
    case Case::kResumeTask:
      return protocol::ResumeTask{in.resume_task().task_id()};
    case Case::kCloseTask:
      return protocol::CloseTask{in.close_task().task_id()};
    case Case::kRelease: {
      const v1::Release& wire = in.release();
      return protocol::Release{wire.job_id(), wire.task_id(), wire.release_ns(),
                               wire.deadline_ns()};
    }
    case Case::kCancelJob:
      return protocol::CancelJob{in.cancel_job().job_id()};
    case Case::kJobDone:
      return protocol::JobDone{in.job_done().job_id(), in.job_done().execution_ns()};
    case Case::kRestored:
      return protocol::Restored{in.restored().arena_id(), in.restored().landed_chunks()};
    case Case::kEvicted: {
      const v1::Evicted& wire = in.evicted();
      return protocol::Evicted{wire.arena_id(), wire.resident_chunks(), wire.written_back_bytes()};
    }
    case Case::kRestoreFailed: {
      const v1::RestoreFailed& wire = in.restore_failed();
      return protocol::RestoreFailed{wire.arena_id(), wire.resident_chunks(), decode(wire.error())};
    }
    case Case::kGoodbye:
      return protocol::Goodbye{};
    case Case::MESSAGE_NOT_SET:
      break;
  }
  findings.add("it carries no message that this version knows");
  return protocol::Goodbye{};
}

}  // namespace

v1::ClientEnvelope encode(const protocol::ClientMessage& message) {
  v1::ClientEnvelope envelope;
  std::visit([&](const auto& value) { put(value, envelope); }, message);
  return envelope;
}

Result<protocol::ClientMessage> decode(const v1::ClientEnvelope& envelope) {
  Findings findings;
  protocol::ClientMessage message = take(envelope, findings);
  if (!findings.none()) return fail(findings.error("message of a client"));
  return message;
}

}  // namespace rtswap::rpc
