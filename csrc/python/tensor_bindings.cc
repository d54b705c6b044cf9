#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include <tuple>
#include <utility>

#include "csrc/python/session_object.h"
#include "csrc/python/tensor_set.h"

namespace py = pybind11;

namespace rtswap::python {

using engine::Kind;

void bind_tensors(py::module_& module) {
  using Entry = std::tuple<std::string, at::Tensor, int>;
  using WatchEntry = std::tuple<std::string, py::dict, py::object, py::object>;
  const auto kind_of = [](int kind) { return static_cast<Kind>(kind); };
  py::class_<TensorSet>(module, "TensorSet")
      .def(py::init([kind_of](const std::vector<Entry>& entries, const at::Device& device,
                              std::string owner) {
             std::vector<NamedTensor> tensors;
             tensors.reserve(entries.size());
             for (const auto& [name, tensor, kind] : entries) {
               tensors.push_back({name, tensor, kind_of(kind)});
             }
             return std::make_unique<TensorSet>(std::move(tensors), device, std::move(owner));
           }),
           py::arg("tensors"), py::arg("device"), py::arg("owner"))
      .def(
          "bytes", [kind_of](const TensorSet& set, int kind) { return set.bytes(kind_of(kind)); },
          py::arg("kind"))
      .def_property_readonly("storage_count", &TensorSet::storage_count)
      .def("left_behind", &TensorSet::left_behind)
      .def(
          "fill",
          [kind_of](TensorSet& set, int kind, const engine::Segment& segment) {
            set.fill(kind_of(kind), segment);
          },
          py::arg("kind"), py::arg("segment"))
      .def(
          "commit",
          [](TensorSet& set, const SessionObject* session) {
            set.commit(session == nullptr ? nullptr : session->shared());
          },
          py::arg("session").none(true))
      .def(
          "watch",
          [](TensorSet& set, const std::vector<WatchEntry>& entries) {
            std::vector<Watch> watches;
            for (const auto& [name, holder, key, tensor] : entries) {
              watches.push_back({name, holder, key, tensor});
            }
            set.watch(std::move(watches));
          },
          py::arg("watches"))
      .def("escaped", &TensorSet::escaped)
      .def("open", &TensorSet::open)
      .def("close", &TensorSet::close, py::arg("message"))
      .def("note_versions", &TensorSet::note_versions)
      .def("save_changed", &TensorSet::save_changed)
      .def("copy_mutable", &TensorSet::copy_mutable)
      .def("assign_mutable", &TensorSet::assign_mutable, py::arg("bytes"))
      .def("release", &TensorSet::release);
}

}  // namespace rtswap::python
