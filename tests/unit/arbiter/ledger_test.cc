#include "csrc/arbiter/ledger.h"

#include "csrc/base/check.h"
#include "tests/catch.h"

namespace rtswap::arbiter {

// Each breaks one thing, as a bug could.
struct LedgerDamage {
  static void change_owner(Ledger& ledger, ChunkId chunk) { ledger.owner_[chunk] = 9; }
  static void free_twice(Ledger& ledger) { ledger.free_.back() = ledger.free_.front(); }
  static void hold_twice(Ledger& ledger, Ledger::Holder first, Ledger::Holder second) {
    ledger.holdings_[second].positions[0] = ledger.holdings_[first].positions[0];
  }
  static void lose(Ledger& ledger) { ledger.free_.pop_back(); }
};

namespace {

TEST_CASE("the check notices a table that is wrong") {
  Ledger ledger(6);
  const ChunkId mine = ledger.grant(7, 2)[0];
  ledger.grant(8, 1);
  CHECK_NOTHROW(ledger.check());
  SECTION("an owner that has it in no list") { LedgerDamage::change_owner(ledger, mine); }
  SECTION("a chunk that is free twice") { LedgerDamage::free_twice(ledger); }
  SECTION("a chunk with two holders") { LedgerDamage::hold_twice(ledger, 7, 8); }
  SECTION("a chunk that nobody has") {
    LedgerDamage::lose(ledger);
    CHECK_THROWS_AS(ledger.check_counts(), InvariantViolation);
  }
  CHECK_THROWS_AS(ledger.check(), InvariantViolation);
}

TEST_CASE("chunks go out to the next positions and come back from the tail") {
  Ledger ledger(4);
  const auto first = ledger.grant(7, 2);
  const auto second = ledger.grant(7, 1);
  CHECK(ledger.held(7) == 3);
  CHECK(ledger.positions(7) == std::vector<ChunkId>{first[0], first[1], second[0]});
  ledger.truncate(7, 1);
  CHECK(ledger.positions(7) == std::vector<ChunkId>{first[0]});
  CHECK(ledger.free_chunks() == 3);
  ledger.check();
}

TEST_CASE("what does not exist is not given away") {
  Ledger ledger(4);
  ledger.grant(7, 3);
  CHECK_THROWS_AS(ledger.grant(8, 2), InvariantViolation);
  CHECK_THROWS_AS(ledger.truncate(7, 4), InvariantViolation);
  CHECK_THROWS_AS(ledger.free_detached(7), InvariantViolation);
}

TEST_CASE("detached chunks stay owned until they are freed, group by group") {
  Ledger ledger(6);
  ledger.grant(7, 5);
  ledger.detach(7, {2, 4});
  CHECK(ledger.held(7) == 2);
  CHECK(ledger.owned(7) == 5);
  CHECK(ledger.free_chunks() == 1);
  ledger.free_detached(7);
  CHECK(ledger.free_chunks() == 3);
  ledger.check();
  ledger.free_detached(7);
  CHECK_FALSE(ledger.has_detached(7));
  CHECK(ledger.free_chunks() == 4);
  ledger.check();
}

TEST_CASE("a claim succeeds wholly or changes nothing") {
  Ledger ledger(4);
  REQUIRE(ledger.claim(1, {3, 1}));
  CHECK_FALSE(ledger.claim(2, {0, 1}));
  CHECK_FALSE(ledger.claim(2, {2, 2}));
  CHECK_FALSE(ledger.claim(2, {9}));
  CHECK(ledger.free_chunks() == 2);
  ledger.check();
  ledger.release_all(1);
  CHECK(ledger.free_chunks() == 4);
  ledger.check();
}

}  // namespace
}  // namespace rtswap::arbiter
