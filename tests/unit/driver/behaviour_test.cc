#include "csrc/base/units.h"
#include "csrc/driver/fault_injecting.h"
#include "csrc/driver/simulated.h"
#include "tests/unit/driver/driver_behaviour.h"

namespace rtswap::driver {
namespace {

using namespace rtswap::literals;
using test::value_of;

const SimulatedOptions kOptions{.name = "behaviour", .total_bytes = 64_MiB};

TEST_CASE("simulated device in wall clock") {
  test::behaves_like_a_driver(
      [] { return value_of(make_simulated_driver(kOptions, make_wall_clock_link(0))); });
}

TEST_CASE("simulated device in virtual time") {
  test::behaves_like_a_driver(
      [] { return value_of(make_simulated_driver(kOptions, std::make_shared<VirtualLink>(0))); });
}

TEST_CASE("fault-injecting adaptor that injects nothing") {
  test::behaves_like_a_driver([] {
    return std::make_unique<FaultInjectingDriver>(
        value_of(make_simulated_driver(kOptions, std::make_shared<VirtualLink>(0))));
  });
}

}  // namespace
}  // namespace rtswap::driver
