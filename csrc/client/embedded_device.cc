#include "csrc/client/embedded_device.h"

#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

#include "csrc/driver/cuda.h"
#include "csrc/driver/nvml.h"
#include "csrc/driver/simulated.h"
#include "csrc/policy/task_model.h"

namespace rtswap::client {
namespace {

constexpr uint64_t kDefaultShare_percent = 80;

std::string mib(uint64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

// What this process holds of the device already; 0 where NVML does not say.
uint64_t own_bytes(const std::string& uuid) {
  const auto holders = driver::nvml_memory_holders(uuid);
  if (!holders) return 0;
  for (const driver::MemoryHolder& holder : *holders) {
    if (holder.pid == getpid()) return holder.bytes;
  }
  return 0;
}

Result<std::string> only_cuda_device() {
  auto devices = driver::list_cuda_devices();
  if (!devices) {
    return fail(
        devices.error().code,
        devices.error().message + "; to try rtswap without a GPU, ask for a simulated device");
  }
  if (devices->size() == 1) return devices->front().uuid;
  std::string names;
  for (const driver::DeviceInfo& device : *devices) {
    names += (names.empty() ? "" : ", ") + device.uuid + " (" + device.name + ")";
  }
  return fail(ErrorCode::invalid_argument,
              "an arbiter inside a process manages one GPU and there are several: name one of " +
                  names + ", or use rtswapd, which manages them all");
}

// Makes the bank and describes device and bank to the arbiter.
Status fill_bank(EmbeddedDevice& device, uint64_t budget_bytes, uint64_t chunk_bytes,
                 const bank::Bank::Progress& progress) {
  const driver::DeviceInfo& info = device.driver->info();
  const uint64_t size_bytes =
      chunk_bytes > 0 ? chunk_bytes
                      : std::max(bank::default_chunk_bytes(budget_bytes), info.granularity_bytes);
  const uint64_t chunks = budget_bytes / size_bytes;
  if (chunks == 0 || chunks > UINT32_MAX) {
    return fail(ErrorCode::invalid_argument, "a budget of " + std::to_string(budget_bytes) +
                                                 " bytes cannot be made of chunks of " +
                                                 std::to_string(size_bytes) + " bytes");
  }
  RTSWAP_ASSIGN(device.bank, bank::Bank::create(*device.driver, size_bytes,
                                                static_cast<uint32_t>(chunks), progress));
  protocol::DeviceDescription& description = device.config.description;
  description.uuid = info.uuid;
  description.name = info.name;
  description.simulated = info.simulated;
  description.total_bytes = info.total_bytes;
  description.bank_id = device.bank->id();
  description.chunk_bytes = size_bytes;
  description.chunk_count = static_cast<uint32_t>(chunks);
  return {};
}

// The device is twice its bank, so that there is memory beside it, as on a GPU.
Result<EmbeddedDevice> make_simulated(const EmbeddedOptions& options,
                                      const bank::Bank::Progress& progress) {
  EmbeddedDevice device;
  auto link = driver::make_wall_clock_link(options.simulated_bytes_per_s);
  const uint64_t link_bytes_per_s = link->bytes_per_s();
  RTSWAP_ASSIGN(device.driver,
                driver::make_simulated_driver({.name = "embedded-" + std::to_string(getpid()),
                                               .total_bytes = 2 * options.simulated_bytes,
                                               .poison_on_map = false},
                                              std::move(link)));
  RTSWAP_TRY(fill_bank(device, options.simulated_bytes, options.chunk_bytes, progress));
  device.config.description.simulated_bytes_per_s = link_bytes_per_s;
  device.config.assumed_restore_bytes_per_s = link_bytes_per_s;
  device.config.chunk_cost_ns = driver::simulated_chunk_cost_ns(device.bank->chunk_bytes());
  device.config.static_limit_bytes = options.simulated_bytes;
  return device;
}

Result<EmbeddedDevice> make_cuda(const EmbeddedOptions& options,
                                 const bank::Bank::Progress& progress) {
  std::string uuid = options.device_uuid;
  if (uuid.empty()) {
    RTSWAP_ASSIGN(uuid, only_cuda_device());
  }
  EmbeddedDevice device;
  RTSWAP_ASSIGN(device.driver, driver::make_cuda_driver(uuid, true));
  uuid = device.driver->info().uuid;  // as it is written, for the lock and for messages
  RTSWAP_ASSIGN(bank::DeviceLock lock, bank::DeviceLock::take(uuid));
  device.lock.emplace(std::move(lock));
  RTSWAP_ASSIGN(const driver::MemoryInfo memory, device.driver->memory_info());
  const uint64_t budget_bytes = options.budget_bytes > 0
                                    ? options.budget_bytes
                                    : memory.free_bytes / 100 * kDefaultShare_percent;
  if (budget_bytes > memory.free_bytes) {
    return fail(ErrorCode::out_of_memory, "a budget of " + mib(budget_bytes) + " does not fit " +
                                              uuid + ": " + mib(memory.free_bytes) + " of " +
                                              mib(memory.total_bytes) + " are free" +
                                              driver::nvml_holders_text(uuid));
  }
  const uint64_t held_before_bytes = own_bytes(uuid);
  RTSWAP_TRY(fill_bank(device, budget_bytes, options.chunk_bytes, progress));
  device.config.chunk_cost_ns = policy::kCudaChunkCost_ns;
  device.config.static_limit_bytes = memory.free_bytes - budget_bytes + held_before_bytes;
  return device;
}

}  // namespace

Result<EmbeddedDevice> make_embedded_device(const EmbeddedOptions& options,
                                            const bank::Bank::Progress& progress) {
  return options.simulated_bytes > 0 ? make_simulated(options, progress)
                                     : make_cuda(options, progress);
}

}  // namespace rtswap::client
