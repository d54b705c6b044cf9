#include "csrc/policy/plan.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "csrc/policy/charges.h"
#include "csrc/policy/room.h"
#include "csrc/policy/staging.h"

namespace rtswap::policy {
namespace {

constexpr int64_t kForever_ns = std::numeric_limits<int64_t>::max();

// Which arena relieves a failing window first.
enum class Order : uint8_t { most_relief, blocking_first, by_rate };
constexpr Order kOrders[] = {Order::most_relief, Order::blocking_first, Order::by_rate};

// Arenas may all begin with so much of a prefix that none misses more than this part of the
// largest: one at a time, none would find that to shorten the longest pays only when all are
// shortened.
constexpr uint32_t kWholeLevel = 8;
constexpr uint32_t kLevels[] = {7, 6, 5, 4, 3, 2, 1};
// Larger sets are not tried with levels.
constexpr size_t kMostLevelled = 16;

// What a step costs beside its test, for each arena, as Effort counts.
constexpr int64_t kStepEffort = 20;

class Planner {
 public:
  Planner(const AdmissionInput& input, const std::vector<ArenaUse>& arenas,
          std::vector<uint32_t> lead_ends, Effort* effort)
      : input_(input),
        arenas_(arenas),
        effort_(effort),
        room_(arenas, std::move(lead_ends), input.bank_chunks),
        link_(input.link) {
    for (size_t arena = 0; arena < arenas_.size(); ++arena) {
      if (room_.staged(arena)) link_ = staging_link(input.link);
    }
    for (const ArenaUse& arena : arenas_) {
      double rate = 0;
      for (const size_t task : arena.promised) {
        rate += 1.0 / static_cast<double>(input_.promised[task].period_ns);
      }
      rates_.push_back(rate);
      base_.push_back(arena.resident ? arena.chunks : 0);
      if (arena.promised.empty()) continue;
      by_rate_.push_back(rates_.size() - 1);
    }
    std::stable_sort(by_rate_.begin(), by_rate_.end(),
                     [this](size_t a, size_t b) { return rates_[a] > rates_[b]; });
    for (size_t arena = 0; arena < arenas_.size(); ++arena) {
      hidden_.push_back(hidden_chunks(arena));
      for (const size_t i : arenas_[arena].promised) {
        (room_.staged(arena) ? staged_tasks_ : direct_tasks_).push_back(i);
      }
    }
    std::sort(direct_tasks_.begin(), direct_tasks_.end());
    std::sort(staged_tasks_.begin(), staged_tasks_.end());
  }

  // True: what prefixes() then says passes the test. No more than the promise needs: what is not
  // kept for one arena is shared by all, and whose deadline comes next uses it.
  bool plan() {
    if (everything_fits()) return !find_failing_window();
    room_.restart(base_);
    if (!room_.fits()) return false;
    if (!find_failing_window()) return true;
    if (plan_from(base_)) return true;
    fill();
    return false;
  }

  // The same, from equal levels.
  bool plan_levelled() {
    for (const uint32_t level : kLevels) {
      if (plan_from(levelled(level))) return true;
    }
    return false;
  }

  Prefixes prefixes() const {
    Prefixes prefixes;
    for (size_t arena = 0; arena < arenas_.size(); ++arena) {
      prefixes[arenas_[arena].key] = room_.prefix(arena);
    }
    return prefixes;
  }

  Staged staged() const {
    Staged staged;
    for (size_t arena = 0; arena < arenas_.size(); ++arena) {
      if (!room_.staged(arena)) continue;
      staged[arenas_[arena].key] = std::max(room_.prefix(arena), room_.lead_end(arena));
    }
    return staged;
  }

 private:
  struct Window {
    bool of_stage = false;
    Failure failure;  // its tasks as indices of input.promised; none: a task that is leaving
    std::vector<int64_t> reach_ns;  // of_stage: responses of the direct ones, by promised task
  };

  bool plan_from(const std::vector<uint32_t>& prefixes) {
    for (const Order order : kOrders) {
      room_.restart(prefixes);
      if (spent() || !room_.fits()) return false;
      room_.raise_free();
      if (order == Order::by_rate) fill();
      if (relieve_until_it_passes(order)) return true;
    }
    return false;
  }

  std::vector<uint32_t> levelled(uint32_t level) const {
    uint32_t largest = 0;
    for (const ArenaUse& arena : arenas_) {
      if (!arena.resident) largest = std::max(largest, arena.chunks);
    }
    const uint32_t most = std::max(1U, largest * level / kWholeLevel);
    std::vector<uint32_t> prefixes = base_;
    for (size_t arena = 0; arena < arenas_.size(); ++arena) {
      const ArenaUse& use = arenas_[arena];
      if (use.promised.empty()) continue;
      const uint32_t beyond = use.chunks - std::min(use.chunks, most);
      prefixes[arena] = std::max(prefixes[arena], std::min(beyond, use.most_resident_chunks));
    }
    return prefixes;
  }

  bool spent() const { return effort_ != nullptr && effort_->spent(); }

  bool everything_fits() {
    uint64_t all = 0;
    std::vector<uint32_t> prefixes;
    for (const ArenaUse& arena : arenas_) {
      const uint32_t most = arena.resident ? arena.chunks : arena.most_resident_chunks;
      if (most < arena.chunks) return false;
      all += arena.chunks;
      prefixes.push_back(arena.chunks);
    }
    if (all > input_.bank_chunks) return false;
    room_.restart(prefixes);
    return true;
  }

  // What is left: where restores are most frequent.
  void fill() {
    for (const size_t arena : by_rate_) {
      room_.raise(arena, room_.growth(arena));
      room_.raise_free();
    }
  }

  bool relieve_until_it_passes(Order order) {
    // Each step fills an arena, or clears a window, or ends: far fewer in practice.
    for (size_t step = 0; step < 64 + 16 * arenas_.size(); ++step) {
      const auto window = find_failing_window();
      if (!window) return true;
      if (unknown_bandwidth_ || spent() || !relieve(*window, order)) return false;
      room_.raise_free();
    }
    return false;
  }

  // nullopt: the test passes. Sets unknown_bandwidth_ when no restore can be promised.
  std::optional<Window> find_failing_window() {
    if (effort_ != nullptr) effort_->left -= kStepEffort * static_cast<int64_t>(arenas_.size());
    const Prefixes now = prefixes();
    charges_ = charges_of(input_, arenas_, now, now, staged());
    unknown_bandwidth_ = false;
    for (size_t i = 0; i < input_.promised.size(); ++i) {
      unknown_bandwidth_ |= charges_[i].block_ns == kForever_ns;
    }
    if (unknown_bandwidth_) return Window{};
    const YieldingOptions options{0, 0, link_.overhead_ns};
    const auto failure = find_failure(demands_of(input_, charges_), options, effort_);
    if (!failure) return std::nullopt;
    Window window{failure->of_stage, failure->failure, {}};
    const std::vector<size_t>& tasks = failure->of_stage ? staged_tasks_ : direct_tasks_;
    if (auto& blocking = window.failure.blocking_task) {
      blocking = *blocking < tasks.size() ? std::optional(tasks[*blocking]) : std::nullopt;
    }
    window.reach_ns.resize(failure->of_stage ? input_.promised.size() : 0);
    for (size_t j = 0; failure->of_stage && j < direct_tasks_.size(); ++j) {
      window.reach_ns[direct_tasks_[j]] = failure->direct_response_ns[j];
    }
    return window;
  }

  // --- what is relieved ------------------------------------------------------------------------

  // Jobs of an arena's task in the window, as its test counts them.
  int64_t jobs(size_t arena, size_t i, const Window& window) const {
    const TaskModel& task = input_.promised[i];
    const int64_t t_ns = window.failure.t_ns;
    if (room_.staged(arena) && !window.of_stage) return 0;
    if (window.of_stage && !room_.staged(arena)) {
      return (t_ns + window.reach_ns[i] + task.period_ns - 1) / task.period_ns;
    }
    return t_ns < task.deadline_ns ? 0 : 1 + (t_ns - task.deadline_ns) / task.period_ns;
  }

  // What the window's test charges for one of them if `missing` is all it may have to restore.
  int64_t cost_ns(size_t arena, size_t i, uint32_t missing, const Window& window) const {
    const Charge charge = charge_of(link_, input_.promised[i], missing, charges_[i].write_back,
                                    room_.lead_end(arena));
    if (room_.staged(arena)) return charge.lead_ns + charge.run_ns;
    return window.of_stage ? charge.delay_ns : charge.block_ns;
  }

  bool relieve(const Window& window, Order order) {
    if (window.failure.kind != Failure::Kind::demand) return relieve_load(window);
    const int64_t excess_ns = window.failure.demand_ns - window.failure.t_ns;
    if (order == Order::blocking_first && relieve_blocking(window, excess_ns)) return true;
    return relieve_demand(window, excess_ns) || relieve_blocking(window, excess_ns);
  }

  // Too much work in the long run.
  bool relieve_load(const Window& window) {
    for (const size_t arena : by_rate_) {
      if (room_.staged(arena) && !window.of_stage) continue;
      if (const uint32_t chunks = room_.growth(arena); chunks > 0) {
        room_.raise(arena, chunks);
        return true;
      }
    }
    return false;
  }

  // How much of the arena its own tasks restore behind their execution, at no cost to what is
  // charged for them but that it may be leaving when they begin.
  uint32_t hidden_chunks(size_t arena) const {
    uint32_t hidden = arenas_[arena].chunks;
    if (room_.staged(arena)) return hidden - room_.lead_end(arena);
    for (const size_t i : arenas_[arena].promised) {
      const TaskModel& task = input_.promised[i];
      const int64_t alone_ns = block_ns(link_, task, 0, {});
      hidden = most_missing(hidden, [&](uint32_t missing) {
        return block_ns(link_, task, missing, {}) - leaving_ns(link_, task, missing, {}) <=
               alone_ns;
      });
    }
    return hidden;
  }

  // The most chunks, up to `missing`, that may be restored as far as `within` says; 0 when none.
  template <class Within>
  static uint32_t most_missing(uint32_t missing, Within within) {
    uint32_t fits = 0;
    for (uint32_t exceeds = missing + 1; exceeds - fits > 1;) {
      const uint32_t middle = fits + (exceeds - fits) / 2;
      (within(middle) ? fits : exceeds) = middle;
    }
    return fits;
  }

  uint32_t costless(size_t arena) const {
    const Charge& charge = charges_[arenas_[arena].promised[0]];
    const bool waits_for_victims = charge.write_back.victims_chunks > 0;
    return waits_for_victims && !room_.staged(arena) ? 0 : hidden_[arena];
  }

  // The arena that takes most out of the window per chunk, up to what the window needs. Where it
  // cannot give that, all of the prefix counts that shortens its jobs: those that restore nothing,
  // or only behind their execution, also save the stray prefetch.
  bool relieve_demand(const Window& window, int64_t excess_ns) {
    double best_score = 0;
    size_t best = arenas_.size();
    uint32_t best_chunks = 0;
    for (const size_t arena : by_rate_) {
      const uint32_t lacks = room_.missing(arena);
      if (lacks == 0 || room_.growth(arena) == 0) continue;
      const auto relief = [&](uint32_t chunks) {
        int64_t relief_ns = 0;
        for (const size_t i : arenas_[arena].promised) {
          const int64_t count = jobs(arena, i, window);
          if (count == 0) continue;
          relief_ns += count * (cost_ns(arena, i, lacks, window) -
                                cost_ns(arena, i, lacks - chunks, window));
        }
        return relief_ns;
      };
      const uint32_t costless_chunks = costless(arena);
      uint32_t chunks = lacks > costless_chunks ? lacks - costless_chunks : lacks;
      const int64_t most_ns = relief(chunks);
      if (most_ns > excess_ns) {
        for (uint32_t too_few = 0; chunks - too_few > 1;) {
          const uint32_t middle = too_few + (chunks - too_few) / 2;
          (relief(middle) >= excess_ns ? chunks : too_few) = middle;
        }
      }
      const double score = static_cast<double>(std::min(most_ns, excess_ns)) / chunks;
      if (score > best_score) {
        best_score = score;
        best = arena;
        best_chunks = chunks;
      }
    }
    if (best == arenas_.size()) return false;
    room_.raise(best, std::min(best_chunks, room_.growth(best)));
    return true;
  }

  // All that may be in the way from beyond the window and is too long, by as much as the window
  // needs or memory gives.
  bool relieve_blocking(const Window& window, int64_t excess_ns) {
    const auto& blocking = window.failure.blocking_task;
    if (!blocking) return false;
    const auto now_ns = [&](size_t i) {
      return window.of_stage ? charges_[i].lead_ns + charges_[i].run_ns : charges_[i].block_ns;
    };
    const int64_t goal_ns = now_ns(*blocking) - excess_ns;
    bool relieved = false;
    for (const size_t arena : by_rate_) {
      if (room_.staged(arena) != window.of_stage) continue;
      uint32_t may_miss = room_.missing(arena);
      for (const size_t i : arenas_[arena].promised) {
        if (input_.promised[i].deadline_ns <= window.failure.t_ns || now_ns(i) <= goal_ns) continue;
        may_miss = most_missing(may_miss, [&](uint32_t missing) {
          return cost_ns(arena, i, missing, window) <= goal_ns;
        });
      }
      const uint32_t chunks = std::min(room_.missing(arena) - may_miss, room_.growth(arena));
      room_.raise(arena, chunks);
      relieved |= chunks > 0;
    }
    return relieved;
  }

  const AdmissionInput& input_;
  const std::vector<ArenaUse>& arenas_;
  Effort* const effort_;
  Room room_;
  LinkModel link_;
  std::vector<double> rates_;    // releases per ns, by arena
  std::vector<size_t> by_rate_;  // arenas of promised tasks, highest rate first
  std::vector<uint32_t> base_;
  std::vector<uint32_t> hidden_;
  std::vector<size_t> direct_tasks_;  // indices in input.promised, ascending
  std::vector<size_t> staged_tasks_;
  std::vector<Charge> charges_;
  bool unknown_bandwidth_ = false;
};

// Work on staged plans, as it is counted in np_edf.h, before a set is given up.
constexpr int64_t kStagingEffort = 3'000'000;

// Even with all memory resident.
bool hopeless(const AdmissionInput& input, const std::vector<ArenaUse>& arenas,
              const std::vector<uint32_t>& lead_ends, Effort* effort) {
  std::vector<Charge> charges(input.promised.size());
  for (size_t arena = 0; arena < arenas.size(); ++arena) {
    for (const size_t i : arenas[arena].promised) {
      charges[i] = charge_of(staging_link(input.link), input.promised[i], 0, {}, lead_ends[arena]);
    }
  }
  const YieldingOptions options{0, 0, input.link.overhead_ns};
  return find_failure(demands_of(input, charges), options, effort).has_value();
}

}  // namespace

Plan make_plan(const AdmissionInput& input, Effort* effort, PlanSearch* search) {
  const std::vector<ArenaUse> arenas = arenas_of(input);
  PlanSearch whole;
  PlanSearch& at = search != nullptr ? *search : whole;
  Plan plan;
  plan.shortage = shortage_of(arenas, input.bank_chunks);
  // Work of those that left is only known as blocks; a prefetch has to be charged for its own size.
  const bool may_stage = input.staging && input.leaving.empty() && input.link.prefetch_chunks > 0 &&
                         input.link.restore_bytes_per_s > 0;
  at.ended = plan.shortage || (at.next > 0 && !may_stage);
  if (at.ended) return plan;
  const bool levels = arenas.size() <= kMostLevelled;
  if (at.next == 0) {
    Planner direct(input, arenas, std::vector<uint32_t>(arenas.size(), 0), effort);
    bool passes = direct.plan();
    plan.prefixes = direct.prefixes();
    if (!passes && levels && direct.plan_levelled()) {
      passes = true;
      plan.prefixes = direct.prefixes();
    }
    at.ended = passes || !may_stage;
    if (at.ended) return plan;
    at.next = 1;
  }
  Effort own{kStagingEffort};
  Effort* const left = effort != nullptr ? effort : &own;
  const std::vector<std::vector<uint32_t>> choices = staged_choices(input, arenas);
  for (; at.next <= choices.size() * (levels ? 2 : 1); ++at.next) {
    if (left->spent()) return plan;
    const bool levelled = at.next > choices.size();
    const std::vector<uint32_t>& lead_ends = choices[(at.next - 1) % choices.size()];
    if (hopeless(input, arenas, lead_ends, left)) continue;
    Planner staged(input, arenas, lead_ends, left);
    if (!(levelled ? staged.plan_levelled() : staged.plan())) continue;
    plan.prefixes = staged.prefixes();
    plan.staged = staged.staged();
    break;
  }
  at.ended = true;
  return plan;
}

}  // namespace rtswap::policy
