#include "daemon/check.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cstdio>

#include "csrc/bank/descriptors.h"
#include "csrc/driver/nvml.h"
#include "csrc/rpc/unix_socket.h"
#include "daemon/banks.h"
#include "daemon/recovery.h"
#include "daemon/socket_lock.h"
#include "daemon/socket_place.h"
#include "daemon/state_file.h"
#include "daemon/tasks_file.h"

namespace rtswap::daemon {
namespace {

// Prints findings and remembers whether one of them keeps the daemon from starting.
class Findings {
 public:
  void good(const std::string& text) { std::printf("  ok    %s\n", text.c_str()); }
  void note(const std::string& text) { std::printf("  note  %s\n", text.c_str()); }
  void bad(const std::string& text) {
    std::printf("  FAIL  %s\n", text.c_str());
    failed_ = true;
  }
  bool failed() const noexcept { return failed_; }

 private:
  bool failed_ = false;
};

std::string limit_text(rlim_t value) {
  return value == RLIM_INFINITY ? "unlimited" : std::to_string(value);
}

void check_limits(uint64_t descriptors, Findings& findings) {
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  const Status room = rpc::ensure_descriptor_room(descriptors);
  const std::string limits =
      fmt::format("open files: soft {}, hard {}; the banks need {}", limit_text(files.rlim_cur),
                  limit_text(files.rlim_max), descriptors);
  room ? findings.good(limits) : findings.bad(room.error().message);
  rlimit locked{};
  ::getrlimit(RLIMIT_MEMLOCK, &locked);
  findings.note(
      "memlock limit " +
      (locked.rlim_cur == RLIM_INFINITY ? std::string("unlimited") : size_text(locked.rlim_cur)) +
      " (CUDA pins host images without it; clients of a GPU do not depend on it)");
}

void check_device(const Config& config, PlannedDevice& device, Findings& findings) {
  const driver::DeviceInfo& info = device.driver->info();
  findings.good(fmt::format("{} ({}): virtual memory management in steps of {}; {} of {} free",
                            info.uuid, info.name, size_text(info.granularity_bytes),
                            size_text(device.memory.free_bytes),
                            size_text(device.memory.total_bytes)));
  if (!info.simulated) {
    if (const auto holders = driver::nvml_memory_holders(info.uuid)) {
      for (const driver::MemoryHolder& holder : *holders) {
        findings.note(fmt::format("pid {} ({}) holds {} of it", holder.pid,
                                  holder.name.empty() ? "another container or user" : holder.name,
                                  holder.bytes > 0 ? size_text(holder.bytes) : "an unknown part"));
      }
    }
  }
  if (const Status locked = lock_device(device); !locked) findings.bad(locked.error().message);
  if (const Status sized = size_bank(config, device); !sized) {
    findings.bad(sized.error().message);
    return;
  }
  findings.good(fmt::format("bank of {} in {} chunks of {}; {} stay for what is outside it",
                            size_text(device.budget_bytes), device.chunk_count,
                            size_text(device.chunk_bytes), size_text(device.static_limit_bytes)));
}

void check_socket(const Config& config, Findings& findings) {
  const std::string& path = config.socket_path;
  struct stat info {};
  const bool exists = ::stat(path.c_str(), &info) == 0;
  if (const Status place = check_place(path, {config.group}); !place) {
    findings.bad(place.error().message);
  } else if (const int pid = socket_holder(path); pid > 0) {
    findings.bad(fmt::format("{} is served by process {} already", path, pid));
  } else {
    findings.good(
        path + (exists ? " is left over from an ended daemon and will be replaced" : " is free"));
  }
  const auto state = load_state(state_path(path));
  if (!state) return;
  std::vector<SavedClient> clients;
  for (const Survivor& survivor : find_survivors(*state)) clients.push_back(survivor.client);
  if (!clients.empty()) {
    findings.note("an earlier bank is held by " + names_of(clients) +
                  "; rtswapd would wait for them");
  }
}

}  // namespace

int check(const Config& config) {
  Findings findings;
  std::printf("devices\n");
  uint64_t descriptors = 0;
  if (auto devices = open_devices(config)) {
    for (PlannedDevice& device : *devices) {
      check_device(config, device, findings);
      descriptors += bank::descriptors_of_bank(device.driver->info(), device.chunk_count);
    }
  } else {
    findings.bad(devices.error().message);
  }
  std::printf("limits\n");
  check_limits(descriptors, findings);
  std::printf("socket\n");
  check_socket(config, findings);
  if (!config.tasks_path.empty()) {
    std::printf("tasks\n");
    const auto tasks = read_tasks_file(config.tasks_path);
    tasks ? findings.good(fmt::format("{}: {} tasks", config.tasks_path, tasks->size()))
          : findings.bad(tasks.error().message);
  }
  std::printf("%s\n", findings.failed() ? "rtswapd would not start." : "rtswapd would start.");
  return findings.failed() ? 1 : 0;
}

}  // namespace rtswap::daemon
