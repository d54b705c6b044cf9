// The core's plain values as Python dicts, field for field; rtswap/report.py gives them types.
#pragma once

#include <pybind11/pybind11.h>

#include <vector>

#include "csrc/client/session.h"

namespace rtswap::python {

pybind11::list to_python(const std::vector<protocol::DeviceDescription>& devices);
pybind11::dict to_python(const engine::ArenaStats& stats);
pybind11::dict to_python(const protocol::Snapshot& snapshot);
pybind11::dict to_python(const protocol::Verdict& verdict);
pybind11::dict to_python(const client::JobInfo& info);

}  // namespace rtswap::python
