// What the NVIDIA management library knows about the memory of a GPU: no CUDA context needed, and
// all processes are seen. The library is opened with the first call.
//
// Threads: any. Errors: `unsupported` when there is no such library or function, `unknown_device`
// for a UUID that it does not know, `driver_failure` otherwise.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "csrc/base/result.h"
#include "csrc/driver/driver.h"

namespace rtswap::driver {

// A process that holds memory of the GPU.
struct MemoryHolder {
  pid_t pid = 0;       // in the machine's first PID namespace, which in a container is not ours
  uint64_t bytes = 0;  // 0 when the library does not say (it does not in some containers)
  std::string name;    // of the program; empty when this process cannot see it
};

Result<MemoryInfo> nvml_memory_info(const std::string& uuid);
// Most memory first.
Result<std::vector<MemoryHolder>> nvml_memory_holders(const std::string& uuid);
// For messages: "; its memory is held by camera (pid 812, 1024 MiB), a process (pid 815)". Empty
// when nobody is known.
std::string nvml_holders_text(const std::string& uuid);

}  // namespace rtswap::driver
