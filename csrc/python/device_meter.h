// Measuring a device, as Python sees it.
#pragma once

#include <pybind11/pybind11.h>

namespace rtswap::python {

// Adds DeviceMeter to the extension.
void bind_device_meter(pybind11::module_& module);

}  // namespace rtswap::python
