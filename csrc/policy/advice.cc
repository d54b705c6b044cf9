#include "csrc/policy/advice.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <optional>

namespace rtswap::policy {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kStep_ns = kNsPerMs / 10;  // advice is given in tenths of a millisecond
constexpr int64_t kLargestFactor = 1024;     // a period longer than this many times is no advice

std::string ms(int64_t ns) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f ms", static_cast<double>(ns) / kNsPerMs);
  return text;
}

std::string mib(uint64_t chunks, const LinkModel& link) {
  return std::to_string((chunks * link.chunk_bytes) >> 20) + " MiB";
}

std::string quoted(const std::string& name) { return "\"" + name + "\""; }

int64_t round_up_to_step(int64_t ns) { return (ns + kStep_ns - 1) / kStep_ns * kStep_ns; }

// Smallest multiple of the step in (from, to] for which `input` changed by `apply` passes; nothing
// when none was found. Schedulability need not be monotone, so the value returned was itself
// tested.
template <class Apply>
std::optional<int64_t> smallest_passing(const AdmissionInput& input, int64_t from_ns, int64_t to_ns,
                                        Apply apply) {
  const auto works = [&](int64_t value_ns) {
    AdmissionInput changed = input;
    apply(changed.promised[input.candidate], value_ns);
    return passes(changed);
  };
  int64_t fails = from_ns;
  int64_t works_at = 0;
  for (int64_t distance = kStep_ns; fails < to_ns; distance *= 2) {
    const int64_t value = std::min(round_up_to_step(from_ns + distance), to_ns);
    if (works(value)) {
      works_at = value;
      break;
    }
    fails = value;
  }
  if (works_at == 0) return std::nullopt;
  while (works_at - fails > kStep_ns) {
    const int64_t middle = round_up_to_step(fails + (works_at - fails) / 2);
    if (middle >= works_at) break;
    (works(middle) ? works_at : fails) = middle;
  }
  return works_at;
}

std::optional<std::string> longer_deadline(const AdmissionInput& input) {
  const TaskModel& task = input.promised[input.candidate];
  if (task.deadline_ns >= task.period_ns) return std::nullopt;
  const auto value =
      smallest_passing(input, task.deadline_ns, task.period_ns,
                       [](TaskModel& t, int64_t deadline_ns) { t.deadline_ns = deadline_ns; });
  if (!value) return std::nullopt;
  return "a deadline of " + ms(*value) + " for " + quoted(task.name);
}

std::optional<std::string> longer_period(const AdmissionInput& input) {
  const TaskModel& task = input.promised[input.candidate];
  if (task.period_ns > INT64_MAX / 4 / kLargestFactor) return std::nullopt;
  const bool implicit = task.deadline_ns == task.period_ns;
  const auto value = smallest_passing(input, task.period_ns, task.period_ns * kLargestFactor,
                                      [implicit](TaskModel& t, int64_t period_ns) {
                                        t.period_ns = period_ns;
                                        if (implicit) t.deadline_ns = period_ns;
                                      });
  if (!value) return std::nullopt;
  return "a period of " + ms(*value) + " for " + quoted(task.name);
}

// Keeping the blamed task resident: in the bank there is, else in a larger one.
std::optional<std::string> resident(const AdmissionInput& input, size_t task) {
  AdmissionInput changed = input;
  if (changed.promised[task].resident) return std::nullopt;
  changed.promised[task].resident = true;
  if (passes(changed)) return "resident=True for " + quoted(input.promised[task].name);
  std::vector<TaskModel> all = changed.promised;
  all.insert(all.end(), changed.best_effort.begin(), changed.best_effort.end());
  const Plan plan = make_plan(all, changed.bank_chunks);
  if (!plan.shortage) return std::nullopt;
  changed.bank_chunks =
      static_cast<uint32_t>(plan.shortage->reserved_chunks + plan.shortage->largest_chunks);
  if (!passes(changed)) return std::nullopt;
  return "a bank of " + mib(changed.bank_chunks, input.link) + " (now " +
         mib(input.bank_chunks, input.link) + ") and resident=True for " +
         quoted(input.promised[task].name);
}

// A bank that holds everything, so that no job restores.
std::optional<std::string> larger_bank(const AdmissionInput& input) {
  std::map<ArenaKey, uint32_t> arenas;
  for (const TaskModel& task : input.promised) arenas[task.arena] = task.arena_chunks;
  for (const TaskModel& task : input.best_effort) arenas[task.arena] = task.arena_chunks;
  uint64_t chunks = 0;
  for (const auto& [key, count] : arenas) chunks += count;
  if (chunks <= input.bank_chunks || chunks > UINT32_MAX) return std::nullopt;
  AdmissionInput changed = input;
  changed.bank_chunks = static_cast<uint32_t>(chunks);
  if (!passes(changed)) return std::nullopt;
  return "a bank of " + mib(chunks, input.link) + " (now " + mib(input.bank_chunks, input.link) +
         ")";
}

// The cheapest change that works, and, if that one costs rate, what memory would do instead.
std::string advice(const AdmissionInput& input, std::optional<size_t> blamed) {
  std::vector<std::string> changes;
  const auto note = [&](std::optional<std::string> change) {
    if (change) changes.push_back(std::move(*change));
  };
  if (blamed) note(resident(input, *blamed));
  if (changes.empty()) note(longer_deadline(input));
  if (changes.empty()) note(longer_period(input));
  if (changes.size() < 2) note(larger_bank(input));
  if (changes.empty()) {
    return "no longer period of " + quoted(input.promised[input.candidate].name) +
           " and no larger bank alone would be enough";
  }
  std::string text = "it would fit with " + changes[0];
  if (changes.size() > 1) text += ", or with " + changes[1];
  return text;
}

}  // namespace

std::string explain_too_large(const TaskModel& task, const AdmissionInput& input) {
  return quoted(task.name) + " needs " + mib(task.arena_chunks, input.link) +
         " of device memory and the bank has " + mib(input.bank_chunks, input.link) +
         ": start the arbiter with a larger budget, or use a smaller model";
}

std::string explain_shortage(const Shortage& shortage, const std::vector<TaskModel>& all,
                             const AdmissionInput& input) {
  const std::string& name = all[shortage.largest_task].name;
  std::string text = "memory: resident tasks keep " + mib(shortage.reserved_chunks, input.link) +
                     " of the bank's " + mib(shortage.bank_chunks, input.link);
  if (shortage.largest_chunks > 0) {
    text += ", and " + quoted(name) + " needs " + mib(shortage.largest_chunks, input.link) +
            " beside them";
  }
  return text + "; it would fit with a bank of " +
         mib(shortage.reserved_chunks + shortage.largest_chunks, input.link) +
         ", or with fewer resident tasks";
}

std::string explain_unknown_bandwidth(const TaskModel& task) {
  return quoted(task.name) +
         " would have to be restored for its jobs, and the restore bandwidth of the device is not "
         "known yet: report it before opening tasks, or use a bank that holds every model";
}

std::string explain_failure(const Failure& failure, double utilisation,
                            const std::vector<Demand>& demands, const AdmissionInput& input) {
  char load[32];
  std::snprintf(load, sizeof load, "%.1f %%", utilisation * 100);
  std::string text;
  if (failure.t_ns > 0) {
    text = quoted(input.promised[failure.missing_task].name) + " could miss its deadline: within " +
           ms(failure.t_ns) + " the GPU may be asked for " + ms(failure.demand_ns);
    if (failure.blocking_task) {
      text += ", of which " + ms(demands[*failure.blocking_task].block_ns) + " because a job of " +
              quoted(input.promised[*failure.blocking_task].name) + " may have just begun";
    }
    text += " (load " + std::string(load) + ")";
  } else {
    text = "the tasks would load the GPU by " + std::string(load) +
           ", too close to all of it for any deadline to be certain";
  }
  // Whose block to shorten: the one that blocks, else the largest restore of all.
  std::optional<size_t> blamed = failure.blocking_task;
  if (!blamed) {
    for (size_t i = 0; i < demands.size(); ++i) {
      const int64_t restore_ns = demands[i].block_ns - input.promised[i].wcet_ns;
      if (!blamed || restore_ns > demands[*blamed].block_ns - input.promised[*blamed].wcet_ns)
        blamed = i;
    }
  }
  return text + "; " + advice(input, blamed);
}

}  // namespace rtswap::policy
