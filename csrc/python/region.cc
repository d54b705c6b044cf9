#include <pybind11/pybind11.h>

#include <memory>

#include "csrc/python/bindings.h"
#include "csrc/python/errors.h"
#include "csrc/torch/region_allocator.h"

namespace py = pybind11;

namespace rtswap::python {

void bind_region(py::module_& module) {
  using torch_memory::Region;
  py::class_<Region, std::shared_ptr<Region>>(module, "Region")
      .def(py::init(&Region::create), py::arg("address"), py::arg("bytes"))
      .def("enter", [](Region& region) { take(region.enter()); })
      .def("leave", &Region::leave)
      .def("settle", &Region::settle)
      .def("retire", &Region::retire)
      .def_property_readonly("bytes", &Region::bytes)
      .def_property_readonly("held_bytes", &Region::held_bytes)
      .def_property_readonly("peak_bytes", &Region::peak_bytes);
}

}  // namespace rtswap::python
