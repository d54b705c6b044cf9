// The watcher of the simulation notices what it is there for.
#include "csrc/simulation/checker.h"

#include "tests/catch.h"

namespace rtswap::simulation {
namespace {

TEST_CASE("an orderly hand-over is no violation") {
  Checker checker(4);
  checker.granted(1, {1, 0, {0, 1}});
  checker.started(1, 1, 2);
  checker.ended(1);
  checker.revoked(1, {1, 1});
  checker.unmapped(1, 1, 1);
  checker.granted(2, {1, 0, {1, 2, 3}});
  checker.died(2);
  checker.granted(3, {1, 0, {1, 2, 3}});
  CHECK(checker.violations().empty());
}

TEST_CASE("every illegal act of an arbiter is noticed") {
  Checker checker(4);
  checker.granted(1, {1, 0, {0, 1}});

  SECTION("a chunk granted before its holder gave it back") {
    checker.revoked(1, {1, 1});
    checker.granted(2, {1, 0, {1}});
    REQUIRE(checker.violations().size() == 1);
    CHECK_THAT(checker.violations()[0], test::contains("while it is held by arena 1 of session 1"));
  }
  SECTION("a chunk that does not exist") {
    checker.granted(2, {1, 0, {9}});
    CHECK(checker.violations().size() == 1);
  }
  SECTION("a gap in the positions") {
    checker.granted(1, {1, 3, {2}});
    CHECK(checker.violations().size() == 1);
  }
  SECTION("memory of the running job revoked") {
    checker.started(1, 1, 2);
    checker.revoked(1, {1, 0});
    REQUIRE(checker.violations().size() == 1);
    CHECK_THAT(checker.violations()[0], test::contains("running job"));
  }
  SECTION("two jobs on the device") {
    checker.granted(2, {1, 0, {2}});
    checker.started(1, 1, 2);
    checker.started(2, 1, 1);
    REQUIRE(checker.violations().size() == 1);
    CHECK_THAT(checker.violations()[0], test::contains("two jobs"));
  }
  SECTION("a job that began without its memory") {
    checker.started(1, 1, 3);
    CHECK(checker.violations().size() == 1);
  }
  SECTION("a revoke that asks for nothing") {
    checker.revoked(1, {1, 2});
    CHECK(checker.violations().size() == 1);
  }
}

}  // namespace
}  // namespace rtswap::simulation
