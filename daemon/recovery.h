// What a restart has to do about the banks of an earlier life: pure decisions on what the state
// file says and which processes still live.
#pragma once

#include <string>
#include <vector>

#include "csrc/base/result.h"
#include "daemon/banks.h"
#include "daemon/config.h"
#include "daemon/sessions.h"
#include "daemon/state_file.h"

namespace rtswap::daemon {

// The clients in `state` that live and have chunks. The others' memory is free.
std::vector<Survivor> find_survivors(const SavedState& state);

// Takes devices that are not managed any more out of what the survivors have; a line for the log
// on each. Their chunks stay with their holders until these end.
std::vector<std::string> forget_unmanaged(const std::vector<PlannedDevice>& devices,
                                          std::vector<Survivor>& survivors);

// Gives `devices` the banks of `state`, which survivors hold, and new ones to those that are not in
// it. `device_in_use` when something else is asked for now: chunks that live cannot be made larger,
// smaller or fewer.
Status plan_recovery(const Config& config, const SavedState& state,
                     const std::vector<SavedClient>& survivors,
                     std::vector<PlannedDevice>& devices);

// The id of the bank that some survivor has on this device; empty when its memory is gone.
std::string surviving_bank(const SavedState& state, const std::vector<SavedClient>& survivors,
                           const std::string& device_uuid);

}  // namespace rtswap::daemon
