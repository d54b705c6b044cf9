// The yielding form in ticks and chunks, two ticks a chunk: direct jobs restore while they hold the
// device, staged ones hold the stage first. An adversary chooses releases, how short layers are,
// victims, and prefetches while the stage is free. Every response of every accepted set stays
// within its bound; with each rule left out, or each charge, some accepted set breaks its bound.
//
// Shares nothing with the arbiter or the simulation, and only the two tests with the policy.
#include "csrc/policy/yielding.h"

#include <algorithm>
#include <array>
#include <random>
#include <string>
#include <unordered_set>
#include <vector>

#include "tests/catch.h"

namespace rtswap::policy {
namespace {

constexpr int kMostTasks = 4;
constexpr int kMostRandomTasks = 3;
constexpr int kMostLayers = 2;
constexpr int kLoad = 2;  // ticks for a chunk
constexpr int kNobody = -1;
constexpr int kNotWaiting = -1;

struct TinyLayer {
  int needs = 0;  // chunks
  int execution = 0;
};

struct TinyTask {
  int period = 0;
  int deadline = 0;
  int chunks = 0;
  int prefix = 0;
  bool staged = false;
  std::vector<TinyLayer> layers;

  int missing() const { return chunks - prefix; }
  int execution() const {
    int sum = 0;
    for (const TinyLayer& layer : layers) sum += layer.execution;
    return sum;
  }
};

struct TinySet {
  std::vector<TinyTask> tasks;
  int bank = 0;
};

enum class Broken : uint8_t {
  nothing,
  // rules
  lead_taken,           // the stage holder's lead is a victim like any other
  stray_ignored,        // the staged run begins while a stray chunk is in flight
  staged_by_deadline,   // the stage holder competes with direct jobs by deadline
  lead_before_direct,   // the lead goes before the restore of the direct job that holds the device
  prefetch_while_held,  // something is prefetched while the lead is not complete
  stage_taken_away,     // an earlier deadline takes the stage from its holder
  // charges
  lead_too_short,        // the run waits for a chunk
  lead_not_charged,      // only runs are in the stage test
  direct_loads_ignored,  // direct jobs delay the stage by their execution only
  runs_block_nobody,     // a direct job never waits for a staged run
  stalls_not_charged,    // direct jobs never keep a lead from being restored
  waits_not_charged,     // and never keep a run waiting whose lead is there
  earlier_run_ignored,   // nor for what came during the run before it
};

// When the job ends that begins with `resident` chunks there, and gets the others one after the
// other from `delay` on.
int end_of(const TinyTask& task, int resident, int delay) {
  const auto there = [&](int chunks) {
    return chunks > resident ? delay + (chunks - resident) * kLoad : 0;
  };
  int end = 0;
  for (const TinyLayer& layer : task.layers)
    end = std::max(end, there(layer.needs)) + layer.execution;
  return std::max(end, there(task.chunks));
}

int direct_block(const TinyTask& task) { return end_of(task, task.prefix, kLoad); }

// Until the last chunk of a direct job is there.
int direct_stall(const TinyTask& task) {
  return task.missing() > 0 ? (1 + task.missing()) * kLoad : 0;
}

// The least number of chunks with which the run never waits.
int lead_end(const TinyTask& task) {
  int chunks = task.prefix;
  while (end_of(task, chunks, 0) > task.execution()) ++chunks;
  return chunks;
}

// Everything that can happen within `horizon` ticks of releases. Steady: of releases that come as
// early as they may, and jobs at full cost.
class Everything {
 public:
  Everything(const TinySet& set, Broken broken, int horizon, bool steady = false)
      : set_(set),
        broken_(broken),
        horizon_(horizon),
        steady_(steady),
        worst_(set.tasks.size(), 0) {
    for (const TinyTask& task : set.tasks) {
      const int end = task.staged ? lead_end(task) : task.prefix;
      lead_end_.push_back(broken == Broken::lead_too_short ? std::max(task.prefix, end - 1) : end);
    }
  }

  // Beyond every bound if somebody could get stuck.
  std::vector<int> worst_responses() {
    State state;
    for (size_t i = 0; i < set_.tasks.size(); ++i) state.held[i] = set_.tasks[i].prefix;
    explore(state);
    return worst_;
  }

 private:
  struct State {
    int now = 0;
    std::array<int, kMostTasks> held{};
    std::array<int, kMostTasks> to_release{};  // ticks until the next release may come
    std::array<int, kMostTasks> waiting{kNotWaiting, kNotWaiting, kNotWaiting,
                                        kNotWaiting};  // ticks since
    int holder = kNobody;                              // of the device
    int stage = kNobody;
    std::array<int, kMostTasks> age{};  // of the job that holds device or stage
    int layer = 0;
    int to_run = 0;         // ticks left of that layer; 0: not begun
    int copying = kNobody;  // the task of whose arena a chunk is in flight
    int to_copy = 0;        // ticks until it lands

    std::string key() const {
      std::string all;
      const auto add = [&all](int value) { all += static_cast<char>(value); };
      for (const int value : {now, holder, stage, layer, to_run, copying, to_copy}) add(value);
      for (size_t i = 0; i < kMostTasks; ++i) {
        for (const int value : {held[i], to_release[i], waiting[i], age[i]}) add(value);
      }
      return all;
    }
  };

  int count() const { return static_cast<int>(set_.tasks.size()); }
  const TinyTask& task(int i) const { return set_.tasks[static_cast<size_t>(i)]; }
  int lead_end_of(int i) const { return lead_end_[static_cast<size_t>(i)]; }
  static size_t at(int i) { return static_cast<size_t>(i) % kMostTasks; }

  // One tick: who holds stage and device and what is copied is decided; then releases come, just
  // too late for that, except for what is still free; and once more.
  void explore(State state) {
    if (!seen_.insert(state.key()).second) return;
    const bool quiet = state.holder == kNobody && state.stage == kNobody && nobody_waits(state);
    if (state.now >= horizon_ && quiet) return;
    take(state);
    copy(state, [this](const State& copied) {
      release(copied, 0, [this](const State& released) {
        State decided = released;
        take(decided);
        copy(decided, [this](const State& again) {
          release(again, 0, [this](const State& last) {
            State taken = last;
            take(taken);
            tick(taken);
          });
        });
      });
    });
  }

  bool nobody_waits(const State& state) const {
    return std::all_of(state.waiting.begin(), state.waiting.end(), [](int age) { return age < 0; });
  }

  // Any subset of the tasks that may.
  template <class Then>
  void release(const State& state, int i, Then then) {
    if (i == count()) {
      then(state);
      return;
    }
    if (!steady_) release(state, i + 1, then);
    const bool busy = state.waiting[at(i)] >= 0 || state.holder == i || state.stage == i;
    if (state.now >= horizon_ || busy || state.to_release[at(i)] > 0) {
      if (steady_) release(state, i + 1, then);
      return;
    }
    State next = state;
    next.waiting[at(i)] = 0;
    next.to_release[at(i)] = task(i).period;
    release(next, i + 1, then);
  }

  int time_left(const State& state, int i) const {
    const int age = state.waiting[at(i)] >= 0 ? state.waiting[at(i)] : state.age[at(i)];
    return task(i).deadline - age;
  }

  // The waiting task of that mode with the earliest deadline.
  int first_waiting(const State& state, bool staged) const {
    int first = kNobody;
    for (int i = 0; i < count(); ++i) {
      if (state.waiting[at(i)] < 0 || task(i).staged != staged) continue;
      if (first == kNobody || time_left(state, i) < time_left(state, first)) first = i;
    }
    return first;
  }

  void take(State& state) const {
    const int staged = first_waiting(state, true);
    if (broken_ == Broken::stage_taken_away && staged != kNobody && state.stage != kNobody &&
        state.stage != state.holder && time_left(state, staged) < time_left(state, state.stage)) {
      state.waiting[at(state.stage)] = state.age[at(state.stage)];
      state.stage = kNobody;
    }
    if (state.stage == kNobody && staged != kNobody) {
      state.stage = staged;
      state.age[at(staged)] = state.waiting[at(staged)];
      state.waiting[at(staged)] = kNotWaiting;
    }
    if (state.holder != kNobody) return;
    const int direct = first_waiting(state, false);
    const bool stray = state.copying != kNobody && state.copying != state.stage &&
                       lacks(state, state.stage, chunks_of(state.stage));
    const bool ready = state.stage != kNobody &&
                       state.held[at(state.stage)] >= lead_end_of(state.stage) &&
                       state.copying != state.stage && (!stray || broken_ == Broken::stray_ignored);
    const bool overtakes = broken_ == Broken::staged_by_deadline && ready && direct != kNobody &&
                           time_left(state, state.stage) < time_left(state, direct);
    if (direct != kNobody && !overtakes) {
      state.holder = direct;
      state.age[at(direct)] = state.waiting[at(direct)];
      state.waiting[at(direct)] = kNotWaiting;
    } else if (ready) {
      state.holder = state.stage;
    }
    state.layer = state.to_run = 0;
  }

  // Holder's own restore, else the lead, else, while the stage is free, anything or nothing.
  template <class Then>
  void copy(const State& state, Then then) {
    if (state.copying != kNobody) {
      then(state);
      return;
    }
    const bool restores = lacks(state, state.holder, chunks_of(state.holder));
    const bool leads = state.stage != kNobody && state.stage != state.holder &&
                       lacks(state, state.stage, lead_end_of(state.stage));
    if (leads && !restores && broken_ == Broken::prefetch_while_held) prefetch(state, then);
    if (leads && (!restores || broken_ == Broken::lead_before_direct)) {
      begin_copy(state, state.stage, then);
    } else if (restores) {
      begin_copy(state, state.holder, then);
    } else if (state.stage == kNobody) {
      prefetch(state, then);
    } else {
      then(state);
    }
  }

  template <class Then>
  void prefetch(const State& state, Then then) {
    then(state);
    for (int i = 0; i < count(); ++i) {
      if (i != state.holder && lacks(state, i, task(i).chunks)) begin_copy(state, i, then);
    }
  }

  int chunks_of(int i) const { return i == kNobody ? 0 : task(i).chunks; }
  static bool lacks(const State& state, int i, int chunks) {
    return i != kNobody && state.held[at(i)] < chunks;
  }

  // What nobody may take of it.
  int safe(const State& state, int i) const {
    if (i == state.holder) return task(i).chunks;
    if (i == state.stage && broken_ != Broken::lead_taken) {
      return std::max(task(i).prefix, lead_end_of(i));
    }
    return task(i).prefix;
  }

  // Into free memory, or from any arena that may give.
  template <class Then>
  void begin_copy(const State& state, int i, Then then) {
    int held = 0;
    for (int other = 0; other < count(); ++other) held += state.held[at(other)];
    State next = state;
    next.copying = i;
    next.to_copy = kLoad;
    ++next.held[at(i)];
    if (held < set_.bank) {
      then(next);
      return;
    }
    bool given = false;
    for (int victim = 0; victim < count(); ++victim) {
      if (victim == i || state.held[at(victim)] <= safe(state, victim)) continue;
      State taken = next;
      --taken.held[at(victim)];
      given = true;
      then(taken);
    }
    if (!given) then(state);  // nobody can give: the tick passes
  }

  // Layers of the holder execute when their chunks have landed; each may be shorter than declared.
  void tick(const State& state) {
    if (state.holder == kNobody) {
      pass(state, false);
      return;
    }
    const std::vector<TinyLayer>& layers = task(state.holder).layers;
    const bool own_copy = state.copying == state.holder;
    const int landed = state.held[at(state.holder)] - (own_copy ? 1 : 0);
    const bool executed = state.layer == static_cast<int>(layers.size());
    if (executed ||
        (state.to_run == 0 && layers[static_cast<size_t>(state.layer)].needs > landed)) {
      pass(state, executed);
      return;
    }
    const int execution = layers[static_cast<size_t>(state.layer)].execution;
    for (int run = state.to_run > 0 ? state.to_run
                   : steady_        ? execution
                                    : 1;
         run <= (state.to_run > 0 ? state.to_run : execution); ++run) {
      State next = state;
      next.to_run = run - 1;
      if (next.to_run == 0) ++next.layer;
      pass(next, next.layer == static_cast<int>(layers.size()));
    }
  }

  void pass(State next, bool executed) {
    ++next.now;
    if (next.copying != kNobody && --next.to_copy == 0) next.copying = kNobody;
    for (int i = 0; i < count(); ++i) {
      next.to_release[at(i)] = std::max(0, next.to_release[at(i)] - 1);
      if (next.waiting[at(i)] >= 0) ++next.waiting[at(i)];
      if (next.holder == i || next.stage == i) ++next.age[at(i)];
    }
    // A job ends with its last chunk.
    if (executed && next.held[at(next.holder)] == task(next.holder).chunks &&
        next.copying != next.holder) {
      int& worst = worst_[static_cast<size_t>(next.holder)];
      worst = std::max(worst, next.age[at(next.holder)]);
      next.age[at(next.holder)] = 0;
      if (next.stage == next.holder) next.stage = kNobody;
      next.holder = kNobody;
      next.layer = next.to_run = 0;
    }
    if (next.now < 4 * horizon_) {
      explore(next);
      return;
    }
    // Beyond every bound: no need to go on.
    for (int i = 0; i < count(); ++i) {
      if (next.waiting[at(i)] >= 0 || next.holder == i || next.stage == i) {
        worst_[static_cast<size_t>(i)] = 4 * horizon_;
      }
    }
  }

  const TinySet& set_;
  const Broken broken_;
  const int horizon_;
  const bool steady_;
  std::vector<int> lead_end_;
  std::vector<int> worst_;
  std::unordered_set<std::string> seen_;
};

// Exactly the memory condition.
int least_bank(const std::vector<TinyTask>& tasks) {
  int prefixes = 0;
  int direct = 0;
  int lead = 0;
  int staged = 0;
  for (const TinyTask& task : tasks) {
    prefixes += task.prefix;
    if (task.staged) {
      lead = std::max(lead, lead_end(task) - task.prefix);
      staged = std::max(staged, task.missing());
    } else {
      direct = std::max(direct, task.missing());
    }
  }
  return prefixes + std::max(direct + lead, staged);
}

YieldingSet charged(const TinySet& set, Broken broken) {
  YieldingSet charges;
  for (const TinyTask& task : set.tasks) {
    if (task.staged) {
      const int stray = task.missing() > 0 ? 1 : 0;
      const int lead = (stray + lead_end(task) - task.prefix) * kLoad;
      charges.staged.push_back({task.period, task.deadline,
                                broken == Broken::lead_not_charged ? 0 : lead, task.execution()});
    } else {
      const int block = direct_block(task);
      const int delay = broken == Broken::direct_loads_ignored ? task.execution() : block;
      const bool stalls = broken != Broken::stalls_not_charged;
      charges.direct.push_back({{task.period, task.deadline, block},
                                delay,
                                stalls ? std::min(delay, direct_stall(task)) : 0});
    }
  }
  return charges;
}

// Of each direct task, what is released before all direct jobs have gone, all tasks beginning
// together.
std::vector<int64_t> busy_together(const std::vector<DirectDemand>& direct) {
  int64_t busy = 0;
  for (;;) {
    std::vector<int64_t> parts;
    int64_t all = 0;
    for (const DirectDemand& task : direct) {
      parts.push_back((busy / task.demand.period_ns + 1) * task.demand.block_ns);
      all += parts.back();
    }
    if (all == busy) return parts;
    busy = all;
  }
}

// A run waits for each direct task as long as `waits` says.
NpEdfResult stage_with(const YieldingSet& charges, const std::vector<int64_t>& waits,
                       const std::vector<int64_t>& direct_response_ns) {
  std::vector<Demand> staged;
  for (const StagedDemand& task : charges.staged) {
    staged.push_back({task.period_ns, task.deadline_ns, task.lead_ns + task.run_ns});
  }
  NpEdfOptions options;
  for (size_t j = 0; j < charges.direct.size(); ++j) {
    const DirectDemand& task = charges.direct[j];
    options.interference.push_back(
        {task.demand.period_ns, direct_response_ns[j], task.delay_ns, task.stall_ns, waits[j]});
  }
  return test_np_edf(staged, options);
}

// One bound per task; empty: refused.
std::vector<int64_t> bounds_of(const TinySet& set, Broken broken) {
  const YieldingSet charges = charged(set, broken);
  YieldingResult result = test_yielding(charges, {});
  if (broken == Broken::runs_block_nobody) {
    std::vector<Demand> direct;
    for (const DirectDemand& task : charges.direct) direct.push_back(task.demand);
    result.direct = test_np_edf(direct, {});
  }
  if (broken == Broken::waits_not_charged && result.direct.schedulable) {
    const std::vector<int64_t> none(charges.direct.size(), 0);
    result.stage = stage_with(charges, none, result.direct.response_ns);
  }
  if (broken == Broken::earlier_run_ignored && result.direct.schedulable) {
    result.stage = stage_with(charges, busy_together(charges.direct), result.direct.response_ns);
  }
  if (!result.direct.schedulable || !result.stage.schedulable) return {};
  std::vector<int64_t> bounds;
  size_t direct = 0;
  size_t staged = 0;
  for (const TinyTask& task : set.tasks) {
    bounds.push_back(task.staged ? result.stage.response_ns[staged++]
                                 : result.direct.response_ns[direct++]);
  }
  return bounds;
}

TinySet random_set(std::mt19937& random) {
  const auto between = [&](int low, int high) {
    return low + static_cast<int>(random() % static_cast<unsigned>(high - low + 1));
  };
  TinySet set;
  const int count = between(2, kMostRandomTasks);
  for (int i = 0; i < count; ++i) {
    TinyTask task;
    task.staged = i == 0 || (i == 1 && between(0, 1) == 0);
    task.chunks = between(1, 3);
    task.prefix = between(0, task.chunks);
    int needs = 0;
    for (int layer = between(1, kMostLayers); layer > 0; --layer) {
      needs = between(std::max(1, needs), task.chunks);
      task.layers.push_back({needs, between(1, 2)});
    }
    const bool rare = task.staged || between(0, 1) == 0;
    task.deadline = rare ? between(8, 20) : between(4, 10);
    task.period = task.deadline + between(0, 3);
    set.tasks.push_back(task);
  }
  set.bank = least_bank(set.tasks);
  return set;
}

TinyTask task_of(int deadline, int period, int chunks, bool staged) {
  return {period, deadline, chunks, 0, staged, {{chunks, 1}}};
}

// Sets in which a wrong choice costs most; random ones seldom get there.
std::vector<TinySet> tight_sets() {
  // The second has its lead, or nearly so, when the first comes and takes its memory.
  const std::vector<TinyTask> two_stages{task_of(18, 18, 3, true), task_of(26, 26, 3, true)};
  // The lead is what lies in the way when both direct ones come.
  const std::vector<TinyTask> two_direct{task_of(40, 60, 3, true), task_of(22, 60, 3, false),
                                         task_of(22, 60, 3, false)};
  // Often there, and nothing to restore: only a run whose lead is there waits for it.
  std::vector<TinyTask> beside{task_of(20, 20, 3, true), task_of(5, 5, 1, false)};
  beside[1].prefix = 1;
  std::vector<TinySet> sets;
  for (const std::vector<TinyTask>& tasks : {two_stages, two_direct, beside}) {
    sets.push_back({tasks, least_bank(tasks)});
  }
  return sets;
}

constexpr size_t kRandomFirst = 200;

struct Outcome {
  int accepted = 0;
  int broken_bounds = 0;
};

Outcome search(Broken broken, int rounds, int horizon) {
  std::mt19937 random(29);
  std::vector<TinySet> sets = tight_sets();
  Outcome outcome;
  for (int round = 0; round < rounds && outcome.broken_bounds == 0; ++round) {
    // Quick ones first: most mistakes show in some random set.
    const size_t tight = static_cast<size_t>(round) - kRandomFirst;
    const TinySet set = tight < sets.size() ? sets[tight] : random_set(random);
    const std::vector<int64_t> bounds = bounds_of(set, broken);
    if (bounds.empty()) continue;
    ++outcome.accepted;
    const std::vector<int> worst = Everything(set, broken, horizon).worst_responses();
    bool above = false;
    for (size_t i = 0; i < bounds.size(); ++i) above |= worst[i] > bounds[i];
    outcome.broken_bounds += above;
  }
  return outcome;
}

TEST_CASE("yielding: whatever happens, no response is above its bound") {
  const Outcome outcome = search(Broken::nothing, 1500, 14);
  INFO("accepted: " << outcome.accepted);
  CHECK(outcome.accepted > 50);
  CHECK(outcome.broken_bounds == 0);
}

TEST_CASE("yielding: each rule of the protocol, and each charge, is needed") {
  const Broken broken =
      GENERATE(Broken::lead_taken, Broken::stray_ignored, Broken::staged_by_deadline,
               Broken::lead_before_direct, Broken::prefetch_while_held, Broken::stage_taken_away,
               Broken::lead_too_short, Broken::lead_not_charged, Broken::direct_loads_ignored,
               Broken::runs_block_nobody, Broken::waits_not_charged);
  INFO("broken: " << static_cast<int>(broken));
  CHECK(search(broken, 6000, 14).broken_bounds > 0);
}

// A lead that takes the memory of a direct task again and again, though it need not.
TEST_CASE("yielding: each direct job stalls the lead") {
  TinySet set{{task_of(250, 250, 15, true), task_of(249, 250, 15, true), task_of(10, 10, 2, false)},
              0};
  set.bank = least_bank(set.tasks);
  const auto worst = Everything(set, Broken::nothing, 120, true).worst_responses();
  const std::vector<int64_t> bounds = bounds_of(set, Broken::nothing);
  const std::vector<int64_t> too_low = bounds_of(set, Broken::stalls_not_charged);
  REQUIRE(bounds.size() == 3);
  REQUIRE(too_low.size() == 3);
  INFO(worst[0] << " of " << bounds[0]);
  for (size_t i = 0; i < bounds.size(); ++i) CHECK(worst[i] <= bounds[i]);
  CHECK(worst[0] > too_low[0]);
}

// Nothing is ever missing. All together, the direct ones take 4 ticks; during a run of 5 and until
// they have gone, 9 come.
TEST_CASE("yielding: what came during an earlier run is waited for where no lead covers it") {
  TinySet set{{task_of(40, 40, 1, true), task_of(40, 40, 1, true), task_of(6, 6, 1, false),
               task_of(9, 9, 1, false)},
              0};
  const int executions[] = {5, 1, 1, 3};
  for (size_t i = 0; i < set.tasks.size(); ++i) {
    set.tasks[i].prefix = 1;
    set.tasks[i].layers = {{1, executions[i]}};
  }
  set.bank = least_bank(set.tasks);
  const auto worst = Everything(set, Broken::nothing, 14).worst_responses();
  const std::vector<int64_t> bounds = bounds_of(set, Broken::nothing);
  const std::vector<int64_t> too_low = bounds_of(set, Broken::earlier_run_ignored);
  REQUIRE(bounds.size() == 4);
  REQUIRE(too_low.size() == 4);
  INFO(worst[1] << " of " << bounds[1]);
  for (size_t i = 0; i < bounds.size(); ++i) CHECK(worst[i] <= bounds[i]);
  CHECK(worst[1] > too_low[1]);
}

TEST_CASE("yielding: blocking counts once a run, not once a window") {
  YieldingSet set;
  set.staged = {{100, 15, 4, 1}, {100, 15, 4, 1}};
  CHECK(test_yielding(set, {}).schedulable);
  set.direct = {{{100, 100, 5}, 5}, {{100, 100, 5}, 5}};
  const YieldingResult result = test_yielding(set, {});
  CHECK(result.direct.schedulable);
  CHECK_FALSE(result.stage.schedulable);
}

TEST_CASE("yielding: what restores nothing is in the way of a run, not of its lead") {
  YieldingSet set;
  set.staged = {{100, 100, 60, 5}};
  set.direct = {{{10, 10, 4}, 4, 0}};
  // 11 blocks reach into 100, but the run waits for one.
  const YieldingResult result = test_yielding(set, {});
  REQUIRE(result.schedulable);
  CHECK(result.direct.response_ns[0] == 9);
  CHECK(result.stage.response_ns[0] == 65 + 4);
  set.direct[0].stall_ns = 4;
  CHECK_FALSE(test_yielding(set, {}).schedulable);
}

// The first run takes [0, 3). All direct tasks are released just after its start, and again as soon
// as they may be: they end at 7, 11, 12, 16, 20, 21 and 25. The second run ends at 28.
TEST_CASE("yielding: a run waits for what came during the run before it") {
  YieldingSet set;
  set.staged = {{200, 100, 0, 3}, {200, 100, 0, 3}};
  set.direct = {{{10, 10, 4}, 4, 0}, {{13, 13, 4}, 4, 0}, {{17, 17, 1}, 1, 0}};
  const YieldingResult result = test_yielding(set, {});
  REQUIRE(result.schedulable);
  for (const int64_t response_ns : result.stage.response_ns) CHECK(response_ns >= 28);
}

// What comes during the run before it, the run does not wait for, if that is through when its lead
// is there.
TEST_CASE("yielding: a long lead covers what came during the run before it") {
  YieldingSet set;
  set.staged = {{200, 100, 3, 6}, {200, 100, 12, 6}};
  set.direct = {{{10, 10, 4}, 4, 0}};
  // 4 at a time; behind a run 8, the second of which the lead of 3 does not cover altogether.
  const YieldingResult result = test_yielding(set, {});
  REQUIRE(result.schedulable);
  CHECK(result.stage.response_ns ==
        std::vector<int64_t>{4 + 6 + 12 + 6 + 2 * 4, 4 + 6 + 12 + 6 + 2 * 4});
}

TEST_CASE("yielding: copy engine and device both below full use are not enough") {
  YieldingSet set;
  set.staged = {{10, 10, 5, 1}, {10, 10, 5, 1}};
  CHECK_FALSE(test_yielding(set, {}).schedulable);
}

TEST_CASE("yielding: without staged tasks it is the test of direct ones") {
  const std::vector<Demand> direct{{20, 10, 2}, {30, 25, 6}};
  YieldingSet set;
  for (const Demand& demand : direct) set.direct.push_back({demand, 99});
  const YieldingResult result = test_yielding(set, {3, 99, 1});
  CHECK(result.schedulable);
  CHECK(result.direct.response_ns == test_np_edf(direct, {3, 1, {}}).response_ns);
}

TEST_CASE("yielding: best effort and a staged job in the way add up") {
  YieldingSet set;
  set.staged = {{100, 50, 4, 1}, {200, 200, 10, 5}};
  const YieldingResult plain = test_yielding(set, {});
  REQUIRE(plain.schedulable);
  CHECK(plain.stage.response_ns[0] == 15 + 5);
  CHECK(test_yielding(set, {7, 9, 2}).stage.response_ns[0] == 15 + 5 + 9 + 2);
}

}  // namespace
}  // namespace rtswap::policy
