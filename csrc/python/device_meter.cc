#include "csrc/client/device_meter.h"

#include <unistd.h>

#include <memory>
#include <string>

#include "csrc/driver/cuda.h"
#include "csrc/driver/simulated.h"
#include "csrc/python/bindings.h"
#include "csrc/python/errors.h"

namespace py = pybind11;
using py::literals::operator""_a;

namespace rtswap::python {
namespace {

using client::DeviceMeter;

// Room for the two chunks that are copied at once.
constexpr uint64_t kSimulated_bytes = 2 * client::kProbe_bytes;

// A GPU, or a simulated device of its own with such a link: how much memory others use of a
// simulated device does not change its speed.
Result<std::unique_ptr<driver::Driver>> open_device(const std::string& cuda_uuid,
                                                    uint64_t simulated_bytes_per_s) {
  if (!cuda_uuid.empty()) return driver::make_cuda_driver(cuda_uuid, true);
  return driver::make_simulated_driver(
      {.name = "meter-" + std::to_string(getpid()), .total_bytes = kSimulated_bytes},
      driver::make_wall_clock_link(simulated_bytes_per_s));
}

std::unique_ptr<DeviceMeter> make_meter(const std::string& cuda_uuid,
                                        uint64_t simulated_bytes_per_s) {
  return std::make_unique<DeviceMeter>(
      take_unlocked([&] { return open_device(cuda_uuid, simulated_bytes_per_s); }));
}

py::dict measure(DeviceMeter& meter, uint64_t chunk_bytes) {
  const client::DeviceFigures figures = take_unlocked([&] { return meter.measure(chunk_bytes); });
  return py::dict("restore_bytes_per_s"_a = figures.alone.restore_bytes_per_s,
                  "evict_bytes_per_s"_a = figures.alone.evict_bytes_per_s,
                  "restore_both_ways_bytes_per_s"_a = figures.both_ways.restore_bytes_per_s,
                  "evict_both_ways_bytes_per_s"_a = figures.both_ways.evict_bytes_per_s,
                  "map_ns"_a = figures.chunk.map_ns, "unmap_ns"_a = figures.chunk.unmap_ns);
}

}  // namespace

void bind_device_meter(py::module_& module) {
  py::class_<DeviceMeter>(module, "DeviceMeter")
      .def(py::init(&make_meter), py::kw_only(), py::arg("cuda_uuid"),
           py::arg("simulated_bytes_per_s"))
      .def("measure", &measure, py::arg("chunk_bytes"))
      .def("start_copies",
           [](DeviceMeter& meter) { take_unlocked([&] { return meter.start_copies(); }); })
      .def("stop_copies",
           [](DeviceMeter& meter) { take_unlocked([&] { return meter.stop_copies(); }); });
}

}  // namespace rtswap::python
