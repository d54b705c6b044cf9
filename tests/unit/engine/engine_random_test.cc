// Long random histories against a reference: whatever is evicted and restored, in whatever order
// and from however many threads, every byte that is resident is the byte that the program wrote
// last.
#include <thread>

#include "tests/catch.h"
#include "tests/unit/engine/rig.h"

using namespace rtswap;
using namespace rtswap::literals;
using namespace rtswap::engine;
using namespace rtswap::engine::test;

namespace {

constexpr size_t kScratch = 2;  // of add_segments()

struct Outcome {
  bool exact = true;
  uint32_t uses = 0;
};

// One program's life: random residency, a use whenever everything is there. Chunks may be short, as
// other programs have them. `guarded`: what is evicted must read as the guard says.
Outcome live(Program& program, uint64_t seed, int steps, bool guarded) {
  std::mt19937_64 random(seed);
  Outcome outcome;
  for (int step = 0; step < steps; ++step) {
    const auto now = static_cast<uint32_t>(program.resident().size());
    switch (random() % 4) {
      case 0:
        program.evict(static_cast<uint32_t>(random() % (now + 1)));
        break;
      case 1:
        program.restore(now + static_cast<uint32_t>(random() % (program.total() - now + 1)), 2);
        break;
      default:
        if (!program.restore(program.total(), 1 + random() % 4)) {
          program.evict(now / 2);  // somebody else needs them to go on
          break;
        }
        outcome.exact = outcome.exact && program.exact();
        program.use();
        ++outcome.uses;
        // A failure, where calls fail, changes nothing.
        if (random() % 3 == 0) (void)program.keep(kScratch, random() % 2 == 0);
    }
    outcome.exact = outcome.exact && program.exact();
    if (guarded) outcome.exact = outcome.exact && program.guarded();
  }
  return outcome;
}

void add_segments(Program& program, std::mt19937_64& random) {
  REQUIRE(program.add(Kind::read_only, 1 + random() % (3 * kChunk)));
  REQUIRE(program.add(Kind::mutable_state, 1 + random() % (2 * kChunk)));
  REQUIRE(program.add(Kind::scratch, 1 + random() % kChunk));
  REQUIRE(program.add(Kind::mutable_state, kChunk));
  REQUIRE(program.add(Kind::read_only, 2 * kChunk));
}

}  // namespace

TEST_CASE("memory is bit-exact over random cycles") {
  const bool guard = GENERATE(false, true);
  CAPTURE(guard);
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    Rig rig({.guard = guard});
    std::mt19937_64 random(seed);
    Program program(rig, 1, seed);
    add_segments(program, random);
    const Outcome outcome = live(program, seed, 50, guard);
    CHECK(outcome.exact);
    CHECK(outcome.uses > 5);
    CHECK(program.stats().repaired_bytes == 0);
    REQUIRE(program.close());
    CHECK(rig.free_chunks.size() == 16);
  }
}

TEST_CASE("memory is bit-exact although calls fail again and again") {
  const bool guard = GENERATE(false, true);
  CAPTURE(guard);
  uint64_t injected = 0;
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    Rig rig({.guard = guard});
    std::mt19937_64 random(seed);
    Program program(rig, 1, seed);
    add_segments(program, random);
    rig.device.fail_randomly(0.05, seed, {ErrorCode::driver_failure, "injected"});
    CHECK(live(program, seed, 50, false).exact);
    injected += rig.device.injected();
    rig.device.fail_randomly(0, seed, {});
    REQUIRE(program.restore(program.total()));
    CHECK(program.exact());
    REQUIRE(program.evict(1));
    CHECK(program.stats().guarded_chunks == (guard ? program.total() - 1 : 0));
    if (guard) CHECK(program.guarded());
    CHECK(program.stats().repaired_bytes == 0);
    REQUIRE(program.close());
    CHECK(rig.free_chunks.size() == 16);
  }
  CHECK(injected > 0);
}

TEST_CASE("several programs share too little memory and stay bit-exact") {
  const bool paced = GENERATE(false, true);
  const bool guard = GENERATE(false, true);
  CAPTURE(paced, guard);
  RigOptions options{.chunks = 24, .guard = guard};
  // The paced link has threads of its own, so that copies really overlap with everything else.
  if (paced) options.link = driver::make_wall_clock_link(0);
  Rig rig(options);
  constexpr ArenaId kPrograms = 4;
  std::vector<std::unique_ptr<Program>> programs;
  std::mt19937_64 random(5);
  for (ArenaId id = 0; id < kPrograms; ++id) {
    programs.push_back(std::make_unique<Program>(rig, id, 100 + id));
    add_segments(*programs.back(), random);
  }
  std::vector<Outcome> outcomes(kPrograms);
  std::vector<std::thread> threads;
  for (ArenaId id = 0; id < kPrograms; ++id) {
    threads.emplace_back([&, id] { outcomes[id] = live(*programs[id], 50 + id, 30, guard); });
  }
  for (std::thread& thread : threads) thread.join();
  for (ArenaId id = 0; id < kPrograms; ++id) {
    CHECK(outcomes[id].exact);
    CHECK(programs[id]->stats().repaired_bytes == 0);
    programs[id]->evict(0);
  }
  CHECK(rig.free_chunks.size() == 24);
  for (const auto& program : programs) {
    CHECK(program->stats().guard_failures == 0);
    REQUIRE(program->restore(program->total()));
    CHECK(program->exact());
    REQUIRE(program->close());
  }
  for (const auto& report : rig.listener.take()) {
    CHECK(report.what != What::restore_failed);
    CHECK(report.what != What::evict_failed);
  }
}
