#include "csrc/driver/fault_injecting.h"

#include <string>
#include <vector>

#include "csrc/base/units.h"
#include "csrc/driver/simulated.h"
#include "tests/unit/driver/driver_behaviour.h"

namespace rtswap::driver {
namespace {

using namespace rtswap::literals;
using test::fails_with;
using test::ok;
using test::value_of;

FaultInjectingDriver make() {
  return FaultInjectingDriver(value_of(make_simulated_driver(
      {.name = "faulty", .total_bytes = 64_MiB}, std::make_shared<VirtualLink>(0))));
}

const Error kError{ErrorCode::driver_failure, "injected"};

TEST_CASE("the n-th call from now fails, and no other") {
  FaultInjectingDriver driver = make();
  ok(driver.attach_thread());
  driver.fail_call(Operation::attach_thread, 2, kError);
  ok(driver.attach_thread());
  CHECK(value_of(driver.create_chunk(2_MiB)) != ChunkHandle{});
  fails_with(ErrorCode::driver_failure, driver.attach_thread());
  ok(driver.attach_thread());
  CHECK(driver.calls(Operation::attach_thread) == 4);
  CHECK(driver.calls(Operation::create_chunk) == 1);
  CHECK(driver.injected() == 1);
}

TEST_CASE("a failed call does not reach the device") {
  FaultInjectingDriver driver = make();
  driver.fail_call(Operation::create_chunk, 1, {ErrorCode::out_of_memory, "injected"});
  fails_with(ErrorCode::out_of_memory, driver.create_chunk(2_MiB));
  CHECK(value_of(driver.memory_info()).free_bytes == 64_MiB);
}

TEST_CASE("a lost device stays lost") {
  FaultInjectingDriver driver = make();
  driver.fail_call(Operation::query_event, 1, {ErrorCode::device_lost, "injected"});
  const EventHandle event = value_of(driver.create_event());
  fails_with(ErrorCode::device_lost, driver.query_event(event));
  fails_with(ErrorCode::device_lost, driver.query_event(event));
  fails_with(ErrorCode::device_lost, driver.create_stream());
  fails_with(ErrorCode::device_lost, driver.destroy_event(event));
}

TEST_CASE("random faults are a function of the seed") {
  const auto pattern = [](uint64_t seed) {
    FaultInjectingDriver driver = make();
    driver.fail_randomly(0.3, seed, kError);
    std::vector<bool> failed;
    for (int i = 0; i < 200; ++i) failed.push_back(!driver.attach_thread().has_value());
    return failed;
  };
  CHECK(pattern(1) == pattern(1));
  CHECK(pattern(1) != pattern(2));
  const auto failed = pattern(3);
  const auto count = std::count(failed.begin(), failed.end(), true);
  CHECK(count > 30);
  CHECK(count < 90);
}

TEST_CASE("random faults spare what takes something back, and end when asked") {
  FaultInjectingDriver driver = make();
  const ChunkHandle chunk = value_of(driver.create_chunk(2_MiB));
  const StreamHandle stream = value_of(driver.create_stream());
  driver.fail_randomly(1.0, 7, kError);
  fails_with(ErrorCode::driver_failure, driver.create_chunk(2_MiB));
  ok(driver.release_chunk(chunk));
  ok(driver.destroy_stream(stream));
  driver.fail_randomly(0, 7, kError);
  ok(driver.attach_thread());
}

}  // namespace
}  // namespace rtswap::driver
