// Which arenas are worth staging. Pure, deterministic; any thread.
#pragma once

#include <cstdint>
#include <vector>

#include "csrc/policy/memory.h"
#include "csrc/policy/task_set.h"

namespace rtswap::policy {

// Choices of staged arenas, each as lead ends (task_set.h, Staged) by arena, 0: direct. The first m
// by longest period, by period times size, and by largest lead; few before many; leads with which
// no run waits before shorter ones. An arena of a task without promise, or one that always stays,
// is direct.
std::vector<std::vector<uint32_t>> staged_choices(const AdmissionInput& input,
                                                  const std::vector<ArenaUse>& arenas);

}  // namespace rtswap::policy
