#include "csrc/engine/command_order.h"

#include <optional>

#include "csrc/base/check.h"
#include "tests/catch.h"

using namespace rtswap;
using namespace rtswap::engine;

namespace {

// The position of a restore, -1 - keep of an eviction, nothing when no command may start.
std::optional<int> next(CommandOrder& order) {
  if (!order.may_start()) return std::nullopt;
  const Command command = order.start();
  if (const auto* evict = std::get_if<EvictCommand>(&command)) {
    return -1 - static_cast<int>(evict->keep_chunks);
  }
  return static_cast<int>(std::get<RestoreCommand>(command).first_position);
}

}  // namespace

TEST_CASE("an eviction that waits or runs is told") {
  CommandOrder order;
  order.add(RestoreCommand{0, {1}});
  CHECK_FALSE(order.evicts());
  order.add(EvictCommand{0});
  CHECK(order.evicts());
  order.start();
  order.finished();
  order.start();
  CHECK(order.evicts());
  order.finished();
  CHECK_FALSE(order.evicts());
}

TEST_CASE("restores follow each other without waiting, an eviction runs alone") {
  CommandOrder order;
  CHECK(order.idle());
  order.add(RestoreCommand{0, {1, 2}});
  order.add(RestoreCommand{2, {3}});
  order.add(EvictCommand{1});
  order.add(RestoreCommand{1, {4}});
  order.add(EvictCommand{0});
  CHECK(order.added() == 5);
  CHECK(next(order) == 0);
  CHECK(next(order) == 2);
  CHECK(next(order) == std::nullopt);
  order.finished();
  CHECK(next(order) == std::nullopt);
  order.finished();
  CHECK(next(order) == -2);
  CHECK(next(order) == std::nullopt);
  order.finished();
  CHECK(order.done() == 3);
  CHECK(next(order) == 1);
  CHECK(next(order) == std::nullopt);
  order.finished();
  CHECK(next(order) == -1);
  CHECK_FALSE(order.idle());
  order.finished();
  CHECK(order.idle());
  CHECK(next(order) == std::nullopt);
  CHECK_THROWS_AS(order.finished(), InvariantViolation);
  CHECK_THROWS_AS(order.start(), InvariantViolation);
}
