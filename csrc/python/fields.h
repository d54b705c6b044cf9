// Dicts from Python as structs, with misspelt names found.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <utility>

#include "csrc/python/errors.h"

namespace rtswap::python {

// Fields of a dict by name; what is left over was misspelt.
class Fields {
 public:
  // `what` the dict describes, for messages: "simulate(): a task".
  Fields(const pybind11::dict& values, std::string what)
      : left_(values.attr("copy")()), what_(std::move(what)) {}

  template <class T>
  Fields& take(const char* name, T& field) {
    if (!left_.contains(name)) return *this;
    const pybind11::object value = left_.attr("pop")(name);
    try {
      field = value.cast<T>();
    } catch (const pybind11::cast_error&) {  // another type, or beyond what the field holds
      raise(
          {ErrorCode::invalid_argument, what_ + ": " + name + " cannot be " + shown(value) + "."});
    }
    return *this;
  }

  void expect_none_left() const {
    if (left_.empty()) return;
    raise({ErrorCode::invalid_argument,
           what_ + " has no field " + shown(pybind11::list(left_)) + "."});
  }

 private:
  static std::string shown(const pybind11::object& value) {
    return pybind11::repr(value).cast<std::string>();
  }

  pybind11::dict left_;
  const std::string what_;
};

}  // namespace rtswap::python
