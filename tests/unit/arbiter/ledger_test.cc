#include "csrc/arbiter/ledger.h"

#include "csrc/base/check.h"
#include "tests/catch.h"

namespace rtswap::arbiter {
namespace {

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
