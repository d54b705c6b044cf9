#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "csrc/python/bindings.h"
#include "csrc/python/errors.h"
#include "csrc/python/session_object.h"
#include "csrc/python/values.h"
#include "csrc/python/waiting.h"

namespace py = pybind11;

namespace rtswap::python {
namespace {

using client::Verdict;

// Makes a request of the arbiter by `request(slice_ns)`, once, and waits in slices for its answer.
template <class Request>
py::dict answer_to(TaskObject& task, int64_t limit_ns, Request&& request) {
  bool requested = false;
  const Verdict verdict = ask_in_slices(limit_ns, [&](int64_t slice_ns) {
    return std::exchange(requested, true) ? task->wait_verdict(slice_ns) : request(slice_ns);
  });
  if (verdict.request_refused) raise(verdict.reason);
  return to_python(verdict);
}

py::dict wait_verdict(TaskObject& task, int64_t limit_ns) {
  return answer_to(task, limit_ns, [&](int64_t slice_ns) { return task->wait_verdict(slice_ns); });
}

py::dict update(TaskObject& task, int64_t period_ns, int64_t deadline_ns, int64_t wcet_ns,
                const Layers& layers, int64_t limit_ns) {
  const client::Timing timing = timing_of(period_ns, deadline_ns, wcet_ns, layers);
  return answer_to(task, limit_ns,
                   [&](int64_t slice_ns) { return task->update(timing, slice_ns); });
}

py::dict resume(TaskObject& task, int64_t limit_ns) {
  return answer_to(task, limit_ns, [&](int64_t slice_ns) { return task->resume(slice_ns); });
}

bool wait_job(JobObject& job, int64_t limit_ns) {
  Result<bool> started = false;
  wait_in_slices(limit_ns, [&, native = job.native()](int64_t slice_ns) {
    started = native->wait(slice_ns);
    return !started || *started;
  });
  return take(std::move(started));
}

uint32_t wait_for_chunks(JobObject& job, uint32_t chunks) {
  Result<uint32_t> landed = 0;
  wait_in_slices(-1, [&, native = job.native()](int64_t slice_ns) {
    landed = native->wait_for_chunks(chunks, slice_ns);
    return !landed || *landed >= chunks;
  });
  return take(std::move(landed));
}

// Which of the task's arenas, by its index, and a stream of its device.
using Streams = std::set<std::pair<size_t, uint64_t>>;

// By arena; those after the last one with a stream are left out.
std::vector<std::vector<driver::StreamHandle>> handles_of(const Streams& streams) {
  std::vector<std::vector<driver::StreamHandle>> handles;
  for (const auto& [arena, stream] : streams) {
    handles.resize(arena + 1);  // in their order
    handles[arena].push_back(driver::StreamHandle{stream});
  }
  return handles;
}

void end_job(JobObject& job, const Streams& streams) {
  if (job.over() || job.info().ended_ns != 0) return;
  const auto handles = handles_of(streams);
  take_unlocked([&, native = job.native()] { return native->end_on_all(handles); });
}

std::unique_ptr<client::QueuedWork> queued_work(JobObject& job, const Streams& streams) {
  const auto handles = handles_of(streams);
  return take_unlocked([&, native = job.native()] { return native->queued_work(handles); });
}

std::optional<int64_t> deadline_of(const client::JobInfo& info) {
  if (info.deadline_ns == protocol::kNoDeadline_ns) return std::nullopt;
  return info.deadline_ns;
}

// What is counted of every job, in one call.
std::tuple<int64_t, int64_t, std::optional<int64_t>, bool, int64_t> outcome_of(
    const JobObject& job) {
  const client::JobInfo info = job.info();
  return {info.release_ns, info.ended_ns, deadline_of(info), info.first_chunks < info.arena_chunks,
          info.chunks_waited_ns};
}

}  // namespace

void bind_tasks(py::module_& module) {
  py::class_<client::QueuedWork>(module, "QueuedWork")
      .def("completed", [](client::QueuedWork& self) {
        return take_unlocked([&] { return self.completed(); });
      });

  py::class_<JobObject>(module, "Job")
      .def("wait", &wait_job, py::arg("limit_ns"))
      .def("wait_for_chunks", &wait_for_chunks, py::arg("chunks"))
      .def("ready_descriptor",
           [](JobObject& self) { return take(self.native()->ready_descriptor()); })
      .def("cancel",
           [](JobObject& self) {
             const auto native = self.native();
             py::gil_scoped_release unlocked;
             native->cancel();
           })
      .def("end", &end_job, py::arg("streams"))
      .def("queued_work", &queued_work, py::arg("streams"))
      .def("chunks",
           [](JobObject& self) {
             const client::JobInfo info = self.info();
             return std::pair(info.first_chunks, info.arena_chunks);
           })
      .def("let_go", &JobObject::let_go)
      .def("info", &JobObject::info)
      .def("outcome", &outcome_of);

  py::class_<client::JobInfo>(module, "JobInfo")
      .def_readonly("index", &client::JobInfo::index)
      .def_readonly("release_ns", &client::JobInfo::release_ns)
      .def_property_readonly("deadline_ns", &deadline_of)
      .def_readonly("started_ns", &client::JobInfo::started_ns)
      .def_readonly("ended_ns", &client::JobInfo::ended_ns)
      .def_readonly("waited_ns", &client::JobInfo::waited_ns)
      .def_readonly("execution_ns", &client::JobInfo::execution_ns)
      .def_readonly("restored_bytes", &client::JobInfo::restored_bytes)
      .def_readonly("first_chunks", &client::JobInfo::first_chunks)
      .def_readonly("arena_chunks", &client::JobInfo::arena_chunks)
      .def_readonly("chunks_waited_ns", &client::JobInfo::chunks_waited_ns);

  py::class_<TaskObject>(module, "Task")
      .def_property_readonly("name", [](TaskObject& self) { return self->name(); })
      .def("verdict", [](TaskObject& self) { return to_python(self->verdict()); })
      .def("wait_verdict", &wait_verdict, py::arg("limit_ns"))
      .def("update", &update, py::arg("period_ns"), py::arg("deadline_ns"), py::arg("wcet_ns"),
           py::arg("layers"), py::arg("limit_ns"))
      .def("pause", [](TaskObject& self) { take_unlocked([&] { return self->pause(); }); })
      .def("resume", &resume, py::arg("limit_ns"))
      .def(
          "release",
          [](TaskObject& self, int64_t release_ns, bool exclusive, bool whole) {
            const auto start = whole ? client::Start::whole : client::Start::prefix;
            return JobObject(
                take_unlocked([&] { return self->release(release_ns, exclusive, start); }));
          },
          py::arg("release_ns"), py::arg("exclusive"), py::arg("whole"))
      .def("close", [](TaskObject& self) { take_unlocked([&] { return self->close(); }); });
}

}  // namespace rtswap::python
