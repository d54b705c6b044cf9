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

// The smallest larger bank that was found to do; at most one that holds everything.
std::optional<std::string> larger_bank(const AdmissionInput& input) {
  std::map<ArenaKey, uint32_t> arenas;
  for (const TaskModel& task : input.promised) arenas[task.arena] = task.arena_chunks;
  for (const TaskModel& task : input.best_effort) arenas[task.arena] = task.arena_chunks;
  uint64_t all = 0;
  for (const auto& [key, count] : arenas) all += count;
  if (all <= input.bank_chunks || all > UINT32_MAX) return std::nullopt;
  const auto works = [&](uint32_t chunks) {
    AdmissionInput changed = input;
    changed.bank_chunks = chunks;
    return passes(changed);
  };
  uint32_t fails = input.bank_chunks;
  auto works_at = static_cast<uint32_t>(all);
  if (!works(works_at)) return std::nullopt;
  while (works_at - fails > 1) {
    const uint32_t middle = fails + (works_at - fails) / 2;
    (works(middle) ? works_at : fails) = middle;
  }
  return "a bank of " + mib(works_at, input.link) + " (now " + mib(input.bank_chunks, input.link) +
         ")";
}

// The change that costs nothing but patience first, and what memory would do instead.
std::string change_that_fits(const AdmissionInput& input) {
  std::optional<std::string> slower = longer_deadline(input);
  if (!slower) slower = longer_period(input);
  const std::optional<std::string> bank = larger_bank(input);
  if (slower && bank) return *slower + ", or with " + *bank;
  return slower ? *slower : bank.value_or("");
}

std::string name_of(ArenaKey arena, const AdmissionInput& input) {
  for (const std::vector<TaskModel>* tasks : {&input.promised, &input.best_effort}) {
    for (const TaskModel& task : *tasks) {
      if (task.arena == arena) return quoted(task.name);
    }
  }
  return {};
}

}  // namespace

std::string explain_too_large(const TaskModel& task, const AdmissionInput& input) {
  return quoted(task.name) + " needs " + mib(task.arena_chunks, input.link) +
         " of device memory and the bank has " + mib(input.bank_chunks, input.link) +
         ": start the arbiter with a larger budget, or use a smaller model";
}

void explain_shortage(const Shortage& shortage, const AdmissionInput& input, Decision& decision) {
  std::string text = "memory: resident tasks keep " + mib(shortage.reserved_chunks, input.link) +
                     " of the bank's " + mib(shortage.bank_chunks, input.link);
  if (shortage.largest_chunks > 0) {
    text += ", and " + name_of(shortage.largest_arena, input) + " needs " +
            mib(shortage.largest_chunks, input.link) + " beside them";
  }
  decision.refusal.change =
      "a bank of " + mib(shortage.reserved_chunks + shortage.largest_chunks, input.link);
  decision.reason =
      text + "; it would fit with " + decision.refusal.change + ", or with fewer resident tasks";
}

void explain_failure(const std::vector<Demand>& demands, const AdmissionInput& input,
                     Decision& decision) {
  if (!decision.refusal.failure) {
    decision.reason =
        quoted(input.promised[input.candidate].name) +
        " and others would have to be restored for their jobs, and the restore bandwidth of the "
        "device is not known yet: report it before opening tasks, or use a bank that holds every "
        "model";
    return;
  }
  const Failure& failure = *decision.refusal.failure;
  const auto name = [&](size_t i) {
    return i < input.promised.size() ? quoted(input.promised[i].name) : "a task that left";
  };
  char load[32];
  std::snprintf(load, sizeof load, "%.1f %%", decision.utilisation * 100);
  const TaskModel& candidate = input.promised[input.candidate];
  const int64_t own_block_ns = demands[input.candidate].block_ns;
  std::string text;
  if (own_block_ns > candidate.deadline_ns) {
    text = "a job of " + quoted(candidate.name) + " may keep the GPU for " + ms(own_block_ns) +
           ", and its deadline is " + ms(candidate.deadline_ns);
  } else if (failure.t_ns > 0) {
    text = name(failure.missing_task) + " could miss its deadline: within " + ms(failure.t_ns) +
           " the GPU may be asked for " + ms(failure.demand_ns);
    if (failure.blocking_task) {
      text += ", of which " + ms(demands[*failure.blocking_task].block_ns) + " because a job of " +
              name(*failure.blocking_task) + " may have just begun";
    }
    text += " (load " + std::string(load) + ")";
  } else {
    text = "the tasks would load the GPU by " + std::string(load) +
           ", too close to all of it for any deadline to be certain";
  }
  decision.refusal.change = change_that_fits(input);
  decision.reason =
      text + (decision.refusal.change.empty() ? "; no longer period of " + name(input.candidate) +
                                                    " and no larger bank alone would be enough"
                                              : "; it would fit with " + decision.refusal.change);
}

}  // namespace rtswap::policy
