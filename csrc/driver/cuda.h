// The device contract on a real GPU, by the CUDA driver API.
//
// Without a context (the daemon) only physical memory works: create, export, import and release of
// chunks, which then cost no device memory of their own, and memory_info(), which asks NVML. With a
// context the driver holds the device's primary context, the one that torch uses.
//
// Unlike the simulated device it does not keep books: what CUDA accepts is accepted. A copy from
// host memory that was not registered is slow instead of refused, and an access to memory that is
// not mapped ends the context: from then on every call returns `device_lost`.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "csrc/base/result.h"
#include "csrc/driver/cuda_api.h"
#include "csrc/driver/driver.h"

namespace rtswap::driver {

// The GPUs that CUDA shows to this process (CUDA_VISIBLE_DEVICES applies), in its order; makes no
// context. `unsupported` without a driver or a GPU. A GPU whose granularity is 0 has no virtual
// memory management.
Result<std::vector<DeviceInfo>> list_cuda_devices();

// The GPU with this UUID, or the first one when it is empty. `unknown_device` when there is no such
// GPU; `unsupported` when there is no driver, or rtswap cannot work with the GPU (integrated, no
// virtual memory management, no file descriptors for memory, or MPS is running).
Result<std::unique_ptr<Driver>> make_cuda_driver(const std::string& uuid, bool with_context);

// The same over a table of functions, which must outlive the driver. For tests.
Result<std::vector<DeviceInfo>> list_cuda_devices(const cuda::Api& api);
Result<std::unique_ptr<Driver>> make_cuda_driver(const cuda::Api& api, const std::string& uuid,
                                                 bool with_context);

}  // namespace rtswap::driver
