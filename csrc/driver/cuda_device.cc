#include "csrc/driver/cuda_device.h"

#include <array>
#include <cstdio>

#include "csrc/driver/mps.h"

namespace rtswap::driver::cuda {
namespace {

tl::unexpected<Error> failed(const Api& api, const char* call, Code error) {
  return fail(ErrorCode::driver_failure, std::string(call) + ": " + describe(api, error));
}

// As nvidia-smi prints it. CUDA shows a MIG instance by its name only.
std::string format_uuid(const Uuid& uuid, const std::string& device_name) {
  const bool is_mig = device_name.find(" MIG ") != std::string::npos;
  std::string text = is_mig ? "MIG-" : "GPU-";
  for (size_t i = 0; i < std::size(uuid.bytes); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    std::array<char, 3> hex{};
    std::snprintf(hex.data(), hex.size(), "%02x", uuid.bytes[i]);
    text += hex.data();
  }
  return text;
}

Result<int> attribute(const Api& api, Device device, int which) {
  int value = 0;
  if (const Code error = api.device_get_attribute(&value, which, device); error != kSuccess) {
    return failed(api, "cuDeviceGetAttribute", error);
  }
  return value;
}

Result<FoundDevice> describe_device(const Api& api, int ordinal) {
  FoundDevice found;
  if (const Code error = api.device_get(&found.device, ordinal); error != kSuccess) {
    return failed(api, "cuDeviceGet", error);
  }
  std::array<char, 256> name{};
  if (const Code error = api.device_get_name(name.data(), name.size() - 1, found.device);
      error != kSuccess) {
    return failed(api, "cuDeviceGetName", error);
  }
  Uuid uuid{};
  if (const Code error = api.device_get_uuid(&uuid, found.device); error != kSuccess) {
    return failed(api, "cuDeviceGetUuid", error);
  }
  size_t total_bytes = 0;
  if (const Code error = api.device_total_memory(&total_bytes, found.device); error != kSuccess) {
    return failed(api, "cuDeviceTotalMem", error);
  }
  size_t granularity_bytes = 0;
  const AllocationProperties properties = exportable_memory_of(found.device);
  if (api.memory_get_granularity(&granularity_bytes, &properties, kGranularityMinimum) !=
      kSuccess) {
    granularity_bytes = 0;  // check_usable() says why
  }
  found.info = {.uuid = format_uuid(uuid, name.data()),
                .name = name.data(),
                .total_bytes = total_bytes,
                .granularity_bytes = granularity_bytes,
                .simulated = false};
  return found;
}

}  // namespace

AllocationProperties exportable_memory_of(Device device) {
  AllocationProperties properties{};
  properties.type = kAllocationPinned;
  properties.requested_handle_types = kHandlePosixFileDescriptor;
  properties.location = {.type = kLocationDevice, .id = device};
  return properties;
}

Result<std::vector<FoundDevice>> find_devices(const Api& api) {
  Code error = api.init(0);
  if (error == kNotInitialized) {
    return fail(ErrorCode::unsupported,
                "cuInit: " + describe(api, error) +
                    ": CUDA cannot be used in a process that was forked from one that used it; "
                    "start workers with the 'spawn' method");
  }
  int count = 0;
  if (error == kSuccess) error = api.device_get_count(&count);
  if (error == kNoDevice || (error == kSuccess && count == 0)) {
    return fail(ErrorCode::unsupported,
                "CUDA shows no GPU to this process: check CUDA_VISIBLE_DEVICES and nvidia-smi");
  }
  if (error != kSuccess) {
    return fail(ErrorCode::unsupported, "cuInit: " + describe(api, error));
  }
  std::vector<FoundDevice> devices;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    RTSWAP_ASSIGN(FoundDevice found, describe_device(api, ordinal));
    devices.push_back(std::move(found));
  }
  return devices;
}

Status check_usable(const Api& api, const FoundDevice& found) {
  const auto refuse = [&](const std::string& why) -> Status {
    return fail(ErrorCode::unsupported, "rtswap cannot work with " + found.info.name + " (" +
                                            found.info.uuid + "): " + why);
  };
  RTSWAP_ASSIGN(const int integrated, attribute(api, found.device, kAttributeIntegrated));
  if (integrated != 0) {
    return refuse("it has no memory of its own, models in host memory are already where it reads");
  }
  RTSWAP_ASSIGN(const int vmm, attribute(api, found.device, kAttributeVirtualMemoryManagement));
  if (vmm == 0 || found.info.granularity_bytes == 0) {
    return refuse("it has no virtual memory management (a vGPU profile, or a very old GPU)");
  }
  RTSWAP_ASSIGN(const int descriptors, attribute(api, found.device, kAttributePosixHandles));
  if (descriptors == 0) {
    return refuse("its memory cannot be passed between processes as file descriptors");
  }
  const std::string mps_directory = mps_pipe_directory();
  if (mps_daemon_listens(mps_directory)) {
    return refuse(
        "the Multi-Process Service runs at " + mps_directory +
        ", where kernels of several tasks run at once and a fault of one ends all; stop it "
        "(echo quit | nvidia-cuda-mps-control)");
  }
  return {};
}

}  // namespace rtswap::driver::cuda
