// The behaviour suite on a real GPU, and what only a GPU can show. Without one, every case says
// that it was skipped.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "csrc/base/units.h"
#include "csrc/driver/cuda.h"
#include "csrc/driver/nvml.h"
#include "tests/unit/driver/driver_behaviour.h"

namespace rtswap::driver {
namespace {

using namespace rtswap::literals;
using test::Device;
using test::fails_with;
using test::HostBuffer;
using test::ok;
using test::value_of;

bool gpu_is_here() {
  const auto devices = list_cuda_devices();
  if (!devices) WARN("skipped, no GPU: " << devices.error().message);
  return devices.has_value();
}

std::unique_ptr<Driver> make(bool with_context) {
  return value_of(make_cuda_driver("", with_context));
}

TEST_CASE("CUDA behaves like a driver") {
  if (!gpu_is_here()) return;
  test::behaves_like_a_driver([] { return make(true); });
}

TEST_CASE("CUDA describes its GPUs") {
  if (!gpu_is_here()) return;
  for (const DeviceInfo& info : value_of(list_cuda_devices())) {
    INFO(info.uuid << " " << info.name);
    CHECK(info.uuid.size() == 40);
    CHECK(info.total_bytes > 1_GiB);
    CHECK(info.granularity_bytes == 2_MiB);
    CHECK_FALSE(info.simulated);
    const auto driver = value_of(make_cuda_driver(info.uuid, false));
    CHECK(driver->info().uuid == info.uuid);
  }
  fails_with(ErrorCode::unknown_device, make_cuda_driver("GPU-none", false));
}

TEST_CASE("NVML sees the memory of the GPU without a context") {
  if (!gpu_is_here()) return;
  const auto driver = make(false);
  const auto before = value_of(driver->memory_info());
  CHECK(before.total_bytes >= driver->info().total_bytes);
  CHECK(before.free_bytes <= before.total_bytes);
  const ChunkHandle chunk = value_of(driver->create_chunk(1_GiB));
  const auto during = value_of(driver->memory_info());
  CHECK(during.free_bytes + 1_GiB <= before.free_bytes + 64_MiB);
  const auto holders = value_of(nvml_memory_holders(driver->info().uuid));
  CHECK(std::is_sorted(holders.begin(), holders.end(),
                       [](const auto& a, const auto& b) { return a.bytes > b.bytes; }));
  ok(driver->release_chunk(chunk));
  fails_with(ErrorCode::unknown_device, nvml_memory_info("GPU-none"));
}

TEST_CASE("a chunk made without a context is used by a driver with one") {
  if (!gpu_is_here()) return;
  const auto bank = make(false);
  const ChunkHandle made = value_of(bank->create_chunk(32_MiB));
  const UniqueFd fd = value_of(bank->export_chunk(made));
  Device device([] { return make(true); });
  const ChunkHandle chunk = value_of(device.driver->import_chunk(fd.get(), 32_MiB));
  ok(bank->release_chunk(made));  // the importer's handle keeps the memory
  const Address address = value_of(device.driver->reserve(32_MiB, "arena"));
  ok(device.driver->map(address, std::span(&chunk, 1), 32_MiB, Access::read_write));
  {
    HostBuffer image(*device.driver, 32_MiB, 1);
    HostBuffer back(*device.driver, 32_MiB, 2);
    device.write(address, image.at(0), 32_MiB);
    ok(device.driver->unmap(address, 32_MiB));
    ok(device.driver->map(address, std::span(&chunk, 1), 32_MiB, Access::read_only));
    device.read(back.at(0), address, 32_MiB);
    CHECK((back == image));
  }
  ok(device.driver->unmap(address, 32_MiB));
  ok(device.driver->unreserve(address, 32_MiB));
  ok(device.driver->release_chunk(chunk));
}

TEST_CASE("CUDA in a forked child is refused with the way out") {
  if (!gpu_is_here()) return;
  const auto driver = make(true);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const auto made = make_cuda_driver("", true);
    const bool refused = !made && made.error().code == ErrorCode::unsupported &&
                         made.error().message.find("spawn") != std::string::npos;
    _exit(refused ? 0 : 1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

}  // namespace
}  // namespace rtswap::driver
