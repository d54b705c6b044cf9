#include "csrc/python/errors.h"

#include <exception>

#include "csrc/base/check.h"

namespace py = pybind11;

namespace rtswap::python {

namespace {

void set_python_error(const Error& error) {
  const py::object exception =
      py::module_::import("rtswap.errors").attr("from_code")(to_string(error.code), error.message);
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception.ptr())), exception.ptr());
}

}  // namespace

void raise(const Error& error) {
  set_python_error(error);
  throw py::error_already_set();
}

void translate_bugs() {
  py::register_local_exception_translator([](std::exception_ptr thrown) {
    try {
      std::rethrow_exception(std::move(thrown));
    } catch (const InvariantViolation& violation) {
      set_python_error({ErrorCode::internal, violation.what()});
    }
  });
}

}  // namespace rtswap::python
