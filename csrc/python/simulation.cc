#include "csrc/simulation/simulation.h"

#include <string>
#include <vector>

#include "csrc/python/bindings.h"
#include "csrc/python/errors.h"
#include "csrc/python/fields.h"
#include "csrc/simulation/sim_check.h"

namespace py = pybind11;
using py::literals::operator""_a;

namespace rtswap::python {
namespace {

using simulation::SimConfig;
using simulation::SimReport;
using simulation::SimTask;
using simulation::SimTaskReport;

void expect_sense(const std::string& subject, const std::string& mistake) {
  if (mistake.empty()) return;
  raise({ErrorCode::invalid_argument, "simulate(): " + subject + ": " + mistake + "."});
}

SimConfig config_of(const py::dict& values) {
  SimConfig config;
  config.round_trip_ns = policy::kDaemonRoundTrip_ns;
  std::string discipline = "edf";
  Fields(values, "simulate(): a configuration")
      .take("chunk_bytes", config.chunk_bytes)
      .take("chunk_count", config.chunk_count)
      .take("bytes_per_s", config.bytes_per_s)
      .take("chunk_cost_ns", config.chunk_cost_ns)
      .take("latency_min_ns", config.latency_min_ns)
      .take("latency_max_ns", config.latency_max_ns)
      .take("discipline", discipline)
      .take("seed", config.seed)
      .take("first_release_ns", config.first_release_ns)
      .take("horizon_ns", config.horizon_ns)
      .take("keep_trace", config.keep_trace)
      .take("hang_timeout_ns", config.hang_timeout_ns)
      .take("faults_end_ns", config.faults_end_ns)
      .take("crashes", config.faults.crashes)
      .take("disconnects", config.faults.disconnects)
      .take("hangs", config.faults.hangs)
      .take("hang_ns", config.faults.hang_ns)
      .take("restore_failures", config.faults.restore_failures)
      .expect_none_left();
  if (discipline != "edf" && discipline != "request-order") {
    raise({ErrorCode::invalid_argument,
           "simulate(): discipline is 'edf' or 'request-order', not '" + discipline + "'."});
  }
  config.discipline =
      discipline == "edf" ? arbiter::Discipline::edf : arbiter::Discipline::request_order;
  expect_sense("the configuration", simulation::mistake_in(config));
  return config;
}

SimTask task_of(const py::dict& values) {
  SimTask task;
  std::vector<std::pair<uint32_t, int64_t>> layers;  // (chunks, execution_ns)
  Fields(values, "simulate(): a task")
      .take("name", task.name)
      .take("period_ns", task.period_ns)
      .take("deadline_ns", task.deadline_ns)
      .take("wcet_ns", task.wcet_ns)
      .take("execution_min_ns", task.execution_min_ns)
      .take("execution_max_ns", task.execution_max_ns)
      .take("spacing_ns", task.spacing_ns)
      .take("jitter_ns", task.jitter_ns)
      .take("on_grid", task.on_grid)
      .take("offset_ns", task.offset_ns)
      .take("join_ns", task.join_ns)
      .take("arena_chunks", task.arena_chunks)
      .take("mutable_chunks", task.mutable_chunks)
      .take("layers", layers)
      .take("resident", task.resident)
      .take("late_run", task.late_run)
      .take("best_effort_if_refused", task.best_effort_if_refused)
      .take("importance", task.importance)
      .expect_none_left();
  for (const auto& [chunks, execution_ns] : layers) task.layers.push_back({chunks, execution_ns});
  expect_sense("task \"" + task.name + "\"", simulation::mistake_in(task));
  return task;
}

py::dict to_python(const SimTaskReport& task) {
  return py::dict(
      "name"_a = task.name, "state"_a = protocol::to_string(task.verdict.state),
      "reason"_a = task.verdict.reason.message, "block_ns"_a = task.verdict.block_ns,
      "mode"_a = task.verdict.staged ? "staged" : "direct", "lead_ns"_a = task.verdict.lead_ns,
      "released"_a = task.released, "met"_a = task.met, "missed"_a = task.missed,
      "dropped"_a = task.dropped, "early"_a = task.early,
      "response_min_ns"_a = task.response_min_ns, "response_median_ns"_a = task.response_median_ns,
      "response_max_ns"_a = task.response_max_ns, "response_bound_ns"_a = task.response_bound_ns,
      "bound_ns"_a = task.verdict.response_bound_ns, "above_bound"_a = task.above_bound,
      "restored_bytes"_a = task.restored_bytes, "evicted_bytes"_a = task.evicted_bytes);
}

py::dict to_python(const arbiter::Trace& event) {
  return py::dict("kind"_a = arbiter::to_string(event.kind), "at_ns"_a = event.at_ns,
                  "device"_a = event.device, "task"_a = event.task, "job"_a = event.job,
                  "bytes"_a = event.bytes, "release_ns"_a = event.release_ns,
                  "deadline_ns"_a = event.deadline_ns, "detail"_a = event.detail);
}

py::dict simulate(const py::dict& config_values, const py::list& task_values) {
  const SimConfig config = config_of(config_values);
  std::vector<SimTask> tasks;
  for (const py::handle values : task_values) tasks.push_back(task_of(values.cast<py::dict>()));
  if (tasks.empty()) expect_sense("the configuration", "there is nothing to run without a task");
  const SimReport report = [&] {
    py::gil_scoped_release unlocked;
    return simulation::run(config, tasks);
  }();
  py::list task_reports;
  for (const SimTaskReport& task : report.tasks) task_reports.append(to_python(task));
  py::list trace;
  for (const arbiter::Trace& event : report.trace) trace.append(to_python(event));
  return py::dict("tasks"_a = task_reports, "trace"_a = trace,
                  "violations"_a = py::cast(report.violations), "steps"_a = report.steps,
                  "ended_ns"_a = report.ended_ns, "suspensions"_a = report.suspensions);
}

}  // namespace

void bind_simulation(py::module_& module) {
  module.def("simulate", &simulate, py::arg("config"), py::arg("tasks"));
}

}  // namespace rtswap::python
