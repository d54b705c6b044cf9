// Which GPUs there are and whether rtswap can work with them. Needs no context.
#pragma once

#include <vector>

#include "csrc/base/result.h"
#include "csrc/driver/cuda_api.h"
#include "csrc/driver/driver.h"

namespace rtswap::driver::cuda {

struct FoundDevice {
  Device device = 0;
  DeviceInfo info;
};

// Every GPU that CUDA shows, in its order. Initializes CUDA in this process.
Result<std::vector<FoundDevice>> find_devices(const Api& api);

// Fails with `unsupported` and the reason when rtswap cannot work with the GPU.
Status check_usable(const Api& api, const FoundDevice& found);

// Memory of the device that can be exported as a file descriptor.
AllocationProperties exportable_memory_of(Device device);

}  // namespace rtswap::driver::cuda
