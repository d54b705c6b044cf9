// Planning and admission as Python sees them.
#pragma once

#include <pybind11/pybind11.h>

namespace rtswap::python {

// Adds plan(config, tasks), default_chunk_bytes(budget_bytes), cuda_chunk_cost_ns and
// daemon_round_trip_ns to the extension.
void bind_planning(pybind11::module_& module);

}  // namespace rtswap::python
