// rtswap._core: the core and LibTorch, seen from Python. The package rtswap gives it its shape;
// nothing here is meant to be called by users.
#include <dlfcn.h>
#include <pybind11/pybind11.h>

#include "csrc/base/clock.h"
#include "csrc/python/bindings.h"
#include "csrc/python/errors.h"
#include "csrc/torch/region_allocator.h"

namespace py = pybind11;

// rtswap/_build.py looks for this text in the file before it loads it: a mismatch of torch's ABI
// must end in an ImportError, not in a crash. Not const-folded away: __doc__ below points into it.
static const char kBuiltFor[] = "rtswap-built-for-torch=" RTSWAP_TORCH_VERSION ";";

PYBIND11_MODULE(_core, module) {
  module.doc() = kBuiltFor;
  module.attr("version") = RTSWAP_VERSION;
  module.attr("torch_version") = RTSWAP_TORCH_VERSION;
  rtswap::python::translate_bugs();
  rtswap::python::bind_session(module);
  rtswap::python::bind_tasks(module);
  rtswap::python::bind_tensors(module);
  rtswap::python::bind_model_tensors(module);
  rtswap::python::bind_prefix_gate(module);
  rtswap::python::bind_region(module);
  rtswap::python::bind_simulation(module);
  rtswap::python::bind_planning(module);
  rtswap::python::bind_observer(module);
  rtswap::python::bind_device_meter(module);
  module.def("monotonic_now_ns", &rtswap::monotonic_now_ns);
  module.def("realtime_now_ns", &rtswap::realtime_now_ns);
  // torch opens this file again by path for its allocator hooks; a copy of it elsewhere would be a
  // second registry of regions.
  module.def("library_path", [] {
    Dl_info info{};
    if (dladdr(reinterpret_cast<void*>(&rtswap_region_alloc), &info) == 0) {
      rtswap::python::raise({rtswap::ErrorCode::internal, "dladdr does not know this library."});
    }
    return std::string(info.dli_fname);
  });
}
