#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include <tuple>
#include <utility>

#include "csrc/python/bindings.h"
#include "csrc/python/session_object.h"
#include "csrc/python/tensor_set.h"

namespace py = pybind11;

namespace rtswap::python {

using engine::Kind;

namespace {

using WatchEntry = std::tuple<std::string, py::dict, py::object, py::object>;

std::vector<Watch> watches_of(const std::vector<WatchEntry>& entries) {
  std::vector<Watch> watches;
  watches.reserve(entries.size());
  for (const auto& [name, holder, key, value] : entries) {
    watches.push_back({name, holder, key, value});
  }
  return watches;
}

}  // namespace

void bind_tensors(py::module_& module) {
  using Entry = std::tuple<std::string, at::Tensor, int>;
  const auto kind_of = [](int kind) { return static_cast<Kind>(kind); };
  py::class_<TensorSet, std::shared_ptr<TensorSet>>(module, "TensorSet")
      .def(py::init([kind_of](const std::vector<Entry>& entries, const at::Device& device,
                              std::string owner, bool meta_allowed) {
             std::vector<NamedTensor> tensors;
             tensors.reserve(entries.size());
             for (const auto& [name, tensor, kind] : entries) {
               tensors.push_back({name, tensor, kind_of(kind)});
             }
             return std::make_shared<TensorSet>(std::move(tensors), device, std::move(owner),
                                                meta_allowed);
           }),
           py::arg("tensors"), py::arg("device"), py::arg("owner"), py::arg("meta_allowed") = false)
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
          "image_of",
          [](const TensorSet& set, const at::Tensor& tensor) -> py::object {
            const std::span<std::byte> bytes = set.image_of(tensor);
            if (bytes.empty()) return py::none();
            return py::memoryview::from_memory(bytes.data(),
                                               static_cast<py::ssize_t>(bytes.size()));
          },
          py::arg("tensor"))
      .def(
          "commit",
          [](TensorSet& set, const SessionObject* session) {
            set.commit(session == nullptr ? nullptr : session->shared());
          },
          py::arg("session").none(true))
      .def(
          "watch",
          [](TensorSet& set, const std::vector<WatchEntry>& tensors,
             const std::vector<WatchEntry>& children, const std::vector<py::dict>& tables) {
            set.watch({watches_of(tensors), watches_of(children), tables});
          },
          py::arg("tensors"), py::arg("children"), py::arg("tables"))
      .def("intact", &TensorSet::intact)
      .def("escaped", &TensorSet::escaped)
      .def("restructured", [](const TensorSet& set) { return set.watches().restructured(); })
      .def("holds", &TensorSet::holds, py::arg("tensor"))
      .def("open", &TensorSet::open)
      .def("close", &TensorSet::close, py::arg("message"))
      .def("close_beyond", &TensorSet::close_beyond, py::arg("landed_chunks"), py::arg("message"))
      .def("open_up_to", &TensorSet::open_up_to, py::arg("landed_chunks"))
      .def("beyond", &TensorSet::beyond, py::arg("landed_chunks"))
      .def("note_versions", &TensorSet::note_versions)
      .def("changed", &TensorSet::changed)
      .def("save_changed", &TensorSet::save_changed, py::arg("uncounted"))
      .def("copy_mutable", &TensorSet::copy_mutable)
      .def("assign_mutable", &TensorSet::assign_mutable, py::arg("bytes"))
      .def("release", &TensorSet::release);
}

}  // namespace rtswap::python
