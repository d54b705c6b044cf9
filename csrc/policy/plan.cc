#include "csrc/policy/plan.h"

#include <algorithm>
#include <map>

namespace rtswap::policy {
namespace {

struct ArenaUse {
  uint32_t chunks = 0;
  uint32_t mutable_chunks = 0;
  bool resident = false;
  size_t task = 0;
};

std::map<ArenaKey, ArenaUse> arenas_of(const std::vector<TaskModel>& tasks) {
  std::map<ArenaKey, ArenaUse> arenas;
  for (size_t i = 0; i < tasks.size(); ++i) {
    ArenaUse& use = arenas[tasks[i].arena];
    use.chunks = tasks[i].arena_chunks;
    use.mutable_chunks = tasks[i].mutable_chunks;
    use.resident |= tasks[i].resident;
    use.task = i;
  }
  return arenas;
}

}  // namespace

Plan make_plan(const std::vector<TaskModel>& tasks, uint32_t bank_chunks) {
  const auto arenas = arenas_of(tasks);
  Plan plan;
  Shortage need{0, 0, bank_chunks, 0};
  uint64_t all_chunks = 0;
  uint64_t swapped_mutable = 0;
  for (const auto& [key, arena] : arenas) {
    all_chunks += arena.chunks;
    if (arena.resident) {
      need.reserved_chunks += arena.chunks;
      if (need.largest_chunks == 0) need.largest_task = arena.task;
      continue;
    }
    swapped_mutable += arena.mutable_chunks;
    if (arena.chunks > need.largest_chunks) {
      need.largest_chunks = arena.chunks;
      need.largest_task = arena.task;
    }
  }
  plan.everything_fits = all_chunks <= bank_chunks;
  if (!plan.everything_fits && need.reserved_chunks + need.largest_chunks > bank_chunks) {
    plan.shortage = need;
  }
  for (const TaskModel& task : tasks) {
    const ArenaUse& arena = arenas.at(task.arena);
    Placement placement;
    placement.reserved = plan.everything_fits || arena.resident;
    if (!placement.reserved) {
      placement.missing_chunks = arena.chunks;
      const uint64_t others = swapped_mutable - arena.mutable_chunks;
      placement.write_back_chunks = static_cast<uint32_t>(std::min<uint64_t>(others, arena.chunks));
    }
    plan.placements.push_back(placement);
  }
  return plan;
}

}  // namespace rtswap::policy
