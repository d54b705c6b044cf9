#include "csrc/driver/nvml.h"

#include <dlfcn.h>

#include "tests/unit/driver/driver_behaviour.h"

namespace rtswap::driver {
namespace {

TEST_CASE("without NVIDIA's management library its absence is named") {
  if (void* library = dlopen("libnvidia-ml.so.1", RTLD_LAZY); library != nullptr) {
    WARN("skipped: this machine has libnvidia-ml.so.1");
    dlclose(library);
    return;
  }
  const auto memory = nvml_memory_info("GPU-x");
  test::fails_with(ErrorCode::unsupported, memory);
  CHECK_THAT(memory.error().message, test::contains("libnvidia-ml.so.1"));
  test::fails_with(ErrorCode::unsupported, nvml_memory_holders("GPU-x"));
}

}  // namespace
}  // namespace rtswap::driver
