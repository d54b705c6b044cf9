#include <map>
#include <optional>
#include <string>
#include <vector>

#include "csrc/bank/bank.h"
#include "csrc/policy/admission.h"
#include "csrc/policy/advice.h"
#include "csrc/policy/task_check.h"
#include "csrc/python/bindings.h"
#include "csrc/python/fields.h"

namespace py = pybind11;
using py::literals::operator""_a;

namespace rtswap::python {
namespace {

constexpr const char* kConfiguration = "plan(): a configuration";

policy::AdmissionInput input_of(const py::dict& config) {
  policy::AdmissionInput input;
  input.link.chunk_cost_ns = policy::kCudaChunkCost_ns;
  input.link.overhead_ns = policy::kDaemonRoundTrip_ns;
  input.staging = true;
  std::optional<uint32_t> prefetch_chunks;  // for disciplines that prefetch nothing
  Fields(config, kConfiguration)
      .take("chunk_bytes", input.link.chunk_bytes)
      .take("chunk_count", input.bank_chunks)
      .take("bytes_per_s", input.link.restore_bytes_per_s)
      .take("chunk_cost_ns", input.link.chunk_cost_ns)
      .take("prefetch_chunks", prefetch_chunks)
      .take("staging", input.staging)
      .expect_none_left();
  if (input.link.chunk_bytes == 0 || input.bank_chunks == 0 || input.link.chunk_cost_ns < 0) {
    raise({ErrorCode::invalid_argument,
           std::string(kConfiguration) +
               " needs chunk_bytes and chunk_count, both more than 0, and a chunk_cost_ns of at "
               "least 0."});
  }
  input.link.prefetch_chunks =
      prefetch_chunks.value_or(policy::quantum_chunks(input.link.chunk_bytes));
  return input;
}

// For messages.
std::string described(const policy::TaskModel& task) {
  return "plan(): task \"" + task.name + "\"";
}

[[noreturn]] void refuse(const policy::TaskModel& task, const std::string& mistake) {
  raise({ErrorCode::invalid_argument, described(task) + ": " + mistake + "."});
}

struct PlanTask {
  policy::TaskModel model;
  bool late_run = false;
};

PlanTask task_of(const py::dict& values) {
  PlanTask task;
  std::vector<std::pair<uint32_t, int64_t>> layers;  // (chunks, execution_ns)
  if (values.contains("name")) task.model.name = py::str(values["name"]);
  Fields(values, described(task.model))
      .take("name", task.model.name)
      .take("period_ns", task.model.period_ns)
      .take("deadline_ns", task.model.deadline_ns)
      .take("wcet_ns", task.model.wcet_ns)
      .take("arena", task.model.arena)
      .take("arena_chunks", task.model.arena_chunks)
      .take("mutable_chunks", task.model.mutable_chunks)
      .take("resident", task.model.resident)
      .take("layers", layers)
      .take("late_run", task.late_run)
      .expect_none_left();
  for (const auto& [chunks, execution_ns] : layers) {
    task.model.layers.push_back({chunks, execution_ns});
  }
  if (const std::string mistake = policy::mistake_in(task.model); !mistake.empty()) {
    refuse(task.model, mistake);
  }
  if (task.model.period_ns > 0 && task.model.wcet_ns == 0) {
    refuse(task.model, "it has a period, so a plan needs its cost: wcet_ns must be more than 0");
  }
  return task;
}

// Tasks of one arena share its memory.
void expect_one_size(const policy::TaskModel& task,
                     std::map<policy::ArenaKey, policy::TaskModel>& seen) {
  const policy::TaskModel& first = seen.try_emplace(task.arena, task).first->second;
  if (first.arena_chunks == task.arena_chunks && first.mutable_chunks == task.mutable_chunks)
    return;
  refuse(task, "it shares arena " + std::to_string(task.arena) + " with \"" + first.name +
                   "\" and gives it another size");
}

py::object index_or_none(const std::optional<size_t>& index) {
  return index ? py::object(py::int_(*index)) : py::object(py::none());
}

py::dict to_python(const policy::Promise& promise, bool admitted) {
  py::dict result(
      "resident_chunks"_a = promise.resident_chunks, "missing_chunks"_a = promise.missing_chunks,
      "mode"_a = promise.staged ? "staged" : "direct", "lead_chunks"_a = promise.lead_chunks,
      "lead_ns"_a = promise.lead_ns, "block_ns"_a = promise.block_ns);
  if (!admitted) return result;
  result["response_ns"] = promise.response_ns;
  result["window_ns"] = promise.limit.t_ns;
  result["blocking_task"] = index_or_none(promise.limit.blocking_task);
  result["blocking_ns"] = promise.limit.blocking_ns;
  return result;
}

// Tasks with a period are to be promised; indices in the answer count those in their order. For
// comparisons, overlap is left out by leaving out "layers", and staged tasks if "staging" is false.
py::dict plan(const py::dict& config, const py::list& task_values) {
  policy::AdmissionInput input = input_of(config);
  std::map<policy::ArenaKey, policy::TaskModel> arenas;
  for (const py::handle values : task_values) {
    const PlanTask task = task_of(values.cast<py::dict>());
    expect_one_size(task.model, arenas);
    if (task.model.period_ns == 0) {
      input.best_effort.push_back(task.model);
      continue;
    }
    input.promised.push_back(task.model);
    input.may_run_late.push_back(task.late_run);
  }
  policy::Decision decision;
  {
    const py::gil_scoped_release unlocked;
    decision = policy::decide(input);
    // The change that would help is sought for the task in whose window the set fails first.
    const auto& failure = decision.refusal.failure;
    if (failure && failure->missing_task < input.promised.size()) {
      input.candidate = failure->missing_task;
    }
    if (!decision.admitted) policy::explain(input, decision);
  }
  py::list promised;
  for (const auto& promise : decision.promises) {
    promised.append(to_python(promise, decision.admitted));
  }
  py::list best_effort;
  for (const auto& promise : decision.best_effort) best_effort.append(to_python(promise, false));
  py::object failure = py::none();
  if (decision.refusal.failure) {
    const policy::Failure& known = *decision.refusal.failure;
    failure = py::dict("window_ns"_a = known.t_ns, "demand_ns"_a = known.demand_ns,
                       "missing_task"_a = known.missing_task,
                       "blocking_task"_a = index_or_none(known.blocking_task));
  }
  return py::dict(
      "admitted"_a = decision.admitted, "reason"_a = decision.reason,
      "change"_a = decision.refusal.change, "failure"_a = failure, "promised"_a = promised,
      "best_effort"_a = best_effort, "best_effort_block_ns"_a = decision.best_effort_block_ns,
      "release_latency_ns"_a = input.link.overhead_ns, "utilisation"_a = decision.utilisation);
}

}  // namespace

void bind_planning(py::module_& module) {
  module.attr("cuda_chunk_cost_ns") = policy::kCudaChunkCost_ns;
  module.attr("daemon_round_trip_ns") = policy::kDaemonRoundTrip_ns;
  module.def("plan", &plan, py::arg("config"), py::arg("tasks"));
  module.def("default_chunk_bytes", &bank::default_chunk_bytes, py::arg("budget_bytes"));
}

}  // namespace rtswap::python
