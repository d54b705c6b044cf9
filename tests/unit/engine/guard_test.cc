// The guard: where it lies, where not, and that it is never in the way.
#include "csrc/engine/guard.h"

#include <fstream>
#include <string>

#include "tests/catch.h"
#include "tests/unit/engine/rig.h"

using namespace rtswap;
using namespace rtswap::literals;
using namespace rtswap::engine;
using namespace rtswap::engine::test;
using driver::Operation;

namespace {

const Error kInjected{ErrorCode::driver_failure, "injected"};

// Mappings of chunks of simulated devices in this process.
uint32_t mappings() {
  std::ifstream maps("/proc/self/maps");
  uint32_t count = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find("memfd:rtswap-chunk") != std::string::npos) ++count;
  }
  return count;
}

// Positions 0..2 read_only, 3..4 mutable, 5 scratch.
void add_segments(Program& program) {
  REQUIRE(program.add(Kind::read_only, 2 * kChunk + 9));
  REQUIRE(program.add(Kind::mutable_state, 2 * kChunk));
  REQUIRE(program.add(Kind::scratch, 100));
}

std::unique_ptr<driver::FaultInjectingDriver> device_of(uint64_t total_bytes) {
  return std::make_unique<driver::FaultInjectingDriver>(
      driver::make_simulated_driver({.name = "guard", .total_bytes = total_bytes},
                                    std::make_shared<driver::VirtualLink>(0))
          .value());
}

}  // namespace

TEST_CASE("the guard's chunk is filled whole and given back") {
  const auto device = device_of(8_MiB);
  auto guard = Guard::make(*device, 8_MiB).value();
  CHECK(device->calls(Operation::copy_to_device) == 8_MiB / device->info().granularity_bytes);
  CHECK(device->memory_info()->free_bytes == 0);
  const driver::Address address = device->reserve(16_MiB, "two").value();
  REQUIRE(guard->map(address, 16_MiB));
  const auto* const bytes = reinterpret_cast<const unsigned char*>(address);
  CHECK(std::all_of(bytes, bytes + 16_MiB, [](unsigned char byte) { return byte == 0xff; }));
  CHECK(device->copy_to_device(address, bytes, 1, {}).error().code == ErrorCode::driver_failure);
  REQUIRE(device->unmap(address, 16_MiB));
  REQUIRE(device->unreserve(address, 16_MiB));
  guard.reset();
  CHECK(device->memory_info()->free_bytes == 8_MiB);
}

TEST_CASE("a guard that cannot be made says so and leaves nothing behind") {
  const auto small = device_of(2_MiB);
  const auto refused = Guard::make(*small, 4_MiB);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ErrorCode::out_of_memory);
  CHECK_THAT(refused.error().message, rtswap::test::contains("guard=True"));
  for (const Operation operation :
       {Operation::create_chunk, Operation::reserve, Operation::map, Operation::register_host,
        Operation::create_stream, Operation::create_event, Operation::copy_to_device,
        Operation::record_event, Operation::synchronize_event}) {
    CAPTURE(static_cast<int>(operation));
    const auto device = device_of(4_MiB);
    device->fail_call(operation, 1, kInjected);
    CHECK_FALSE(Guard::make(*device, 4_MiB));
    CHECK(device->memory_info()->free_bytes == 4_MiB);
    CHECK(mappings() == 0);
    CHECK(Guard::make(*device, 4_MiB));
  }
}

TEST_CASE("the guard lies under what was evicted and under nothing else") {
  Rig rig({.guard = true});
  Program program(rig, 1, 21);
  add_segments(program);
  CHECK(mappings() == 0);  // what never was there needs none
  REQUIRE(program.restore(4));
  CHECK(program.stats().guarded_chunks == 0);
  REQUIRE(program.evict(1));
  CHECK(program.stats().guarded_chunks == 3);
  CHECK(program.guarded());
  REQUIRE(program.restore(6));
  CHECK(program.stats().guarded_chunks == 0);
  CHECK(program.exact());
  program.use();
  REQUIRE(program.evict(0));
  CHECK(program.stats().guarded_chunks == 6);
  CHECK(program.guarded());
  // A part of it comes back.
  REQUIRE(program.restore(2));
  CHECK(program.stats().guarded_chunks == 4);
  CHECK(program.exact());
  CHECK(program.guarded());
  CHECK(mappings() == 6);
  REQUIRE(program.close());
  CHECK(mappings() == 0);
  CHECK(rig.nothing_left());
}

TEST_CASE("without a guard nothing lies there") {
  Rig rig;
  Program program(rig, 1, 22);
  add_segments(program);
  REQUIRE(program.restore(6));
  REQUIRE(program.evict(2));
  CHECK(program.stats().guarded_chunks == 0);
  CHECK(mappings() == 2);
}

TEST_CASE("a guard that cannot be mapped loses no memory and is put there later") {
  Rig rig({.guard = true});
  Program program(rig, 1, 23);
  add_segments(program);
  REQUIRE(program.restore(6));
  program.use();
  rig.listener.take();
  rig.device.fail_call(Operation::map, 2, kInjected);
  REQUIRE(program.evict(2));  // 3 segments from the tail: the second is left without, at first
  CHECK(program.stats().guard_failures == 1);
  CHECK(program.stats().guarded_chunks == 4);
  CHECK(program.guarded());
  rig.device.fail_call(Operation::map, 1, kInjected);
  REQUIRE(program.evict(0));  // the last one
  CHECK(program.stats().guard_failures == 2);
  CHECK(program.stats().guarded_chunks == 4);
  CHECK(mappings() == 4);
  for (const auto& report : rig.listener.take()) CHECK(report.what == What::evicted);
  REQUIRE(program.restore(6));
  CHECK(program.exact());
  REQUIRE(program.evict(0));
  CHECK(program.stats().guarded_chunks == 6);
  CHECK(program.guarded());
}

TEST_CASE("a guard that is not taken away fails the restore and stays") {
  Rig rig({.guard = true});
  Program program(rig, 1, 24);
  add_segments(program);
  REQUIRE(program.restore(6));
  program.use();
  REQUIRE(program.evict(0));
  rig.listener.take();
  rig.device.fail_call(Operation::unmap, 4, kInjected);  // of the second segment
  CHECK_FALSE(program.restore(6));
  CHECK(rig.listener.take().back().what == What::restore_failed);
  CHECK(program.resident().size() == 3);
  CHECK(program.stats().guarded_chunks == 3);
  CHECK(program.exact());
  CHECK(program.guarded());
  REQUIRE(program.restore(6));
  CHECK(program.exact());
}

TEST_CASE("behind a restore that failed the guard lies again") {
  const Operation operation = GENERATE(Operation::map, Operation::copy_to_device);
  Rig rig({.guard = true});
  Program program(rig, 1, 25);
  add_segments(program);
  REQUIRE(program.restore(6));
  REQUIRE(program.evict(0));
  rig.device.fail_call(operation, 4, kInjected);
  CHECK_FALSE(program.restore(6));
  CHECK(program.resident().size() == 3);
  CHECK(program.stats().guarded_chunks == 3);
  CHECK(program.guarded());
}

TEST_CASE("closing an arena takes its guard away, at the second attempt when the first fails") {
  Rig rig({.guard = true});
  Program program(rig, 1, 26);
  add_segments(program);
  REQUIRE(program.restore(6));
  REQUIRE(program.evict(0));
  rig.device.fail_call(Operation::unmap, 2, kInjected);
  CHECK_FALSE(program.close());
  CHECK(mappings() > 0);
  REQUIRE(program.close());
  CHECK(mappings() == 0);
  CHECK(rig.nothing_left());
}

TEST_CASE("closing an arena puts no guard under what it unmaps") {
  Rig rig({.guard = true});
  Program program(rig, 1, 29);
  add_segments(program);
  REQUIRE(program.restore(6));
  const uint64_t before = rig.device.calls(Operation::map);
  REQUIRE(program.close());
  CHECK(rig.device.calls(Operation::map) == before);
}

TEST_CASE("an arena grows behind its guard, and in vain") {
  Rig rig({.guard = true});
  Program program(rig, 1, 27);
  add_segments(program);
  REQUIRE(program.restore(6));
  REQUIRE(program.evict(3));
  REQUIRE(rig.engine->add_segment(1, Kind::read_only, kChunk));
  REQUIRE(program.evict(0));
  CHECK(program.stats().guarded_chunks == 6);
  REQUIRE(rig.engine->discard_segments(1, 6));
  REQUIRE(program.restore(6));
  CHECK(program.exact());
}

TEST_CASE("cycles leave no mapping behind") {
  Rig rig({.guard = true});
  Program program(rig, 1, 28);
  add_segments(program);
  REQUIRE(program.restore(6));
  std::mt19937_64 random(28);
  for (int cycle = 0; cycle < 200; ++cycle) {
    CAPTURE(cycle);
    REQUIRE(program.evict(static_cast<uint32_t>(random() % 6)));
    CHECK(mappings() == 6);  // each position has its memory or the guard, none has both
    REQUIRE(program.restore(6, 1 + random() % 3));
    CHECK(mappings() == 6);
    program.use();
  }
  CHECK(program.exact());
  CHECK(program.stats().guard_failures == 0);
  REQUIRE(program.close());
  CHECK(mappings() == 0);
  CHECK(rig.nothing_left());
}
