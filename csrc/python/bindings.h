// What each part adds to the extension.
#pragma once

#include <pybind11/pybind11.h>

namespace rtswap::python {

void bind_session(pybind11::module_& module);        // Session, Segment, and what they return
void bind_tasks(pybind11::module_& module);          // Task, Job, QueuedWork
void bind_tensors(pybind11::module_& module);        // TensorSet
void bind_model_tensors(pybind11::module_& module);  // ModelTensors
void bind_prefix_gate(pybind11::module_& module);    // PrefixGate
void bind_region(pybind11::module_& module);         // Region
// simulate(config, tasks): the arbiter in virtual time.
void bind_simulation(pybind11::module_& module);
// plan(config, tasks), default_chunk_bytes(budget_bytes), cuda_chunk_cost_ns, daemon_round_trip_ns.
void bind_planning(pybind11::module_& module);
// Observer: a daemon's statistics without a session, a device or a bank.
void bind_observer(pybind11::module_& module);
// DeviceMeter: measures a device.
void bind_device_meter(pybind11::module_& module);

}  // namespace rtswap::python
