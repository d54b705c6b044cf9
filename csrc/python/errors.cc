#include "csrc/python/errors.h"

namespace py = pybind11;

namespace rtswap::python {

void raise(const Error& error) {
  const py::object exception =
      py::module_::import("rtswap.errors").attr("from_code")(to_string(error.code), error.message);
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception.ptr())), exception.ptr());
  throw py::error_already_set();
}

}  // namespace rtswap::python
