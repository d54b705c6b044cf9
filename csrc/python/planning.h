// Planning and admission as Python sees them.
#pragma once

#include <pybind11/pybind11.h>

namespace rtswap::python {

// Adds plan(config, tasks), default_chunk_bytes(budget_bytes) and cuda_chunk_cost_ns to the
// extension.
void bind_planning(pybind11::module_& module);

}  // namespace rtswap::python
