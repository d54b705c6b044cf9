#include "csrc/python/values.h"

namespace py = pybind11;
using py::literals::operator""_a;

namespace rtswap::python {

client::Timing timing_of(int64_t period_ns, int64_t deadline_ns, int64_t wcet_ns,
                         const Layers& layers) {
  client::Timing timing;
  timing.period_ns = period_ns;
  timing.deadline_ns = deadline_ns;
  timing.wcet_ns = wcet_ns;
  for (const auto& [chunks, execution_ns] : layers) timing.layers.push_back({chunks, execution_ns});
  return timing;
}

py::list to_python(const std::vector<protocol::DeviceDescription>& devices) {
  py::list list;
  for (const protocol::DeviceDescription& device : devices) {
    list.append(py::dict("uuid"_a = device.uuid, "name"_a = device.name,
                         "simulated"_a = device.simulated, "total_bytes"_a = device.total_bytes,
                         "chunk_bytes"_a = device.chunk_bytes, "chunk_count"_a = device.chunk_count,
                         "simulated_bytes_per_s"_a = device.simulated_bytes_per_s));
  }
  return list;
}

py::dict to_python(const engine::ArenaStats& stats) {
  return py::dict(
      "chunks"_a = stats.chunks, "resident_chunks"_a = stats.resident_chunks,
      "host_bytes"_a = stats.host_bytes, "restored_bytes"_a = stats.restored_bytes,
      "evicted_bytes"_a = stats.evicted_bytes, "written_back_bytes"_a = stats.written_back_bytes,
      "repaired_bytes"_a = stats.repaired_bytes, "guarded_chunks"_a = stats.guarded_chunks,
      "guard_failures"_a = stats.guard_failures, "kept_chunks"_a = stats.kept_chunks);
}

namespace {

py::dict to_python(const protocol::TaskStats& task) {
  return py::dict(
      "name"_a = task.name, "device"_a = task.device, "state"_a = protocol::to_string(task.state),
      "period_ns"_a = task.timing.period_ns, "deadline_ns"_a = task.timing.deadline_ns,
      "wcet_ns"_a = task.timing.wcet_ns, "released"_a = task.released, "met"_a = task.met,
      "missed"_a = task.missed, "dropped"_a = task.dropped, "overruns"_a = task.overruns,
      "restored_bytes"_a = task.restored_bytes, "evicted_bytes"_a = task.evicted_bytes,
      "written_back_bytes"_a = task.written_back_bytes, "arena_chunks"_a = task.arena_chunks,
      "resident_chunks"_a = task.resident_chunks, "response_max_ns"_a = task.response_max_ns,
      "response_bound_ns"_a = task.response_bound_ns, "importance"_a = task.importance,
      "mode"_a = task.staged ? "staged" : "direct", "lead_ns"_a = task.lead_ns);
}

py::dict to_python(const protocol::DeviceStats& device) {
  return py::dict("uuid"_a = device.uuid, "chunk_bytes"_a = device.chunk_bytes,
                  "chunk_count"_a = device.chunk_count, "free_chunks"_a = device.free_chunks,
                  "static_bytes"_a = device.static_bytes,
                  "static_limit_bytes"_a = device.static_limit_bytes, "running"_a = device.running,
                  "utilisation"_a = device.utilisation, "suspended"_a = device.suspended,
                  "suspensions"_a = device.suspensions);
}

}  // namespace

py::dict to_python(const protocol::Snapshot& snapshot) {
  py::list devices;
  for (const protocol::DeviceStats& device : snapshot.devices) devices.append(to_python(device));
  py::list tasks;
  for (const protocol::TaskStats& task : snapshot.tasks) tasks.append(to_python(task));
  return py::dict("recovering"_a = snapshot.recovering, "devices"_a = devices, "tasks"_a = tasks);
}

py::dict to_python(const protocol::Verdict& verdict) {
  py::list layers;
  for (const protocol::LayerNeed& layer : verdict.timing.layers) {
    layers.append(py::make_tuple(layer.chunks, layer.execution_ns));
  }
  return py::dict(
      "state"_a = protocol::to_string(verdict.state), "refused"_a = verdict.request_refused,
      "reason"_a = verdict.reason.message, "period_ns"_a = verdict.timing.period_ns,
      "deadline_ns"_a = verdict.timing.deadline_ns, "wcet_ns"_a = verdict.timing.wcet_ns,
      "layers"_a = layers, "resident"_a = verdict.resident,
      "late_run"_a = verdict.late == protocol::LatePolicy::run,
      "response_bound_ns"_a = verdict.response_bound_ns, "block_ns"_a = verdict.block_ns,
      "mode"_a = verdict.staged ? "staged" : "direct", "lead_ns"_a = verdict.lead_ns,
      "importance"_a = verdict.importance, "suspended"_a = verdict.suspended);
}

}  // namespace rtswap::python
