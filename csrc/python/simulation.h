// The virtual-time replay as Python sees it.
#pragma once

#include <pybind11/pybind11.h>

namespace rtswap::python {

// Adds simulate(config, tasks) to the extension.
void bind_simulation(pybind11::module_& module);

}  // namespace rtswap::python
