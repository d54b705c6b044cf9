#include "csrc/policy/stage_rules.h"

namespace rtswap::policy {

bool run_may_begin(const LeadView& view) {
  if (view.leaving || view.landed_chunks < view.lead_end) return false;
  return view.landed_chunks == view.arena_chunks || view.others_in_flight == 0;
}

bool plan_may_change(const Staged& now, const Staged& next, bool idle, bool joins, bool left) {
  if (idle || (now.empty() && next.empty())) return true;
  return now == next && !joins && !left;
}

}  // namespace rtswap::policy
