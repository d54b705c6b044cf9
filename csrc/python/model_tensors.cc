#include "csrc/python/model_tensors.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <utility>

#include "csrc/python/bindings.h"

namespace py = pybind11;

namespace rtswap::python {

void ModelTensors::set_message(std::string message) {
  message_ = std::move(message);
  message_is_new_ = true;
  if (!held()) close_all();
}

void ModelTensors::add(std::shared_ptr<TensorSet> set) {
  if (held()) {
    set->note_versions();
    message_is_new_ = true;
  } else {
    set->close(message_);
  }
  sets_.push_back(std::move(set));
}

bool ModelTensors::intact() {
  return !retired_ &&
         std::all_of(sets_.begin(), sets_.end(), [](const auto& set) { return set->intact(); });
}

bool ModelTensors::open(py::object holder, std::optional<uint32_t> landed_chunks) {
  if (retired_) return false;
  const bool first = holders_.empty();
  holders_.push_back(std::move(holder));
  if (all_open_) return true;
  all_open_ = !landed_chunks;
  for (const auto& set : sets_) {
    if (!first) {  // what the other one wrote is not saved yet: versions stay
      set->open();
    } else if (!landed_chunks) {
      set->open_noting_versions();
    } else {
      set->close_beyond(*landed_chunks, message_);
      set->note_versions();
    }
  }
  return true;
}

bool ModelTensors::close(const py::object& holder, bool unless_written) {
  const auto place = std::find_if(holders_.begin(), holders_.end(),
                                  [&](const py::object& other) { return other.is(holder); });
  if (place == holders_.end()) return true;
  if (holders_.size() == 1 && close_all() && unless_written) return false;
  holders_.erase(place);
  return true;
}

bool ModelTensors::close_all() {
  bool written = false;
  for (const auto& set : sets_) {
    if (message_is_new_) set->close(message_);
    written |= set->close_again();
  }
  message_is_new_ = false;
  all_open_ = false;
  return written;
}

void ModelTensors::close_beyond(uint32_t landed_chunks) {
  for (const auto& set : sets_) set->close_beyond(landed_chunks, message_);
}

void ModelTensors::open_up_to(uint32_t landed_chunks) {
  for (const auto& set : sets_) set->open_up_to(landed_chunks);
}

void ModelTensors::retire() {
  retired_ = true;
  sets_.clear();
}

void bind_model_tensors(py::module_& module) {
  py::class_<ModelTensors>(module, "ModelTensors")
      .def(py::init<std::string>(), py::arg("message"))
      .def("set_message", &ModelTensors::set_message, py::arg("message"))
      .def("add", &ModelTensors::add, py::arg("set"))
      .def("intact", &ModelTensors::intact)
      .def("open", &ModelTensors::open, py::arg("holder"), py::arg("landed_chunks") = py::none())
      .def("close", &ModelTensors::close, py::arg("holder"), py::arg("unless_written"))
      .def_property_readonly("held", &ModelTensors::held)
      .def("close_beyond", &ModelTensors::close_beyond, py::arg("landed_chunks"))
      .def("open_up_to", &ModelTensors::open_up_to, py::arg("landed_chunks"))
      .def("retire", &ModelTensors::retire)
      .def_property_readonly("retired", &ModelTensors::retired);
}

}  // namespace rtswap::python
