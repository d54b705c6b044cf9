#include "csrc/driver/nvml.h"

#include <algorithm>
#include <fstream>

#include "csrc/driver/shared_library.h"

namespace rtswap::driver {
namespace {

// Types of NVML's stable ABI, declared here because nvml.h comes with the toolkit only.
using NvmlDevice = struct NvmlDeviceTag*;
struct NvmlMemory {
  unsigned long long total, free, used;
};
struct NvmlProcess {
  unsigned pid;
  unsigned long long used_bytes;
  unsigned gpu_instance, compute_instance;
};
constexpr int kSuccess = 0;
constexpr int kInvalidArgument = 2;
constexpr int kNotFound = 6;
constexpr int kInsufficientSize = 7;
constexpr unsigned long long kNotAvailable = ~0ull;

struct Nvml {
  int (*init)() = nullptr;
  const char* (*error_string)(int) = nullptr;
  int (*device_by_uuid)(const char*, NvmlDevice*) = nullptr;
  int (*memory_info)(NvmlDevice, NvmlMemory*) = nullptr;
  int (*compute_processes)(NvmlDevice, unsigned*, NvmlProcess*) = nullptr;
};

tl::unexpected<Error> nvml_failure(const Nvml& nvml, const char* call, int error) {
  return fail(ErrorCode::driver_failure, std::string(call) + ": " + nvml.error_string(error));
}

Result<Nvml> load_nvml() {
  Nvml nvml;
  const auto slot = [](auto& member) { return reinterpret_cast<void**>(&member); };
  RTSWAP_TRY(load_symbols(
      "libnvidia-ml.so.1",
      {{slot(nvml.init), {"nvmlInit_v2"}},
       {slot(nvml.error_string), {"nvmlErrorString"}},
       {slot(nvml.device_by_uuid), {"nvmlDeviceGetHandleByUUID"}},
       {slot(nvml.memory_info), {"nvmlDeviceGetMemoryInfo"}},
       // Both fill in the same structure; the older one is what driver 470 has.
       {slot(nvml.compute_processes),
        {"nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2"}}},
      "the free memory of the GPU is read with the NVIDIA management library, which comes with the "
      "driver (470 or newer)"));
  if (const int error = nvml.init(); error != kSuccess) {
    return nvml_failure(nvml, "nvmlInit_v2", error);
  }
  return nvml;
}

// Initialized once and never shut down: a library of the system that other users in this process
// (torch, a monitoring thread) count their own references to.
const Result<Nvml>& nvml_of_process() {
  static const auto& nvml = *new Result<Nvml>(load_nvml());
  return nvml;
}

struct Opened {
  const Nvml* nvml;
  NvmlDevice device;
};

Result<Opened> open_device(const std::string& uuid) {
  const Result<Nvml>& nvml = nvml_of_process();
  if (!nvml) return fail(nvml.error());
  NvmlDevice device = nullptr;
  const int error = nvml->device_by_uuid(uuid.c_str(), &device);
  if (error == kNotFound || error == kInvalidArgument) {
    return fail(ErrorCode::unknown_device,
                "the NVIDIA management library knows no GPU " + uuid + "; see nvidia-smi -L");
  }
  if (error != kSuccess) return nvml_failure(*nvml, "nvmlDeviceGetHandleByUUID", error);
  return Opened{&*nvml, device};
}

std::string program_name(unsigned pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/comm");
  std::string name;
  std::getline(file, name);
  return name;
}

}  // namespace

Result<MemoryInfo> nvml_memory_info(const std::string& uuid) {
  RTSWAP_ASSIGN(const Opened opened, open_device(uuid));
  NvmlMemory memory{};
  if (const int error = opened.nvml->memory_info(opened.device, &memory); error != kSuccess) {
    return nvml_failure(*opened.nvml, "nvmlDeviceGetMemoryInfo", error);
  }
  return MemoryInfo{.free_bytes = memory.free, .total_bytes = memory.total};
}

Result<std::vector<MemoryHolder>> nvml_memory_holders(const std::string& uuid) {
  RTSWAP_ASSIGN(const Opened opened, open_device(uuid));
  std::vector<NvmlProcess> processes(64);
  int error = kInsufficientSize;
  auto count = static_cast<unsigned>(processes.size());
  // Again when the answer says how many there are; their number may have grown by then.
  for (int attempt = 0; attempt < 3 && error == kInsufficientSize; ++attempt) {
    processes.resize(std::max<size_t>(processes.size(), 2 * size_t{count}));
    count = static_cast<unsigned>(processes.size());
    error = opened.nvml->compute_processes(opened.device, &count, processes.data());
  }
  if (error != kSuccess) {
    return nvml_failure(*opened.nvml, "nvmlDeviceGetComputeRunningProcesses", error);
  }
  processes.resize(count);
  std::vector<MemoryHolder> holders;
  for (const NvmlProcess& process : processes) {
    holders.push_back({.pid = static_cast<pid_t>(process.pid),
                       .bytes = process.used_bytes == kNotAvailable ? 0 : process.used_bytes,
                       .name = program_name(process.pid)});
  }
  std::sort(holders.begin(), holders.end(),
            [](const MemoryHolder& a, const MemoryHolder& b) { return a.bytes > b.bytes; });
  return holders;
}

std::string nvml_holders_text(const std::string& uuid) {
  const auto holders = nvml_memory_holders(uuid);
  if (!holders) return "";
  std::string text;
  for (const MemoryHolder& holder : *holders) {
    text += text.empty() ? "; its memory is held by " : ", ";
    text += (holder.name.empty() ? "a process" : holder.name) + " (pid " +
            std::to_string(holder.pid) +
            (holder.bytes > 0 ? ", " + std::to_string(holder.bytes >> 20) + " MiB" : "") + ")";
  }
  return text;
}

}  // namespace rtswap::driver
