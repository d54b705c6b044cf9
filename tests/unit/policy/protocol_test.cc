// The protocol itself, small enough to try everything: tasks with prefixes on a bank of a few
// chunks, one tick a chunk, where releases, ends, victims and prefetches are chosen by an
// adversary. Every response of every accepted set stays within its bound; and with each rule left
// out, or each charge, some accepted set breaks its bound, so that this search would notice.
//
// Shares nothing with the arbiter or the simulation, and only task_model.h with the test.
#include <algorithm>
#include <random>
#include <string>
#include <unordered_set>
#include <vector>

#include "csrc/policy/np_edf.h"
#include "csrc/policy/task_model.h"
#include "tests/catch.h"

namespace rtswap::policy {
namespace {

constexpr int kMostTasks = 3;
constexpr int kNever = 99;
constexpr int kHorizon = 14;  // ticks in which jobs are released

struct TinyTask {
  int period = 0;
  int deadline = 0;
  std::vector<int> needs;  // chunks that each tick of execution needs, not descending
  int chunks = 0;
  int prefix = 0;

  int execution() const { return static_cast<int>(needs.size()); }
};

struct TinySet {
  std::vector<TinyTask> tasks;
  int bank = 0;
};

enum class Broken : uint8_t {
  nothing,
  stray_not_charged,  // the prefetch in flight when a job takes the device
  load_not_charged,   // blocks are executions
  prefix_taken,       // victims are taken below the prefix
  resident_first,     // who is there goes before who is due
  prefetch_beside,    // another prefetch begins while the holder restores
  early_not_moved,    // a release less than a period after the one before counts at once
  no_blocking,        // a later deadline that has begun is not in the test
  all_hidden,         // blocks are the longer of execution and load, whatever is needed when
};

// A tick a chunk, both ways of counting in ns.
std::vector<Demand> demands_of(const TinySet& set, Broken broken) {
  LinkModel link;
  link.restore_bytes_per_s = 1'000'000'000;
  link.chunk_bytes = 1;
  link.prefetch_chunks = broken == Broken::stray_not_charged ? 0 : 1;
  std::vector<Demand> demands;
  for (const TinyTask& task : set.tasks) {
    TaskModel model;
    model.wcet_ns = task.execution();
    model.arena_chunks = static_cast<uint32_t>(task.chunks);
    for (const int need : task.needs) {
      model.layers.push_back({static_cast<uint32_t>(broken == Broken::all_hidden ? 1 : need), 1});
    }
    const int missing = broken == Broken::load_not_charged ? 0 : task.chunks - task.prefix;
    demands.push_back(Demand{task.period, task.deadline,
                             block_ns(link, model, static_cast<uint32_t>(missing), {})});
  }
  return demands;
}

// Everything that can happen within `horizon` ticks of releases.
class Everything {
 public:
  Everything(const TinySet& set, Broken broken, int horizon)
      : set_(set), broken_(broken), horizon_(horizon), worst_(set.tasks.size(), 0) {}

  std::vector<int> worst_responses() {
    State state;
    for (size_t i = 0; i < set_.tasks.size(); ++i) state.held[i] = set_.tasks[i].prefix;
    explore(state);
    return worst_;
  }

 private:
  struct State {
    int now = 0;
    int held[kMostTasks] = {};
    int since_release[kMostTasks] = {kNever, kNever, kNever};  // as far as it matters
    int waiting[kMostTasks] = {-1, -1, -1};                    // ticks since its release; -1: none
    int holder = -1;
    int holder_age = 0;
    int executed = 0;  // ticks
    int goal = 0;      // ticks after which its work is done
    int copying = -1;  // the task of whose arena a chunk is in flight
    std::string key() const {
      std::string all;
      for (const int value : {now, holder, holder_age, executed, goal})
        all += static_cast<char>(value);
      for (int i = 0; i < kMostTasks; ++i) {
        for (const int value : {held[i], since_release[i], waiting[i]}) {
          all += static_cast<char>(value);
        }
      }
      return all;
    }
  };

  int count() const { return static_cast<int>(set_.tasks.size()); }

  // One tick: who holds the device and what is copied is decided; then releases come, just too late
  // for that, except that a device that nobody holds takes one of them.
  void explore(const State& state) {
    if (!seen_.insert(state.key()).second) return;
    if (state.now >= horizon_ && state.holder < 0 && nobody_waits(state)) return;
    hand_over(state, [this](const State& decided) {
      copy(decided, [this](const State& copied) { release(copied, 0); });
    });
  }

  static bool nobody_waits(const State& state) {
    return std::all_of(state.waiting, state.waiting + kMostTasks, [](int age) { return age < 0; });
  }

  // Any subset of the tasks that may.
  void release(const State& state, int task) {
    if (task == count()) {
      if (state.holder >= 0) {
        tick(state);
        return;
      }
      hand_over(state, [this](const State& decided) {
        if (decided.holder < 0 || decided.copying >= 0) {
          tick(decided);
        } else {
          copy(decided, [this](const State& copied) { tick(copied); });
        }
      });
      return;
    }
    release(state, task + 1);
    const size_t i = static_cast<size_t>(task) % kMostTasks;
    const bool early = broken_ == Broken::early_not_moved;
    if (state.now >= horizon_ || state.waiting[i] >= 0 || state.holder == task) return;
    if (state.since_release[i] < set_.tasks[i].period && !early) return;
    State next = state;
    next.waiting[i] = 0;
    next.since_release[i] = 0;
    release(next, task + 1);
  }

  template <class Then>
  void hand_over(const State& state, Then then) {
    State next = state;
    if (next.holder >= 0 || nobody_waits(next)) {
      then(next);
      return;
    }
    for (int i = 0; i < count(); ++i) {
      if (next.waiting[i] < 0) continue;
      if (next.holder < 0 || goes_before(next, i, next.holder)) next.holder = i;
    }
    next.holder_age = next.waiting[next.holder];
    next.waiting[next.holder] = -1;
    for (next.goal = 1; next.goal <= of(next.holder).execution(); ++next.goal) then(next);
  }

  const TinyTask& of(int task) const { return set_.tasks[static_cast<size_t>(task)]; }

  bool goes_before(const State& state, int a, int b) const {
    const auto& tasks = set_.tasks;
    if (broken_ == Broken::resident_first) {
      const bool a_there = state.held[a] == tasks[static_cast<size_t>(a)].chunks;
      const bool b_there = state.held[b] == tasks[static_cast<size_t>(b)].chunks;
      if (a_there != b_there) return a_there;
    }
    return tasks[static_cast<size_t>(a)].deadline - state.waiting[a] <
           tasks[static_cast<size_t>(b)].deadline - state.waiting[b];
  }

  // The copy engine: what the holder lacks; when it lacks nothing, or nobody holds, anything or
  // nothing.
  template <class Then>
  void copy(const State& state, Then then) {
    const bool restores = state.holder >= 0 && state.held[state.holder] < of(state.holder).chunks;
    if (restores) begin_copy(state, state.holder, then);
    if (restores && broken_ != Broken::prefetch_beside) return;
    if (!restores) then(state);
    for (int i = 0; i < count(); ++i) {
      if (i != state.holder && state.held[i] < set_.tasks[static_cast<size_t>(i)].chunks) {
        begin_copy(state, i, then);
      }
    }
  }

  // Into free memory, or from any arena that may give.
  template <class Then>
  void begin_copy(const State& state, int task, Then then) {
    int held = 0;
    for (int i = 0; i < count(); ++i) held += state.held[i];
    State next = state;
    next.copying = task;
    ++next.held[task];
    if (held < set_.bank) {
      then(next);
      return;
    }
    for (int victim = 0; victim < count(); ++victim) {
      const int keep =
          broken_ == Broken::prefix_taken ? 0 : set_.tasks[static_cast<size_t>(victim)].prefix;
      if (victim == task || victim == state.holder || state.held[victim] <= keep) continue;
      State taken = next;
      --taken.held[victim];
      then(taken);
    }
  }

  void tick(const State& state) {
    State next = state;
    ++next.now;
    next.copying = -1;
    for (int i = 0; i < count(); ++i) {
      const size_t task = static_cast<size_t>(i) % kMostTasks;
      next.since_release[task] = std::min(next.since_release[task] + 1, set_.tasks[task].period);
      if (next.waiting[task] >= 0) ++next.waiting[task];
    }
    if (next.holder >= 0) ++next.holder_age;
    if (next.holder >= 0) execute(state, next);
    // Beyond every bound: no need to go on.
    if (next.now < 4 * horizon_) explore(next);
  }

  // What was in flight during the tick is there from the next one on.
  void execute(const State& during, State& next) {
    const TinyTask& task = of(next.holder);
    const int landed = during.held[next.holder] - (during.copying == next.holder ? 1 : 0);
    if (next.executed < next.goal && landed >= task.needs[static_cast<size_t>(next.executed)]) {
      ++next.executed;
    }
    if (next.executed < next.goal || next.held[next.holder] < task.chunks) return;
    worst_[next.holder] = std::max(worst_[next.holder], next.holder_age);
    next.holder = -1;
    next.holder_age = next.executed = next.goal = 0;
  }

  const TinySet& set_;
  const Broken broken_;
  const int horizon_;
  std::vector<int> worst_;
  std::unordered_set<std::string> seen_;
};

TinySet random_set(std::mt19937& random) {
  const auto between = [&](int low, int high) {
    return low + static_cast<int>(random() % static_cast<unsigned>(high - low + 1));
  };
  for (;;) {
    TinySet set;
    const int count = between(2, kMostTasks);
    int prefixes = 0;
    int largest = 0;
    for (int i = 0; i < count; ++i) {
      TinyTask task;
      task.chunks = between(1, 3);
      task.prefix = between(0, task.chunks);
      const bool in_stretches = between(0, 1) == 1;
      for (int tick = between(1, in_stretches ? 3 : 2); tick > 0; --tick) {
        task.needs.push_back(in_stretches ? between(1, task.chunks) : task.chunks);
      }
      std::sort(task.needs.begin(), task.needs.end());
      task.deadline = between(3, 12);
      task.period = task.deadline + between(0, 4);
      prefixes += task.prefix;
      largest = std::max(largest, task.chunks - task.prefix);
      set.tasks.push_back(task);
    }
    set.bank = prefixes + largest;  // exactly the memory condition
    if (largest > 0) return set;
  }
}

struct Outcome {
  int accepted = 0;
  int broken_bounds = 0;
};

Outcome search(Broken broken, int rounds) {
  std::mt19937 random(23);
  Outcome outcome;
  for (int round = 0; round < rounds; ++round) {
    const TinySet set = random_set(random);
    std::vector<Demand> demands = demands_of(set, broken);
    if (broken == Broken::no_blocking) {
      // What a test without that term accepts: each deadline alone against the others' demand.
      const bool fits = std::all_of(demands.begin(), demands.end(), [](const Demand& demand) {
        return demand.block_ns <= demand.deadline_ns;
      });
      if (!fits) continue;
      for (Demand& demand : demands) demand.deadline_ns = demand.period_ns;
    }
    const NpEdfResult result = test_np_edf(demands, {});
    if (!result.schedulable) continue;
    ++outcome.accepted;
    const std::vector<int> worst = Everything(set, broken, kHorizon).worst_responses();
    bool above = false;
    for (size_t i = 0; i < set.tasks.size(); ++i) {
      above |= worst[i] >
               (broken == Broken::no_blocking ? set.tasks[i].deadline : result.response_ns[i]);
    }
    outcome.broken_bounds += above;
    if (broken != Broken::nothing && above) break;  // noticed
  }
  return outcome;
}

TEST_CASE("whatever happens, no response is above its bound") {
  const Outcome outcome = search(Broken::nothing, 3000);
  CHECK(outcome.accepted > 50);
  CHECK(outcome.broken_bounds == 0);
}

TEST_CASE("each rule of the protocol, and each charge, is needed") {
  const Broken broken =
      GENERATE(Broken::stray_not_charged, Broken::load_not_charged, Broken::prefix_taken,
               Broken::resident_first, Broken::prefetch_beside, Broken::early_not_moved,
               Broken::no_blocking, Broken::all_hidden);
  INFO("broken: " << static_cast<int>(broken));
  CHECK(search(broken, 6000).broken_bounds > 0);
}

}  // namespace
}  // namespace rtswap::policy
