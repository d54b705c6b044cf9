// A daemon seen from outside: its statistics without a session, a device or a bank.
#pragma once

#include <pybind11/pybind11.h>

namespace rtswap::python {

void bind_observer(pybind11::module_& module);

}  // namespace rtswap::python
