// The core's plain values as Python dicts, field for field; rtswap/report.py gives them types.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "csrc/client/session.h"

namespace rtswap::python {

// Needs of the layers of a task: chunks of the arena, and execution in ns.
using Layers = std::vector<std::pair<uint32_t, int64_t>>;

client::Timing timing_of(int64_t period_ns, int64_t deadline_ns, int64_t wcet_ns,
                         const Layers& layers);

pybind11::list to_python(const std::vector<protocol::DeviceDescription>& devices);
pybind11::dict to_python(const engine::ArenaStats& stats);
pybind11::dict to_python(const protocol::Snapshot& snapshot);
pybind11::dict to_python(const protocol::Verdict& verdict);

}  // namespace rtswap::python
