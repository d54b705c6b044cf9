#include "csrc/policy/np_edf.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "csrc/base/check.h"

namespace rtswap::policy {
namespace {

using Wide = __int128;  // demand over a long horizon exceeds 64 bits

constexpr int64_t kNone_ns = std::numeric_limits<int64_t>::min();
// Beyond this window length (292 years) nothing is tested.
constexpr int64_t kLongest_ns = std::numeric_limits<int64_t>::max() / 4;
// Points visited before the test gives up: reached only within about 1e-7 of full utilisation.
constexpr int64_t kMostSteps = 2'000'000;
// Points visited to turn "fails" into "fails first at", each at a cost that grows with the tasks:
// beyond, the failure known is reported.
constexpr int64_t kMostDiagnosisSteps = 20'000;
constexpr int64_t kDiagnosisWork = 200'000;
constexpr int64_t kDiagnosisStepsPerTask = 20;
// Sums of quotients in long double are exact to far better than this.
constexpr long double kRounding = 1e-12L;

class Test {
 public:
  Test(const std::vector<Demand>& tasks, const NpEdfOptions& options, Effort* effort)
      : tasks_(tasks), options_(options), effort_(effort) {}

  NpEdfResult run() {
    NpEdfResult result;
    if (tasks_.empty()) {
      result.schedulable = true;
      return result;
    }
    add_up();
    result.utilisation = static_cast<double>(utilisation_);
    result.failure = scan();
    const bool to_locate = effort_ == nullptr && result.failure;
    if (to_locate && result.failure->kind != Failure::Kind::unbounded) {
      const bool overload = result.failure->kind == Failure::Kind::utilisation;
      result.failure = locate(*result.failure, overload ? kLongest_ns : result.failure->t_ns);
    }
    result.schedulable = !result.failure;
    if (result.schedulable) {
      for (const Demand& task : tasks_) add_response(task, result);
    }
    return result;
  }

  std::optional<Failure> decide() {
    if (tasks_.empty()) return std::nullopt;
    if (gave_up()) return Failure{Failure::Kind::unbounded, 0, 0, 0, {}};
    uninteresting_ns_ = 0;
    add_up();
    return scan();
  }

 private:
  // Ranges of t with constant blocking; `excess` is max(F(t) - t) over the check points inside.
  struct Range {
    int64_t from_ns = 0;
    int64_t to_ns = 0;  // exclusive
    int64_t excess_ns = kNone_ns;
    int64_t at_ns = 0;  // where
  };

  void add_up() {
    for (const Demand& task : tasks_) {
      RTSWAP_CHECK(task.block_ns > 0 && task.deadline_ns > 0 && task.deadline_ns <= task.period_ns,
                   "a demand outside its range");
      utilisation_ += static_cast<long double>(task.block_ns) / task.period_ns;
      jobs_per_ns_ += 1.0L / task.period_ns;
      first_ns_ = std::min(first_ns_, task.deadline_ns);
    }
    for (const Interference& other : options_.interference) {
      RTSWAP_CHECK(other.block_ns > 0 && other.reach_ns >= 0 && other.period_ns > 0,
                   "an interference outside its range");
      RTSWAP_CHECK(
          other.stall_ns >= 0 && other.stall_ns <= other.block_ns && other.wait_ns.value_or(0) >= 0,
          "an interference outside its range");
      utilisation_ += std::min(rate_of(other, false), rate_of(other, true));
    }
  }

  // Of the device, that one of the others takes in the long run: counted by blocks, or by stalls
  // and jobs that wait.
  long double rate_of(const Interference& other, bool by_waits) const {
    if (!by_waits || !other.wait_ns)
      return static_cast<long double>(other.block_ns) / other.period_ns;
    return static_cast<long double>(other.stall_ns) / other.period_ns +
           *other.wait_ns * jobs_per_ns_;
  }

  bool by_waits_in_the_end(const Interference& other) const {
    return rate_of(other, true) < rate_of(other, false);
  }

  std::optional<Failure> scan() {
    if (utilisation_ > 1 + kRounding) return Failure{Failure::Kind::utilisation, 0, 0, 0, {}};
    make_ranges();
    for (Range& range : ranges_) {
      if (range.to_ns == kNone_ns && !close_last_range(range)) {
        return Failure{Failure::Kind::unbounded, 0, 0, 0, {}};
      }
      find_excess(range);
      if (gave_up()) return Failure{Failure::Kind::unbounded, 0, 0, 0, {}};
      if (range.excess_ns > 0) return describe(range.at_ns);
    }
    return std::nullopt;
  }

  void make_ranges() {
    std::vector<int64_t> borders;
    for (const Demand& task : tasks_) {
      borders.push_back(task.deadline_ns);  // responses count from here, and blocking drops
    }
    std::sort(borders.begin(), borders.end());
    borders.erase(std::unique(borders.begin(), borders.end()), borders.end());
    for (size_t i = 0; i + 1 < borders.size(); ++i) {
      ranges_.push_back(Range{borders[i], borders[i + 1], kNone_ns});
    }
    ranges_.push_back(Range{borders.back(), kNone_ns, kNone_ns});
  }

  // From here on the left side stays below the line K + U t, so the excess below K - (1 - U) t:
  // points where that is under an excess already seen need no visit.
  bool close_last_range(Range& range) {
    const int64_t blocking_ns = blocking(range.from_ns);
    long double line_ns = static_cast<long double>(blocking_ns) + options_.release_latency_ns;
    long double jobs = blocking_ns > 0 ? 1 : 0;
    for (const Demand& task : tasks_) {
      const long double more =
          static_cast<long double>(task.period_ns - task.deadline_ns) / task.period_ns;
      line_ns += more * task.block_ns;
      jobs += more;
    }
    for (const Interference& other : options_.interference) {
      const long double more = 1 + static_cast<long double>(other.reach_ns) / other.period_ns;
      line_ns += by_waits_in_the_end(other) ? more * other.stall_ns + jobs * *other.wait_ns
                                            : more * other.block_ns;
    }
    const int64_t seen_ns = std::max(excess(range.from_ns), uninteresting_ns_);
    range.excess_ns = seen_ns;
    const long double spare = 1 - utilisation_ - kRounding;
    if (spare > kRounding) {
      const long double end = (line_ns - seen_ns) / spare + 1;
      if (end < static_cast<long double>(kLongest_ns)) {
        range.to_ns = std::max(range.from_ns + 1, static_cast<int64_t>(std::ceil(end)));
        return true;
      }
    }
    return close_by_hyperperiod(range);
  }

  // Full utilisation: the pattern of F(t) - t repeats with the hyperperiod, if U really is <= 1 and
  // others are always counted the same way.
  bool close_by_hyperperiod(Range& range) {
    repeats_ = true;
    range.excess_ns = std::max(excess(range.from_ns), uninteresting_ns_);
    Wide hyper = 1;
    const auto extend = [&hyper](int64_t period_ns) {
      const auto common = std::gcd(static_cast<int64_t>(hyper), period_ns);
      hyper = hyper / common * period_ns;
      return hyper <= kLongest_ns;
    };
    for (const Demand& task : tasks_) {
      if (!extend(task.period_ns)) return false;
    }
    for (const Interference& other : options_.interference) {
      if (!extend(other.period_ns)) return false;
    }
    Wide work = 0;
    Wide jobs = 0;
    for (const Demand& task : tasks_) {
      work += hyper / task.period_ns * task.block_ns;
      jobs += hyper / task.period_ns;
    }
    for (const Interference& other : options_.interference) {
      work += work_of(other, hyper / other.period_ns, jobs);
    }
    if (work > hyper || hyper > kLongest_ns - range.from_ns) return false;
    range.to_ns = range.from_ns + static_cast<int64_t>(hyper) + 1;
    return true;
  }

  // Sets range.excess_ns and where it is reached.
  void find_excess(Range& range) {
    range.at_ns = range.from_ns;
    range.excess_ns = std::max(range.excess_ns, uninteresting_ns_);
    int64_t t = last_point_before(range.to_ns);
    while (t >= range.from_ns && step()) {
      const int64_t here = excess(t);
      if (here > range.excess_ns) {
        range.excess_ns = here;
        range.at_ns = t;
      }
      // (F(t) - m, t) holds nothing above m = range.excess_ns; F(t) = here + t.
      const int64_t jump = t - (range.excess_ns - here);
      t = jump < t ? last_point_before(jump + 1) : last_point_before(t);
    }
  }

  // False: this point is one too many.
  bool step() {
    ++steps_;
    if (effort_ != nullptr)
      effort_->left -= static_cast<int64_t>(tasks_.size() + options_.interference.size());
    return !gave_up();
  }

  bool gave_up() const { return steps_ >= kMostSteps || (effort_ != nullptr && effort_->spent()); }

  // The latest check point k T + D < t; kNone_ns if there is none.
  int64_t last_point_before(int64_t t) const {
    int64_t latest = kNone_ns;
    for (const Demand& task : tasks_) {
      if (t <= task.deadline_ns) continue;
      const int64_t k = (t - 1 - task.deadline_ns) / task.period_ns;
      latest = std::max(latest, k * task.period_ns + task.deadline_ns);
    }
    return latest;
  }

  int64_t blocking(int64_t t) const {
    int64_t longest = options_.outside_block_ns;
    for (const Demand& task : tasks_) {
      if (task.deadline_ns > t) longest = std::max(longest, task.block_ns);
    }
    return longest;
  }

  Wide left_side(int64_t t) const {
    const int64_t blocking_ns = blocking(t);
    Wide sum = static_cast<Wide>(blocking_ns) + options_.release_latency_ns;
    Wide jobs = blocking_ns > 0 ? 1 : 0;
    for (const Demand& task : tasks_) {
      if (t < task.deadline_ns) continue;
      const Wide count = 1 + (t - task.deadline_ns) / task.period_ns;
      sum += count * task.block_ns;
      jobs += count;
    }
    for (const Interference& other : options_.interference) {
      const Wide reach_ns = static_cast<Wide>(t) + other.reach_ns;
      sum += work_of(other, (reach_ns + other.period_ns - 1) / other.period_ns, jobs);
    }
    return sum;
  }

  // That `count` of the others take from so many jobs of the set.
  Wide work_of(const Interference& other, Wide count, Wide jobs) const {
    const Wide by_blocks = count * other.block_ns;
    if (!other.wait_ns) return by_blocks;
    const Wide by_waits = count * other.stall_ns + jobs * *other.wait_ns;
    if (repeats_) return by_waits_in_the_end(other) ? by_waits : by_blocks;
    return std::min(by_blocks, by_waits);
  }

  int64_t excess(int64_t t) const {
    const Wide value = left_side(t) - t;
    return value > kLongest_ns ? kLongest_ns : static_cast<int64_t>(value);
  }

  void add_response(const Demand& task, NpEdfResult& result) const {
    const Range* worst = nullptr;
    for (const Range& range : ranges_) {
      if (range.from_ns < task.deadline_ns) continue;
      if (worst == nullptr || range.excess_ns > worst->excess_ns) worst = &range;
    }
    RTSWAP_CHECK(worst != nullptr, "the test did not look as far as a deadline");
    result.response_ns.push_back(task.deadline_ns + worst->excess_ns);
    Limit limit{worst->at_ns, {}, blocking(worst->at_ns)};
    for (size_t i = 0; i < tasks_.size(); ++i) {
      const bool blocks = tasks_[i].deadline_ns > limit.t_ns;
      if (blocks && tasks_[i].block_ns == limit.blocking_ns) limit.blocking_task = i;
    }
    result.limits.push_back(limit);
  }

  // --- diagnosis -------------------------------------------------------------------------------

  Failure describe(int64_t t) const {
    Failure failure{Failure::Kind::demand, t, 0, 0, {}};
    failure.demand_ns = excess(t) + t;
    int64_t longest = options_.outside_block_ns;
    for (size_t i = 0; i < tasks_.size(); ++i) {
      const Demand& task = tasks_[i];
      if (t >= task.deadline_ns && (t - task.deadline_ns) % task.period_ns == 0) {
        failure.missing_task = i;
      }
      if (task.deadline_ns > t && task.block_ns > longest) {
        longest = task.block_ns;
        failure.blocking_task = i;
      }
    }
    return failure;
  }

  // The first failing instant up to `end_ns`, or `known` when it is not found soon.
  Failure locate(Failure known, int64_t end_ns) const {
    const auto tasks = static_cast<int64_t>(tasks_.size());
    const int64_t most_steps = std::min(
        kMostDiagnosisSteps, std::max(kDiagnosisWork / tasks, kDiagnosisStepsPerTask * tasks));
    int64_t t = first_ns_;
    for (int64_t step = 0; step < most_steps && t <= end_ns; ++step) {
      if (left_side(t) > t) {
        Failure first = describe(t);
        first.kind = known.kind;
        return first;
      }
      t = next_point_after(t);
    }
    return known;
  }

  int64_t next_point_after(int64_t t) const {
    int64_t next = kLongest_ns;
    for (const Demand& task : tasks_) {
      const int64_t k = t < task.deadline_ns ? 0 : (t - task.deadline_ns) / task.period_ns + 1;
      next = std::min(next, k * task.period_ns + task.deadline_ns);
    }
    return next;
  }

  const std::vector<Demand>& tasks_;
  const NpEdfOptions options_;
  Effort* const effort_;
  std::vector<Range> ranges_;  // ascending
  long double utilisation_ = 0;
  long double jobs_per_ns_ = 0;
  bool repeats_ = false;  // others are counted the one way that is less in the end
  int64_t first_ns_ = kLongest_ns;
  // Excess up to here need not be told apart: jumps go further.
  int64_t uninteresting_ns_ = kNone_ns;
  int64_t steps_ = 0;
};

}  // namespace

NpEdfResult test_np_edf(const std::vector<Demand>& tasks, const NpEdfOptions& options,
                        Effort* effort) {
  return Test(tasks, options, effort).run();
}

std::optional<Failure> find_failure(const std::vector<Demand>& tasks, const NpEdfOptions& options,
                                    Effort* effort) {
  return Test(tasks, options, effort).decide();
}

}  // namespace rtswap::policy
