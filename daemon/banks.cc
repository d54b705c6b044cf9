#include "daemon/banks.h"

#include <algorithm>

#include "csrc/base/check.h"
#include "csrc/base/clock.h"
#include "csrc/driver/cuda.h"
#include "csrc/driver/nvml.h"
#include "csrc/driver/simulated.h"
#include "csrc/policy/task_model.h"
#include "daemon/log.h"

namespace rtswap::daemon {
namespace {

constexpr double kDefaultShare_percent = 80;
constexpr int64_t kProgressEvery_ns = 1'000'000'000;

// `--simulate SIZE` alone is a bank of SIZE on a device twice as large, so that clients have room
// beside it; with --budget it is the device.
Result<PlannedDevice> open_simulated(const Config& config, size_t index) {
  const uint64_t size_bytes = config.simulated_bytes[index];
  PlannedDevice device;
  auto link = driver::make_wall_clock_link(config.link_bytes_per_s);
  device.link_bytes_per_s = link->bytes_per_s();
  const driver::SimulatedOptions options{
      .name = std::to_string(index), .total_bytes = config.budget ? size_bytes : 2 * size_bytes};
  RTSWAP_ASSIGN(device.driver, driver::make_simulated_driver(options, std::move(link)));
  RTSWAP_ASSIGN(device.memory, device.driver->memory_info());
  return device;
}

uint64_t wanted_bytes(const Config& config, const PlannedDevice& device) {
  const bool simulated = device.driver->info().simulated;
  if (!config.budget && simulated) return device.memory.total_bytes / 2;
  const Budget budget = config.budget.value_or(Budget{0, kDefaultShare_percent});
  if (budget.bytes > 0) return budget.bytes;
  return static_cast<uint64_t>(static_cast<double>(device.memory.free_bytes) * budget.percent /
                               100);
}

}  // namespace

Result<std::vector<PlannedDevice>> open_devices(const Config& config) {
  std::vector<PlannedDevice> devices;
  for (size_t i = 0; i < config.simulated_bytes.size(); ++i) {
    RTSWAP_ASSIGN(PlannedDevice device, open_simulated(config, i));
    devices.push_back(std::move(device));
  }
  if (!devices.empty()) return devices;

  std::vector<std::string> uuids = config.devices;
  if (uuids.empty()) {
    auto found = driver::list_cuda_devices();
    if (!found) {
      return fail(found.error().code,
                  found.error().message + ". To try rtswap without a GPU: rtswapd --simulate 1GiB");
    }
    for (const driver::DeviceInfo& info : *found) uuids.push_back(info.uuid);
  }
  for (const std::string& uuid : uuids) {
    PlannedDevice device;
    RTSWAP_ASSIGN(device.driver, driver::make_cuda_driver(uuid, /*with_context=*/false));
    RTSWAP_ASSIGN(device.memory, device.driver->memory_info());
    const auto same = [&](const PlannedDevice& other) {
      return other.driver->info().uuid == device.driver->info().uuid;
    };
    if (std::any_of(devices.begin(), devices.end(), same)) {
      return fail(ErrorCode::invalid_argument, "--device " + uuid + " is given twice");
    }
    devices.push_back(std::move(device));
  }
  return devices;
}

Status lock_device(PlannedDevice& device) {
  const driver::DeviceInfo& info = device.driver->info();
  if (info.simulated) return {};
  RTSWAP_ASSIGN(bank::DeviceLock lock, bank::DeviceLock::take(info.uuid));
  device.lock.emplace(std::move(lock));
  return {};
}

Status size_bank(const Config& config, PlannedDevice& device) {
  const driver::DeviceInfo& info = device.driver->info();
  const uint64_t wanted = wanted_bytes(config, device);
  device.chunk_bytes = config.chunk_bytes > 0
                           ? config.chunk_bytes
                           : std::max(bank::default_chunk_bytes(wanted), info.granularity_bytes);
  if (device.chunk_bytes % info.granularity_bytes != 0) {
    return fail(
        ErrorCode::invalid_argument,
        "--chunk must be a multiple of " + size_text(info.granularity_bytes) + " on " + info.uuid);
  }
  const uint64_t chunks = wanted / device.chunk_bytes;
  if (chunks == 0 || chunks > UINT32_MAX) {
    return fail(ErrorCode::invalid_argument, "a bank of " + size_text(wanted) + " on " + info.uuid +
                                                 " cannot be made of chunks of " +
                                                 size_text(device.chunk_bytes));
  }
  device.chunk_count = static_cast<uint32_t>(chunks);
  device.budget_bytes = chunks * device.chunk_bytes;
  if (device.budget_bytes > device.memory.free_bytes) {
    return fail(ErrorCode::out_of_memory, "a bank of " + size_text(device.budget_bytes) +
                                              " does not fit " + info.uuid + " (" + info.name +
                                              "): " + size_text(device.memory.free_bytes) + " of " +
                                              size_text(device.memory.total_bytes) + " are free" +
                                              driver::nvml_holders_text(info.uuid) +
                                              ". Give a smaller --budget, or end those processes");
  }
  device.static_limit_bytes = device.memory.free_bytes - device.budget_bytes;
  return {};
}

Banks::Banks(std::vector<PlannedDevice> devices)
    : devices_(std::move(devices)), banks_(devices_.size()) {}

size_t Banks::find(const std::string& uuid) const {
  size_t index = 0;
  while (index < devices_.size() && devices_[index].driver->info().uuid != uuid) ++index;
  return index;
}

Status Banks::create(size_t index) {
  const PlannedDevice& device = devices_[index];
  int64_t next_line_ns = monotonic_now_ns() + kProgressEvery_ns;
  const auto progress = [&](uint32_t done, uint32_t total) {
    if (monotonic_now_ns() < next_line_ns) return;
    next_line_ns = monotonic_now_ns() + kProgressEvery_ns;
    spdlog::info("{}: {} of {} chunks made", device.driver->info().uuid, done, total);
  };
  RTSWAP_ASSIGN(auto bank, bank::Bank::create(*device.driver, device.chunk_bytes,
                                              device.chunk_count, progress));
  put(index, std::move(bank));
  return {};
}

Status Banks::adopt(size_t index, const std::string& bank_id, std::vector<UniqueFd> descriptors) {
  const PlannedDevice& device = devices_[index];
  RTSWAP_ASSIGN(auto bank, bank::Bank::import(*device.driver, bank_id, device.chunk_bytes,
                                              std::move(descriptors)));
  put(index, std::move(bank));
  return {};
}

void Banks::put(size_t index, std::unique_ptr<bank::Bank> bank) {
  const std::lock_guard lock(mutex_);
  // Two clients may offer the same chunks at once; the first copy serves as well as the second.
  if (!banks_[index]) banks_[index] = std::move(bank);
}

bool Banks::has_bank(size_t index) const {
  const std::lock_guard lock(mutex_);
  return banks_[index] != nullptr;
}

std::string Banks::bank_id(size_t index) const {
  const std::lock_guard lock(mutex_);
  return banks_[index] ? banks_[index]->id() : "";
}

Result<std::vector<int>> Banks::descriptors(size_t index) const {
  const std::lock_guard lock(mutex_);
  if (!banks_[index]) {
    return fail(ErrorCode::daemon_unavailable,
                "rtswapd has not got its chunks back yet; try again in a moment");
  }
  return banks_[index]->descriptors();
}

std::vector<arbiter::DeviceConfig> Banks::describe() const {
  const std::lock_guard lock(mutex_);
  std::vector<arbiter::DeviceConfig> configs;
  for (size_t i = 0; i < devices_.size(); ++i) {
    const PlannedDevice& device = devices_[i];
    const driver::DeviceInfo& info = device.driver->info();
    RTSWAP_CHECK(banks_[i] != nullptr, info.uuid + " has no bank");
    arbiter::DeviceConfig config;
    config.description.uuid = info.uuid;
    config.description.name = info.name;
    config.description.simulated = info.simulated;
    config.description.total_bytes = info.total_bytes;
    config.description.bank_id = banks_[i]->id();
    config.description.chunk_bytes = device.chunk_bytes;
    config.description.chunk_count = device.chunk_count;
    config.description.simulated_bytes_per_s = device.link_bytes_per_s;
    config.chunk_cost_ns = info.simulated ? driver::simulated_chunk_cost_ns(device.chunk_bytes)
                                          : policy::kCudaChunkCost_ns;
    config.assumed_restore_bytes_per_s = device.link_bytes_per_s;  // a GPU's is measured by clients
    config.static_limit_bytes = device.static_limit_bytes;
    configs.push_back(std::move(config));
  }
  return configs;
}

}  // namespace rtswap::daemon
