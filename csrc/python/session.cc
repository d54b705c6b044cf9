#include "csrc/client/session.h"

#include <pybind11/stl.h>

#include <utility>
#include <vector>

#include "csrc/base/check.h"
#include "csrc/python/bindings.h"
#include "csrc/python/errors.h"
#include "csrc/python/session_object.h"
#include "csrc/python/values.h"
#include "csrc/python/waiting.h"

namespace py = pybind11;

namespace rtswap::python {
namespace {

using client::ArbiterChoice;

ArbiterChoice choice_of(const std::string& name) {
  if (name == "daemon") return ArbiterChoice::daemon;
  if (name == "embedded") return ArbiterChoice::embedded;
  return ArbiterChoice::automatic;
}

// From a thread without the GIL. A failing progress line is no reason to fail.
void report_progress(const py::object& callback, uint32_t done, uint32_t total) {
  const py::gil_scoped_acquire locked;
  try {
    callback(done, total);
  } catch (py::error_already_set& error) {
    error.discard_as_unraisable("rtswap progress");
  }
}

SessionObject connect(const std::string& choice, const std::string& socket_path,
                      const std::string& device_uuid, uint64_t budget_bytes,
                      uint64_t simulated_bytes, uint64_t simulated_bytes_per_s,
                      const std::string& process_name, const std::string& grpc_library,
                      uint64_t static_bytes, bool verify, bool guard, const py::object& progress) {
  client::ConnectOptions options;
  options.choice = choice_of(choice);
  options.socket_path = socket_path;
  options.embedded = {.device_uuid = device_uuid,
                      .budget_bytes = budget_bytes,
                      .simulated_bytes = simulated_bytes,
                      .simulated_bytes_per_s = simulated_bytes_per_s};
  options.process_name = process_name;
  options.library_version = RTSWAP_VERSION;
  options.grpc_library = grpc_library;
  options.static_bytes = static_bytes;
  options.verify = verify;
  options.guard = guard;
  // By reference: a copy would touch Python's reference counts without the GIL.
  options.progress = [&progress](uint32_t done, uint32_t total) {
    report_progress(progress, done, total);
  };
  return SessionObject(take_interruptible([&](const Interrupted& interrupted) {
    options.interrupted = interrupted;
    return client::Session::connect(std::move(options));
  }));
}

void use_device(SessionObject& session, uint32_t device) {
  take_interruptible(
      [&](const Interrupted& interrupted) { return session->use_device(device, interrupted); });
}

engine::Segment add_segment(SessionObject& session, engine::ArenaId arena, int kind,
                            uint64_t bytes) {
  return take_unlocked(
      [&] { return session->add_segment(arena, static_cast<engine::Kind>(kind), bytes); });
}

// `ranges`: addresses and bytes.
void keep_scratch(SessionObject& session, engine::ArenaId arena, driver::Address segment_address,
                  const std::vector<std::pair<uint64_t, uint64_t>>& ranges) {
  std::vector<engine::ByteRange> bytes;
  bytes.reserve(ranges.size());
  for (const auto& [address, size] : ranges) bytes.push_back({address, size});
  take_unlocked([&] { return session->keep_scratch(arena, segment_address, bytes); });
}

void publish_arena(SessionObject& session, engine::ArenaId arena, int64_t limit_ns) {
  ask_in_slices(limit_ns,
                [&](int64_t slice_ns) { return session->publish_arena(arena, slice_ns); });
}

py::dict snapshot(SessionObject& session, int64_t limit_ns) {
  return to_python(
      ask_in_slices(limit_ns, [&](int64_t slice_ns) { return session->snapshot(slice_ns); }));
}

// `arenas`: one on each device of the task.
TaskObject open_task(SessionObject& session, const std::vector<engine::ArenaId>& arenas,
                     const std::string& name, int64_t period_ns, int64_t deadline_ns,
                     int64_t wcet_ns, const Layers& layers, bool resident, bool late_run,
                     bool best_effort, int32_t importance) {
  client::TaskOptions options;
  options.name = name;
  options.timing = timing_of(period_ns, deadline_ns, wcet_ns, layers);
  options.resident = resident;
  options.late = late_run ? client::LatePolicy::run : client::LatePolicy::drop;
  options.on_refusal = best_effort ? client::OnRefusal::best_effort : client::OnRefusal::refuse;
  options.importance = importance;
  RTSWAP_CHECK(!arenas.empty(), "a task has an arena at least");
  options.further_arenas.assign(arenas.begin() + 1, arenas.end());
  return TaskObject(take_unlocked([&] { return session->open_task(arenas.front(), options); }));
}

}  // namespace

void bind_session(py::module_& module) {
  module.attr("most_importance") = protocol::kMostImportance;
  py::class_<engine::Segment>(module, "Segment")
      // A segment over any memory, so that TensorSet can be tested without a session.
      .def(py::init([](uint64_t address, uintptr_t host, uint64_t bytes, uint64_t chunk_bytes) {
             return engine::Segment{.address = address,
                                    .host = reinterpret_cast<std::byte*>(host),
                                    .bytes = bytes,
                                    .chunk_bytes = chunk_bytes};
           }),
           py::arg("address"), py::arg("host_address"), py::arg("bytes"), py::arg("chunk_bytes"))
      .def_readonly("address", &engine::Segment::address)
      .def_readonly("bytes", &engine::Segment::bytes)
      .def_readonly("chunks", &engine::Segment::chunks)
      .def_property_readonly("host_address", [](const engine::Segment& segment) {
        return reinterpret_cast<uintptr_t>(segment.host);
      });

  py::class_<SessionObject>(module, "Session")
      .def_static("connect", &connect, py::kw_only(), py::arg("choice"), py::arg("socket_path"),
                  py::arg("device_uuid"), py::arg("budget_bytes"), py::arg("simulated_bytes"),
                  py::arg("simulated_bytes_per_s"), py::arg("process_name"),
                  py::arg("grpc_library"), py::arg("static_bytes"), py::arg("verify"),
                  py::arg("guard"), py::arg("progress"))
      .def_property_readonly("embedded", [](SessionObject& self) { return self->embedded(); })
      .def_property_readonly("connected", [](SessionObject& self) { return self->connected(); })
      .def_property_readonly("arbiter_name",
                             [](SessionObject& self) { return self->arbiter_name(); })
      .def_property_readonly("devices",
                             [](SessionObject& self) { return to_python(self->devices()); })
      .def(
          "find_device",
          [](SessionObject& self, const std::string& uuid) {
            return take(self->find_device(uuid));
          },
          py::arg("uuid"))
      .def("use_device", &use_device, py::arg("device"))
      .def(
          "open_arena",
          [](SessionObject& self, uint32_t device, const std::string& label) {
            use_device(self, device);
            return take_unlocked([&] { return self->open_arena(device, label); });
          },
          py::arg("device"), py::arg("label"))
      .def("add_segment", &add_segment, py::arg("arena"), py::arg("kind"), py::arg("bytes"))
      .def("keep_scratch", &keep_scratch, py::arg("arena"), py::arg("segment_address"),
           py::arg("ranges"))
      .def(
          "keep_addresses",
          [](SessionObject& self, engine::ArenaId arena, driver::Address segment_address) {
            take_unlocked([&] { return self->keep_addresses(arena, segment_address); });
          },
          py::arg("arena"), py::arg("segment_address"))
      .def("publish_arena", &publish_arena, py::arg("arena"), py::arg("limit_ns"))
      .def(
          "discard_growth",
          [](SessionObject& self, engine::ArenaId arena) {
            take_unlocked([&] { return self->discard_growth(arena); });
          },
          py::arg("arena"))
      .def(
          "save_arena",
          [](SessionObject& self, engine::ArenaId arena) {
            take_unlocked([&] { return self->save_arena(arena); });
          },
          py::arg("arena"))
      .def(
          "close_arena",
          [](SessionObject& self, engine::ArenaId arena) {
            take_unlocked([&] { return self->close_arena(arena); });
          },
          py::arg("arena"))
      .def(
          "arena_stats",
          [](SessionObject& self, engine::ArenaId arena) {
            return to_python(take(self->arena_stats(arena)));
          },
          py::arg("arena"))
      .def("open_task", &open_task, py::kw_only(), py::arg("arenas"), py::arg("name"),
           py::arg("period_ns"), py::arg("deadline_ns"), py::arg("wcet_ns"), py::arg("layers"),
           py::arg("resident"), py::arg("late_run"), py::arg("best_effort"), py::arg("importance"))
      .def("snapshot", &snapshot, py::arg("limit_ns"))
      .def_property_readonly("common_start_ns",
                             [](SessionObject& self) { return self->common_start_ns(); })
      .def("close", [](SessionObject& self) { take_unlocked([&] { return self->close(); }); });
}

}  // namespace rtswap::python
