#include "csrc/policy/staging.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <set>

namespace rtswap::policy {
namespace {

constexpr int64_t kForever_ns = std::numeric_limits<int64_t>::max();

// The least number of first chunks with which no run of the arena's tasks ever waits.
uint32_t lead_end_of(const AdmissionInput& input, const std::vector<ArenaUse>& arenas,
                     const ArenaUse& arena) {
  WriteBack write_back;
  for (const ArenaUse& other : arenas) {
    if (other.key != arena.key) write_back.victims_chunks += other.mutable_chunks;
  }
  uint32_t end = 1;
  for (const size_t i : arena.promised) {
    const TaskModel& task = input.promised[i];
    const int64_t alone_ns = run_ns(input.link, task, 0, write_back);
    uint32_t too_few = 0;
    uint32_t enough = arena.chunks;
    while (enough - too_few > 1) {
      const uint32_t middle = too_few + (enough - too_few) / 2;
      const bool waits = run_ns(input.link, task, arena.chunks - middle, write_back) > alone_ns;
      (waits ? too_few : enough) = middle;
    }
    end = std::max(end, enough);
  }
  return end;
}

int64_t shortest_period_ns(const AdmissionInput& input, const ArenaUse& arena) {
  int64_t shortest_ns = kForever_ns;
  for (const size_t i : arena.promised) {
    shortest_ns = std::min(shortest_ns, input.promised[i].period_ns);
  }
  return shortest_ns;
}

// Shorter leads make runs wait, and take less memory beside direct jobs.
constexpr uint32_t kWhole = 4;
constexpr uint32_t kLeadParts[] = {kWhole, 2, 0};
// Sets up to this size are tried with every number of staged arenas, larger ones with some.
constexpr size_t kAllNumbers = 12;

}  // namespace

std::vector<std::vector<uint32_t>> staged_choices(const AdmissionInput& input,
                                                  const std::vector<ArenaUse>& arenas) {
  struct Candidate {
    size_t arena = 0;
    uint32_t lead_end = 0;
    double period_ns = 0;
  };
  std::vector<Candidate> candidates;
  size_t promised_arenas = 0;
  for (size_t arena = 0; arena < arenas.size(); ++arena) {
    const ArenaUse& use = arenas[arena];
    promised_arenas += !use.promised.empty();
    if (use.promised.empty() || !use.best_effort.empty() || use.resident) continue;
    candidates.push_back({arena, lead_end_of(input, arenas, use),
                          static_cast<double>(shortest_period_ns(input, use))});
  }
  const auto size = [&](const Candidate& c) { return static_cast<double>(arenas[c.arena].chunks); };
  const std::function<double(const Candidate&)> keys[] = {
      [](const Candidate& c) { return c.period_ns; },
      [&](const Candidate& c) { return c.period_ns * size(c); },
      [](const Candidate& c) { return static_cast<double>(c.lead_end); },
  };
  std::vector<std::vector<uint32_t>> choices;
  std::set<std::vector<uint32_t>> seen;
  for (const uint32_t part : kLeadParts) {
    for (size_t m = 1; m <= candidates.size() && m < promised_arenas;
         m += m < kAllNumbers ? 1 : m / 3) {
      for (const auto& key : keys) {
        std::stable_sort(candidates.begin(), candidates.end(),
                         [&](const Candidate& a, const Candidate& b) { return key(a) > key(b); });
        std::vector<uint32_t> lead_ends(arenas.size(), 0);
        for (size_t i = 0; i < m; ++i) {
          lead_ends[candidates[i].arena] = std::max(1U, candidates[i].lead_end * part / kWhole);
        }
        if (seen.insert(lead_ends).second) choices.push_back(std::move(lead_ends));
      }
    }
  }
  return choices;
}

}  // namespace rtswap::policy
