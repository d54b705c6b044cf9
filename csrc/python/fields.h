// Dicts from Python as structs, with misspelt names found.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>

#include "csrc/python/errors.h"

namespace rtswap::python {

// Fields of a dict by name; what is left over was misspelt.
class Fields {
 public:
  explicit Fields(const pybind11::dict& values) : left_(values.attr("copy")()) {}

  template <class T>
  Fields& take(const char* name, T& field) {
    if (left_.contains(name)) field = left_.attr("pop")(name).template cast<T>();
    return *this;
  }

  // `what` for the message: "simulate(): a task".
  void expect_none_left(const std::string& what) const {
    if (left_.empty()) return;
    raise({ErrorCode::invalid_argument,
           what + " has no field " + pybind11::repr(pybind11::list(left_)).cast<std::string>() +
               "."});
  }

 private:
  pybind11::dict left_;
};

}  // namespace rtswap::python
