#include "csrc/policy/charges.h"

#include <algorithm>

namespace rtswap::policy {

Charge charge_of(const LinkModel& link, const TaskModel& task, uint32_t missing_chunks,
                 WriteBack write_back, uint32_t lead_end) {
  Charge charge;
  charge.missing_chunks = missing_chunks;
  charge.write_back = write_back;
  charge.block_ns = block_ns(link, task, missing_chunks, write_back);
  charge.delay_ns = stage_delay_ns(link, charge.block_ns, missing_chunks, write_back);
  charge.stall_ns = stage_stall_ns(link, missing_chunks, write_back);
  if (lead_end == 0) return charge;
  const uint32_t there = task.arena_chunks - missing_chunks;
  charge.lead_chunks = lead_end - std::min(lead_end, there);
  charge.lead_ns = lead_ns(link, missing_chunks, charge.lead_chunks, write_back);
  charge.run_ns = run_ns(link, task, missing_chunks - charge.lead_chunks, write_back);
  return charge;
}

std::vector<Charge> charges_of(const AdmissionInput& input, const std::vector<ArenaUse>& arenas,
                               const Prefixes& planned, const Prefixes& guaranteed,
                               const Staged& staged) {
  // Mutable chunks may lie anywhere in an arena, so all that can be evicted may be mutable.
  const auto exposed = [&](const ArenaUse& arena) {
    return std::min(arena.mutable_chunks, arena.chunks - prefix_of(planned, arena.key));
  };
  Exposure all = input.others;
  for (const ArenaUse& arena : arenas) {
    all.mutable_chunks += exposed(arena);
    all.arenas += prefix_of(planned, arena.key) < arena.chunks;
  }
  LinkModel link = staged.empty() ? input.link : staging_link(input.link);
  std::vector<Charge> charges(input.promised.size() + input.best_effort.size());
  for (const ArenaUse& arena : arenas) {
    const uint32_t missing = arena.chunks - prefix_of(guaranteed, arena.key);
    WriteBack write_back;
    write_back.victims_chunks =
        static_cast<uint32_t>(std::min<uint64_t>(all.mutable_chunks - exposed(arena), missing));
    // A prefetch may also have displaced what the job itself needs.
    write_back.stray_chunks = static_cast<uint32_t>(
        std::min<uint64_t>(all.mutable_chunks, std::max(link.prefetch_chunks, link.lead_chunks)));
    link.victim_arenas = all.arenas - (prefix_of(planned, arena.key) < arena.chunks);
    const auto it = staged.find(arena.key);
    const uint32_t lead_end = it == staged.end() ? 0 : it->second;
    for (const size_t i : arena.promised) {
      charges[i] = charge_of(link, input.promised[i], missing, write_back, lead_end);
    }
    for (const size_t i : arena.best_effort) {
      charges[input.promised.size() + i] =
          charge_of(link, input.best_effort[i], missing, write_back, 0);
    }
  }
  return charges;
}

YieldingSet demands_of(const AdmissionInput& input, const std::vector<Charge>& charges) {
  YieldingSet set;
  for (size_t i = 0; i < input.promised.size(); ++i) {
    const TaskModel& task = input.promised[i];
    const Charge& charge = charges[i];
    if (charge.run_ns > 0) {
      set.staged.push_back({task.period_ns, task.deadline_ns, charge.lead_ns, charge.run_ns});
    } else {
      set.direct.push_back(
          {{task.period_ns, task.deadline_ns, charge.block_ns}, charge.delay_ns, charge.stall_ns});
    }
  }
  for (const Demand& demand : input.leaving) {
    set.direct.push_back({demand, demand.block_ns, demand.block_ns});
  }
  return set;
}

}  // namespace rtswap::policy
