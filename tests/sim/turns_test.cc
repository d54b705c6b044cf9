// What is charged for memory that changes hands, against the driver of the simulation: victims
// unmap in turn, batch by batch, and whatever is mapped waits for its turn, too.
#include <algorithm>
#include <numeric>
#include <vector>

#include "csrc/policy/task_model.h"
#include "csrc/simulation/world.h"
#include "tests/catch.h"

namespace rtswap::simulation {
namespace {

using policy::LinkModel;

// One job takes what it lacks from victims, while chunks that were granted to others before are
// mapped and copied. Revokes arrive at time 0.
class Swap {
 public:
  Swap(Random& random, const LinkModel& link) : random_(random), link_(link) {
    unmap_ns_ = link.chunk_cost_ns / policy::kUnmapShare;
    map_ns_ = link.chunk_cost_ns - unmap_ns_;
    copy_ns_ = static_cast<int64_t>(link.chunk_bytes * 1'000'000'000 / link.restore_bytes_per_s);
  }

  // When each chunk of the job has landed. `strays` chunks are mapped for others meanwhile, and the
  // last `leaving` of its own arena leave.
  std::vector<int64_t> run(const std::vector<uint32_t>& takes, uint32_t strays, uint32_t leaving) {
    if (random_.between(0, 1) == 0) leave(leaving);
    if (strays > 0) map_stray(strays);
    for (const uint32_t take : takes) {
      if (take > 0) unmap(policy::batches_of(link_, take), 0, 0);
    }
    if (left_ns_ == 0) leave(leaving);
    while (timeline_.run_next()) {
    }
    return landed_ns_;
  }
  int64_t left_ns() const { return left_ns_; }

 private:
  void map_stray(uint32_t left) {
    timeline_.at(driver_.copy(nullptr, now(), map_ns_), [this, left] {
      copies_.copy(nullptr, now(), copy_ns_);
      if (left > 1) map_stray(left - 1);
    });
  }

  void leave(uint32_t left) {
    if (left == 0) return;
    leaves_ = true;  // nothing is granted to it until it has said that it is done
    left_ns_ = driver_.copy(nullptr, now(), unmap_ns_);
    timeline_.at(left_ns_, [this, left] {
      leave(left - 1);
      if (left > 1) return;
      timeline_.at(now() + random_.between(0, link_.overhead_ns), [this] {
        leaves_ = false;
        map();
      });
    });
  }

  void unmap(const std::vector<uint32_t>& batches, size_t batch, uint32_t done) {
    timeline_.at(driver_.copy(nullptr, now(), unmap_ns_), [this, batches, batch, done] {
      if (done + 1 < batches[batch]) {
        unmap(batches, batch, done + 1);
        return;
      }
      // Evicted and Grant, which keep their order.
      granted_ns_ = std::max(granted_ns_, now() + random_.between(0, link_.overhead_ns));
      timeline_.at(granted_ns_, [this, chunks = batches[batch]] { granted(chunks); });
      if (batch + 1 < batches.size()) unmap(batches, batch + 1, 0);
    });
  }

  void granted(uint32_t chunks) {
    to_map_ += chunks;
    if (!mapping_ && !leaves_) map();
  }

  void map() {
    mapping_ = to_map_ > 0;
    if (!mapping_) return;
    --to_map_;
    timeline_.at(driver_.copy(nullptr, now(), map_ns_), [this] {
      landed_ns_.push_back(copies_.copy(nullptr, now(), copy_ns_));
      map();
    });
  }

  int64_t now() const { return timeline_.now_ns(); }

  Random& random_;
  const LinkModel& link_;
  int64_t unmap_ns_ = 0, map_ns_ = 0, copy_ns_ = 0;
  Timeline timeline_;
  Lane driver_;
  Lane copies_;
  int64_t granted_ns_ = 0;
  int64_t left_ns_ = 0;
  uint32_t to_map_ = 0;
  bool leaves_ = false;
  bool mapping_ = false;
  std::vector<int64_t> landed_ns_;
};

LinkModel random_link(Random& random) {
  LinkModel link;
  link.chunk_bytes = uint64_t{2 << 20} << random.between(0, 4);
  link.prefetch_chunks = policy::quantum_chunks(link.chunk_bytes);
  link.restore_bytes_per_s = static_cast<uint64_t>(random.between(1, 60) * 1'000'000'000);
  link.chunk_cost_ns = 3 * random.between(0, random.between(0, 1) == 0 ? 40'000 : 400'000);
  link.overhead_ns = random.between(0, 1'000'000);
  return link;
}

std::vector<uint32_t> random_takes(Random& random) {
  std::vector<uint32_t> takes(static_cast<size_t>(random.between(1, 20)));
  const int64_t most = random.between(0, 1) == 0 ? 3 : 60;
  for (uint32_t& take : takes) take = static_cast<uint32_t>(random.between(1, most));
  return takes;
}

TEST_CASE("turns: chunks of several victims land no later than is charged") {
  int close = 0;
  for (uint64_t seed = 1; seed <= 4000; ++seed) {
    Random random(seed * 41);
    LinkModel link = random_link(random);
    const std::vector<uint32_t> takes = random_takes(random);
    link.victim_arenas = static_cast<uint32_t>(takes.size());
    const uint32_t asked = std::accumulate(takes.begin(), takes.end(), 0U);
    INFO("seed " << seed);
    const std::vector<int64_t> landed_ns = Swap(random, link).run(takes, 0, 0);
    REQUIRE(landed_ns.size() == asked);
    for (uint32_t chunks = 1; chunks <= asked; ++chunks) {
      const int64_t charged_ns = link.overhead_ns + policy::load_ns(link, chunks, asked);
      REQUIRE(landed_ns[chunks - 1] <= charged_ns);
      close += landed_ns[chunks - 1] * 20 > charged_ns * 19;
    }
  }
  CHECK(close > 1000);
}

TEST_CASE("turns: a job waits for what is in flight no longer than is charged") {
  int close = 0;
  for (uint64_t seed = 1; seed <= 4000; ++seed) {
    Random random(seed * 43);
    LinkModel link = random_link(random);
    const std::vector<uint32_t> takes = random_takes(random);
    link.victim_arenas = static_cast<uint32_t>(takes.size());
    const bool staging = random.between(0, 1) == 0;
    if (staging) link = policy::staging_link(link);
    const uint32_t most = std::max(link.prefetch_chunks, link.lead_chunks);
    policy::TaskModel task;
    task.wcet_ns = 1;
    task.arena_chunks = std::accumulate(takes.begin(), takes.end(), 0U);
    // What leaves its own arena makes room for others, that have not asked back what they lack yet.
    const auto leaving =
        static_cast<uint32_t>(random.between(0, std::min(most, task.arena_chunks)));
    const auto strays = static_cast<uint32_t>(random.between(0, most - leaving));
    INFO("seed " << seed);
    Swap swap(random, link);
    const std::vector<int64_t> landed_ns = swap.run(takes, strays, leaving);
    REQUIRE(swap.left_ns() <= policy::leaving_ns(link, task, task.arena_chunks, {}));
    const int64_t block_ns = policy::block_ns(link, task, task.arena_chunks, {});
    REQUIRE(landed_ns.back() + task.wcet_ns + link.overhead_ns <= block_ns);
    close += (landed_ns.back() + link.overhead_ns) * 10 > block_ns * 9;
  }
  CHECK(close > 1000);
}

}  // namespace
}  // namespace rtswap::simulation
