#include "daemon/recovery.h"

#include <algorithm>
#include <map>

namespace rtswap::daemon {
namespace {

Error held(const std::vector<SavedClient>& survivors, const std::string& difference) {
  return {ErrorCode::device_in_use,
          difference + ", but the bank of the earlier rtswapd is still held by " +
              names_of(survivors) +
              "; end these processes first, or start rtswapd as it was started before"};
}

const SavedDevice* find_device(const SavedState& state, const std::string& uuid) {
  const auto it = std::find_if(state.devices.begin(), state.devices.end(),
                               [&](const SavedDevice& device) { return device.uuid == uuid; });
  return it == state.devices.end() ? nullptr : &*it;
}

}  // namespace

std::vector<Survivor> find_survivors(const SavedState& state) {
  std::vector<Survivor> survivors;
  for (const SavedClient& client : state.clients) {
    if (client.devices.empty()) continue;
    if (auto process = open_process(client.pid, client.start_ticks)) {
      survivors.push_back({client, std::move(*process)});
    }
  }
  return survivors;
}

std::vector<std::string> forget_unmanaged(const std::vector<PlannedDevice>& devices,
                                          std::vector<Survivor>& survivors) {
  std::map<std::string, std::vector<SavedClient>> holders;
  for (Survivor& survivor : survivors) {
    std::erase_if(survivor.client.devices, [&](const std::string& uuid) {
      const bool managed = std::any_of(
          devices.begin(), devices.end(),
          [&](const PlannedDevice& device) { return device.driver->info().uuid == uuid; });
      if (!managed) holders[uuid].push_back(survivor.client);
      return !managed;
    });
  }
  std::vector<std::string> lines;
  for (const auto& [uuid, clients] : holders) {
    lines.push_back(uuid + " is not managed any more; its memory stays with " + names_of(clients) +
                    " until they end, and their tasks there are over");
  }
  return lines;
}

Status plan_recovery(const Config& config, const SavedState& state,
                     const std::vector<SavedClient>& survivors,
                     std::vector<PlannedDevice>& devices) {
  if (config.budget && budget_text(*config.budget) != state.budget) {
    return fail(held(survivors, "the budget is " + budget_text(*config.budget) + " now and was " +
                                    (state.budget.empty() ? "the default" : state.budget)));
  }
  for (PlannedDevice& device : devices) {
    const driver::DeviceInfo& info = device.driver->info();
    const SavedDevice* saved = find_device(state, info.uuid);
    if (saved == nullptr) {
      RTSWAP_TRY(size_bank(config, device));
      continue;
    }
    const uint64_t saved_bytes = saved->chunk_bytes * saved->chunk_count;
    if (config.chunk_bytes > 0 && config.chunk_bytes != saved->chunk_bytes) {
      return fail(held(survivors, "chunks are to be " + size_text(config.chunk_bytes) +
                                      " and were " + size_text(saved->chunk_bytes)));
    }
    // A simulated device states its size itself; a GPU's free memory says nothing now, since the
    // bank takes part of it.
    if (info.simulated) {
      RTSWAP_TRY(size_bank(config, device));
      if (device.budget_bytes != saved_bytes) {
        return fail(held(survivors, "the bank of " + info.uuid + " is to be " +
                                        size_text(device.budget_bytes) + " and was " +
                                        size_text(saved_bytes)));
      }
    }
    device.chunk_bytes = saved->chunk_bytes;
    device.chunk_count = saved->chunk_count;
    device.budget_bytes = saved_bytes;
    device.static_limit_bytes = saved->static_limit_bytes;
  }
  return {};
}

std::string surviving_bank(const SavedState& state, const std::vector<SavedClient>& survivors,
                           const std::string& device_uuid) {
  const bool has_it =
      std::any_of(survivors.begin(), survivors.end(), [&](const SavedClient& client) {
        return std::find(client.devices.begin(), client.devices.end(), device_uuid) !=
               client.devices.end();
      });
  const SavedDevice* saved = find_device(state, device_uuid);
  return has_it && saved != nullptr ? saved->bank_id : "";
}

}  // namespace rtswap::daemon
