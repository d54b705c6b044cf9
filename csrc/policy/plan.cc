#include "csrc/policy/plan.h"

#include <algorithm>
#include <limits>
#include <optional>

namespace rtswap::policy {
namespace {

constexpr int64_t kForever_ns = std::numeric_limits<int64_t>::max();

// Which arena relieves a failing window first.
enum class Order : uint8_t { most_relief, blocking_first, by_rate };
constexpr Order kOrders[] = {Order::most_relief, Order::blocking_first, Order::by_rate};

class Planner {
 public:
  Planner(const AdmissionInput& input, const std::vector<ArenaUse>& arenas, Effort* effort)
      : input_(input), arenas_(arenas), effort_(effort) {
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
    for (const ArenaUse& arena : arenas_) hidden_.push_back(hidden_chunks(arena));
  }

  // No more than the promise needs: what is not kept for one arena is shared by all, and whose
  // deadline comes next uses it.
  Prefixes plan() {
    if (everything_fits()) return named();
    restart();
    if (!find_failing_window()) return named();
    for (const Order order : kOrders) {
      if (spent()) return named();
      restart();
      raise_largest();
      if (order == Order::by_rate) fill();
      if (relieve_until_it_passes(order)) return named();
    }
    fill();
    return named();
  }

 private:
  bool spent() const { return effort_ != nullptr && effort_->spent(); }

  // --- memory ----------------------------------------------------------------------------------

  bool everything_fits() {
    uint64_t all = 0;
    resident_.clear();
    for (const ArenaUse& arena : arenas_) {
      const uint32_t most = arena.resident ? arena.chunks : arena.most_resident_chunks;
      if (most < arena.chunks) return false;
      all += arena.chunks;
      resident_.push_back(arena.chunks);
    }
    return all <= input_.bank_chunks;
  }

  void restart() {
    resident_ = base_;
    kept_ = 0;
    for (const uint32_t chunks : resident_) kept_ += chunks;
    find_largest();
  }

  uint32_t missing(size_t arena) const { return arenas_[arena].chunks - resident_[arena]; }

  void find_largest() {
    largest_ = Largest{};
    for (size_t arena = 0; arena < arenas_.size(); ++arena) {
      const uint32_t chunks = missing(arena);
      if (chunks > largest_.chunks) {
        largest_ = Largest{arena, chunks, largest_.chunks};
      } else {
        largest_.next_chunks = std::max(largest_.next_chunks, chunks);
      }
    }
  }

  uint32_t largest_missing_besides(size_t arena) const {
    return arena == largest_.arena ? largest_.next_chunks : largest_.chunks;
  }

  // By how much the prefix of `arena` may grow: as far as it is alone the largest to swap in, its
  // prefix only takes what its job would need anyway.
  uint32_t room(size_t arena) const {
    const uint32_t limit = arenas_[arena].most_resident_chunks;
    if (resident_[arena] >= limit) return 0;
    const uint32_t others = largest_missing_besides(arena);
    const uint32_t free_growth = missing(arena) > others ? missing(arena) - others : 0;
    const uint64_t used = kept_ + std::max(missing(arena), others);
    const uint64_t left = input_.bank_chunks > used ? input_.bank_chunks - used : 0;
    return static_cast<uint32_t>(std::min<uint64_t>(limit - resident_[arena], free_growth + left));
  }

  void raise(size_t arena, uint32_t chunks) {
    if (chunks == 0) return;
    resident_[arena] += chunks;
    kept_ += chunks;
    find_largest();
  }

  // Free in the memory condition: relief that costs the other arenas nothing of their prefixes.
  void raise_largest() {
    const size_t arena = largest_.arena;
    if (largest_.chunks == largest_.next_chunks || arenas_[arena].promised.empty()) return;
    raise(arena, std::min(largest_.chunks - largest_.next_chunks, room(arena)));
  }

  // What is left: where restores are most frequent.
  void fill() {
    for (const size_t arena : by_rate_) {
      raise(arena, room(arena));
      raise_largest();
    }
  }

  // --- the failing window ----------------------------------------------------------------------

  bool relieve_until_it_passes(Order order) {
    // Each step fills an arena, or clears a window, or ends: far fewer in practice.
    for (size_t step = 0; step < 64 + 16 * arenas_.size(); ++step) {
      const auto failure = find_failing_window();
      if (!failure) return true;
      if (unknown_bandwidth_ || spent() || !relieve(*failure, order)) return false;
      raise_largest();
    }
    return false;
  }

  // nullopt: the test passes. Sets unknown_bandwidth_ when no restore can be promised.
  std::optional<Failure> find_failing_window() {
    update_demands();
    if (unknown_bandwidth_) return Failure{};
    return find_failure(demands_, NpEdfOptions{0, input_.link.overhead_ns}, effort_);
  }

  void update_demands() {
    const Prefixes prefixes = named();
    charges_ = charges_of(input_, arenas_, prefixes, prefixes);
    demands_.clear();
    unknown_bandwidth_ = false;
    for (size_t i = 0; i < input_.promised.size(); ++i) {
      const TaskModel& task = input_.promised[i];
      unknown_bandwidth_ |= charges_[i].block_ns == kForever_ns;
      demands_.push_back(Demand{task.period_ns, task.deadline_ns, charges_[i].block_ns});
    }
    demands_.insert(demands_.end(), input_.leaving.begin(), input_.leaving.end());
  }

  bool relieve(const Failure& failure, Order order) {
    if (failure.kind != Failure::Kind::demand) return relieve_load();
    const int64_t excess_ns = failure.demand_ns - failure.t_ns;
    if (order == Order::blocking_first && relieve_blocking(failure, excess_ns)) return true;
    return relieve_demand(failure.t_ns, excess_ns) || relieve_blocking(failure, excess_ns);
  }

  // Too much work in the long run.
  bool relieve_load() {
    for (const size_t arena : by_rate_) {
      if (const uint32_t chunks = room(arena); chunks > 0) {
        raise(arena, chunks);
        return true;
      }
    }
    return false;
  }

  // How much of the arena its own tasks restore behind their execution, at no cost to their blocks.
  uint32_t hidden_chunks(const ArenaUse& arena) const {
    uint32_t hidden = arena.chunks;
    for (const size_t i : arena.promised) {
      const TaskModel& task = input_.promised[i];
      hidden = most_missing(task, hidden, 0, block_ns(input_.link, task, 0, 0));
    }
    return hidden;
  }

  // The most chunks, up to `missing`, that a job may have to restore with its block within `goal`;
  // 0 when none will do.
  uint32_t most_missing(const TaskModel& task, uint32_t missing, uint32_t write_back,
                        int64_t goal_ns) const {
    uint32_t fits = 0;
    for (uint32_t exceeds = missing + 1; exceeds - fits > 1;) {
      const uint32_t middle = fits + (exceeds - fits) / 2;
      const bool within = block_ns(input_.link, task, middle, write_back) <= goal_ns;
      (within ? fits : exceeds) = middle;
    }
    return fits;
  }

  uint32_t costless(size_t arena) const {
    const bool waits_for_victims = charges_[arenas_[arena].promised[0]].write_back_chunks > 0;
    return waits_for_victims ? 0 : hidden_[arena];
  }

  // What `chunks` more of the prefix take out of the window.
  int64_t relief_ns(const ArenaUse& arena, uint32_t missing_chunks, uint32_t chunks,
                    int64_t t_ns) const {
    int64_t relief_ns = 0;
    for (const size_t i : arena.promised) {
      const TaskModel& task = input_.promised[i];
      if (t_ns < task.deadline_ns) continue;
      const int64_t jobs = 1 + (t_ns - task.deadline_ns) / task.period_ns;
      const uint32_t left = missing_chunks - chunks;
      const uint32_t write_back = std::min(left, charges_[i].write_back_chunks);
      relief_ns += jobs * (demands_[i].block_ns - block_ns(input_.link, task, left, write_back));
    }
    return relief_ns;
  }

  // The arena that takes most out of the window per chunk, up to what the window needs. Where it
  // cannot give that, all of the prefix counts that shortens its jobs: those that restore nothing,
  // or only behind their execution, also save the stray prefetch.
  bool relieve_demand(int64_t t_ns, int64_t excess_ns) {
    double best_score = 0;
    size_t best = arenas_.size();
    uint32_t best_chunks = 0;
    for (const size_t arena : by_rate_) {
      const uint32_t lacks = missing(arena);
      if (lacks <= costless(arena) || room(arena) == 0) continue;
      const auto relief = [&](uint32_t chunks) {
        return relief_ns(arenas_[arena], lacks, chunks, t_ns);
      };
      uint32_t chunks = lacks - costless(arena);
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
    raise(best, std::min(best_chunks, room(best)));
    return true;
  }

  // All blocks beyond the window that are too long, by as much as the window needs or memory gives.
  bool relieve_blocking(const Failure& failure, int64_t excess_ns) {
    if (!failure.blocking_task) return false;
    const int64_t goal_ns = demands_[*failure.blocking_task].block_ns - excess_ns;
    bool relieved = false;
    for (const size_t arena : by_rate_) {
      uint32_t may_miss = missing(arena);
      for (const size_t i : arenas_[arena].promised) {
        const TaskModel& task = input_.promised[i];
        if (task.deadline_ns <= failure.t_ns || demands_[i].block_ns <= goal_ns) continue;
        may_miss = most_missing(task, may_miss, charges_[i].write_back_chunks, goal_ns);
      }
      const uint32_t chunks = std::min(missing(arena) - may_miss, room(arena));
      raise(arena, chunks);
      relieved |= chunks > 0;
    }
    return relieved;
  }

  Prefixes named() const {
    Prefixes prefixes;
    for (size_t arena = 0; arena < arenas_.size(); ++arena) {
      prefixes[arenas_[arena].key] = resident_[arena];
    }
    return prefixes;
  }

  const AdmissionInput& input_;
  const std::vector<ArenaUse>& arenas_;
  Effort* const effort_;
  std::vector<double> rates_;    // releases per ns, by arena
  std::vector<size_t> by_rate_;  // arenas of promised tasks, highest rate first
  std::vector<uint32_t> base_;
  std::vector<uint32_t> resident_;
  uint64_t kept_ = 0;
  // The arena of which most is missing, and how much the next one misses.
  struct Largest {
    size_t arena = 0;
    uint32_t chunks = 0;
    uint32_t next_chunks = 0;
  } largest_;
  std::vector<uint32_t> hidden_;
  std::vector<Charge> charges_;
  std::vector<Demand> demands_;
  bool unknown_bandwidth_ = false;
};

}  // namespace

Plan make_plan(const AdmissionInput& input, Effort* effort) {
  const std::vector<ArenaUse> arenas = arenas_of(input);
  Plan plan;
  plan.shortage = shortage_of(arenas, input.bank_chunks);
  if (!plan.shortage) plan.prefixes = Planner(input, arenas, effort).plan();
  return plan;
}

std::vector<Charge> charges_of(const AdmissionInput& input, const std::vector<ArenaUse>& arenas,
                               const Prefixes& planned, const Prefixes& guaranteed) {
  // Mutable chunks may lie anywhere in an arena, so all that can be evicted may be mutable.
  const auto exposed = [&](const ArenaUse& arena) {
    return std::min(arena.mutable_chunks, arena.chunks - prefix_of(planned, arena.key));
  };
  uint64_t all_exposed = 0;
  for (const ArenaUse& arena : arenas) all_exposed += exposed(arena);
  std::vector<Charge> charges(input.promised.size() + input.best_effort.size());
  for (const ArenaUse& arena : arenas) {
    Charge charge;
    charge.missing_chunks = arena.chunks - prefix_of(guaranteed, arena.key);
    charge.write_back_chunks = static_cast<uint32_t>(
        std::min<uint64_t>(all_exposed - exposed(arena), charge.missing_chunks));
    const auto fill_in = [&](const TaskModel& task, Charge& to) {
      to = charge;
      to.block_ns = block_ns(input.link, task, charge.missing_chunks, charge.write_back_chunks);
    };
    for (const size_t i : arena.promised) fill_in(input.promised[i], charges[i]);
    for (const size_t i : arena.best_effort) {
      fill_in(input.best_effort[i], charges[input.promised.size() + i]);
    }
  }
  return charges;
}

}  // namespace rtswap::policy
