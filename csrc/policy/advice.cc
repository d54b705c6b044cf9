#include "csrc/policy/advice.h"

#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "csrc/policy/memory.h"

namespace rtswap::policy {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kStep_ns = kNsPerMs / 10;  // advice is given in tenths of a millisecond
// A period longer than this, and than this many times the one that was asked for, is no advice.
constexpr int64_t kLargestFactor = 1024;
constexpr int64_t kLongPeriod_ns = 60'000 * kNsPerMs;

std::string ms(int64_t ns) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f ms", static_cast<double>(ns) / kNsPerMs);
  return text;
}

std::string mib(uint64_t chunks, const LinkModel& link) {
  return std::to_string((chunks * link.chunk_bytes) >> 20) + " MiB";
}

// Chunks of another size change what a swap costs, and a bank of another size may get them.
std::string bank_of(uint64_t chunks, const LinkModel& link) {
  return "a bank of " + mib(chunks, link) + " in chunks of " + mib(1, link);
}

std::string quoted(const std::string& name) { return "\"" + name + "\""; }

// What of the work is for a slower task; the rest is for a larger bank.
constexpr int64_t kTestRuns = 128;      // of as many points as tasks, the shortest there is
constexpr int64_t kFewestTasks = 32;    // smaller sets may use what this many may
constexpr int64_t kFirstDistance = 16;  // a first try beyond what fails, as a part of it

Effort effort_for(const AdmissionInput& input, int64_t most_effort) {
  const int64_t tasks =
      std::max<int64_t>(kFewestTasks, input.promised.size() + input.leaving.size());
  return Effort{std::min(most_effort, kTestRuns * tasks * tasks)};
}

// The outcome of a search: a change that was tested, if one was found; and whether all of it was
// searched.
struct Found {
  std::optional<int64_t> value;
  bool complete = true;
};

// A small multiple of `step` in (fails, most] for which `works(value)`; `most` is one itself. More
// of whatever it is never hurts the test (the planner may disagree), so that `most` fails means
// that there is nothing. Nearby values are tried first, since far ones take long to test; then the
// range between is halved.
template <class Works>
Found search(int64_t fails, int64_t most, int64_t step, const Effort& effort, Works works) {
  const auto round_up = [&](int64_t value) { return (value + step - 1) / step * step; };
  Found found;
  int64_t distance = std::max(step, fails / kFirstDistance);
  while (!found.value) {
    const int64_t value = std::min(round_up(fails + distance), most);
    if (works(value)) {
      found.value = value;
    } else if (effort.spent() || value == most) {
      return Found{std::nullopt, !effort.spent()};
    } else {
      fails = value;
      distance *= 2;
    }
  }
  while (!effort.spent() && *found.value - fails > step) {
    const int64_t middle = round_up(fails + (*found.value - fails) / 2);
    if (middle >= *found.value) break;
    if (works(middle)) {
      found.value = middle;
    } else {
      fails = middle;
    }
  }
  return found;
}

template <class Apply>
Found slower(const AdmissionInput& input, int64_t from_ns, int64_t to_ns, Effort& effort,
             Apply apply) {
  to_ns = to_ns / kStep_ns * kStep_ns;  // what is named is exactly what was tested
  if (to_ns <= from_ns) return {};
  return search(from_ns, to_ns, kStep_ns, effort, [&](int64_t value_ns) {
    AdmissionInput changed = input;
    apply(changed.promised[input.candidate], value_ns);
    return passes(changed, &effort);
  });
}

Found longer_deadline(const AdmissionInput& input, Effort& effort) {
  const TaskModel& task = input.promised[input.candidate];
  if (task.deadline_ns >= task.period_ns) return {};
  return slower(input, task.deadline_ns, task.period_ns, effort,
                [](TaskModel& t, int64_t deadline_ns) { t.deadline_ns = deadline_ns; });
}

Found longer_period(const AdmissionInput& input, Effort& effort) {
  const TaskModel& task = input.promised[input.candidate];
  if (task.period_ns > INT64_MAX / 4 / kLargestFactor) return {};
  const bool implicit = task.deadline_ns == task.period_ns;
  const int64_t longest_ns = std::max(task.period_ns * kLargestFactor, kLongPeriod_ns);
  return slower(input, task.period_ns, longest_ns, effort,
                [implicit](TaskModel& t, int64_t period_ns) {
                  t.period_ns = period_ns;
                  if (implicit) t.deadline_ns = period_ns;
                });
}

uint64_t chunks_of_all(const AdmissionInput& input) {
  uint64_t all = 0;
  for (const ArenaUse& arena : arenas_of(input)) all += arena.chunks;
  return all;
}

// In chunks, and more than `too_few`; at most one that holds everything.
Found larger_bank(const AdmissionInput& input, uint64_t too_few, Effort& effort) {
  const uint64_t all = chunks_of_all(input);
  if (all <= too_few || all > UINT32_MAX) return {};
  return search(static_cast<int64_t>(too_few), static_cast<int64_t>(all), 1, effort,
                [&](int64_t chunks) {
                  AdmissionInput changed = input;
                  changed.bank_chunks = static_cast<uint32_t>(chunks);
                  return passes(changed, &effort);
                });
}

struct Advice {
  std::string change;    // empty: none
  bool complete = true;  // and no change means that there is none
};

// The change that costs nothing but patience first, and what memory would do instead.
Advice change_that_fits(const AdmissionInput& input, int64_t most_effort) {
  Effort all = effort_for(input, most_effort);
  Effort half{all.left / 2};
  all.left -= half.left;
  const std::string name = quoted(input.promised[input.candidate].name);
  Advice advice;
  Found found = longer_deadline(input, half);
  if (found.value) {
    advice.change = "a deadline of " + ms(*found.value) + " for " + name;
  } else if (found.complete) {
    found = longer_period(input, half);
    if (found.value) advice.change = "a period of " + ms(*found.value) + " for " + name;
  }
  advice.complete = found.complete;
  all.left += half.left;  // what is not used
  const Found bank = larger_bank(input, input.bank_chunks, all);
  advice.complete &= bank.complete;
  if (!bank.value) return advice;
  if (!advice.change.empty()) advice.change += ", or with ";
  advice.change += bank_of(static_cast<uint64_t>(*bank.value), input.link) + " (now " +
                   mib(input.bank_chunks, input.link) + ")";
  return advice;
}

std::string name_of(ArenaKey arena, const AdmissionInput& input) {
  for (const std::vector<TaskModel>* tasks : {&input.promised, &input.best_effort}) {
    for (const TaskModel& task : *tasks) {
      if (task.arena == arena) return quoted(task.name);
    }
  }
  return {};
}

std::string too_large(const TaskModel& task, const AdmissionInput& input) {
  return quoted(task.name) + " needs " + mib(task.arena_chunks, input.link) +
         " of device memory and the bank has " + mib(input.bank_chunks, input.link) +
         ": start the arbiter with a larger budget, or make the model, or its regions, smaller";
}

void explain_shortage(const Shortage& shortage, const AdmissionInput& input, Decision& decision,
                      int64_t most_effort) {
  std::string text = "memory: resident tasks keep " + mib(shortage.reserved_chunks, input.link) +
                     " of the bank's " + mib(shortage.bank_chunks, input.link);
  if (shortage.largest_chunks > 0) {
    text += ", and " + name_of(shortage.largest_arena, input) + " needs " +
            mib(shortage.largest_chunks, input.link) + " beside them";
  }
  const uint64_t needed = uint64_t{shortage.reserved_chunks} + shortage.largest_chunks;
  Effort effort = effort_for(input, most_effort);
  const Found bank = larger_bank(input, needed - 1, effort);
  if (bank.value) {
    decision.refusal.change = bank_of(static_cast<uint64_t>(*bank.value), input.link);
    text += "; it would fit with " + decision.refusal.change;
  } else if (bank.complete) {
    text += "; no larger bank alone would be enough";
  } else {
    text += "; that takes at least " + bank_of(needed, input.link);
  }
  decision.reason = std::move(text);
}

void explain_unknown_link(const AdmissionInput& input, Decision& decision, int64_t most_effort) {
  std::string restored = "a task";
  for (size_t i = 0; i < decision.promises.size(); ++i) {
    if (decision.promises[i].missing_chunks == 0) continue;
    restored = quoted(input.promised[i].name);
    break;
  }
  decision.reason = restored +
                    " would have to be restored for its jobs, and the speed of the link is not "
                    "known: give it";
  Effort effort = effort_for(input, most_effort);
  const Found bank = larger_bank(input, input.bank_chunks, effort);
  if (!bank.value) return;
  decision.refusal.change = bank_of(static_cast<uint64_t>(*bank.value), input.link);
  decision.reason += ", or use " + decision.refusal.change;
}

// A restore of unknown speed, or the failure in `decision.refusal`.
void explain_failure(const AdmissionInput& input, Decision& decision, int64_t most_effort) {
  if (!decision.refusal.failure) {
    explain_unknown_link(input, decision, most_effort);
    return;
  }
  const Failure& failure = *decision.refusal.failure;
  const auto name = [&](size_t i) {
    return i < input.promised.size() ? quoted(input.promised[i].name) : "a task that left";
  };
  const auto block_of = [&](size_t i) {
    return i < input.promised.size() ? decision.promises[i].block_ns
                                     : input.leaving[i - input.promised.size()].block_ns;
  };
  char load[32];
  std::snprintf(load, sizeof load, "%.1f %%", decision.utilisation * 100);
  const TaskModel& candidate = input.promised[input.candidate];
  const int64_t own_block_ns = decision.promises[input.candidate].block_ns;
  std::string text;
  if (own_block_ns > candidate.deadline_ns) {
    text = "a job of " + quoted(candidate.name) + " may keep the GPU for " + ms(own_block_ns) +
           ", and its deadline is " + ms(candidate.deadline_ns);
  } else if (failure.t_ns > 0) {
    text = name(failure.missing_task) + " could miss its deadline: within " + ms(failure.t_ns) +
           " the GPU may be asked for " + ms(failure.demand_ns);
    if (failure.blocking_task) {
      text += ", of which " + ms(block_of(*failure.blocking_task)) + " because a job of " +
              name(*failure.blocking_task) + " may have just begun";
    }
    text += " (load " + std::string(load) + ")";
  } else {
    text = "the tasks would load the GPU by " + std::string(load) +
           ", too close to all of it for any deadline to be certain";
  }
  const Advice advice = change_that_fits(input, most_effort);
  decision.refusal.change = advice.change;
  if (!advice.change.empty()) {
    text += "; it would fit with " + advice.change;
  } else if (advice.complete) {
    text += "; no longer period of " + name(input.candidate) +
            " and no larger bank alone would be enough";
  }
  decision.reason = std::move(text);
}

}  // namespace

void explain(const AdmissionInput& input, Decision& decision, int64_t most_effort) {
  if (decision.too_large) {
    for (const std::vector<TaskModel>* tasks : {&input.promised, &input.best_effort}) {
      for (const TaskModel& task : *tasks) {
        if (task.arena_chunks <= input.bank_chunks) continue;
        decision.reason = too_large(task, input);
        return;
      }
    }
  }
  if (const auto shortage = shortage_of(arenas_of(input), input.bank_chunks)) {
    explain_shortage(*shortage, input, decision, most_effort);
  } else {
    explain_failure(input, decision, most_effort);
  }
}

}  // namespace rtswap::policy
