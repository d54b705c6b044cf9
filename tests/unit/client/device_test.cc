// The probe of a link and the wait for a job's device work.
#include "csrc/client/device.h"

#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "csrc/base/clock.h"
#include "csrc/client/device_meter.h"
#include "csrc/client/link_probe.h"
#include "csrc/client/queued_work.h"
#include "tests/catch.h"
#include "tests/unit/client/scripted_arbiter.h"

using namespace rtswap;
using namespace rtswap::client;
using namespace rtswap::client::test;

namespace {

class Silent final : public engine::EngineListener {
  void on_restored(engine::ArenaId, uint32_t) override {}
  void on_evicted(engine::ArenaId, uint32_t, uint64_t) override {}
  void on_restore_failed(engine::ArenaId, uint32_t, const Error&) override {}
  void on_evict_failed(engine::ArenaId, uint32_t, const Error&) override {}
};

// Copies at once, but the thread that waits for the third is woken up half a second late.
class LateWakeUp final : public driver::SimulatedLink {
 public:
  driver::TicketPtr submit(driver::CopyRequest request) override {
    return link_.submit(std::move(request));
  }
  bool is_done(const driver::CopyTicket& ticket) override { return link_.is_done(ticket); }
  void wait(const driver::CopyTicket& ticket) override {
    link_.wait(ticket);
    if (++waits_ == 3) sleep_until_ns(monotonic_now_ns() + 500_ms);
  }
  uint64_t bytes_per_s() const noexcept override { return link_.bytes_per_s(); }

 private:
  driver::VirtualLink link_{0};
  int waits_ = 0;
};

}  // namespace

TEST_CASE("a thread that is woken up late once is no slow link") {
  auto device = driver::make_simulated_driver({.name = "probe", .total_bytes = 4_MiB},
                                              std::make_shared<LateWakeUp>())
                    .value();
  const auto speed = probe_link(*device, 2_MiB);
  REQUIRE(speed);
  CHECK(speed->restore_bytes_per_s > 2 * 2_MiB);  // 500 ms are less than that
}

TEST_CASE("the probe measures the link and leaves nothing behind") {
  auto device = driver::make_simulated_driver({.name = "probe", .total_bytes = 4_MiB},
                                              driver::make_wall_clock_link(100'000'000))
                    .value();
  // 8 MiB do not fit, so less is measured.
  const auto speed = probe_link(*device, 8_MiB);
  REQUIRE(speed);
  CHECK(speed->restore_bytes_per_s > 0);
  CHECK(speed->restore_bytes_per_s <= 110'000'000);
  CHECK(speed->evict_bytes_per_s > 0);
  CHECK(speed->evict_bytes_per_s <= 110'000'000);
  const auto memory = device->memory_info();
  CHECK(memory->free_bytes == memory->total_bytes);
  const auto all = device->create_chunk(4_MiB);
  REQUIRE(all);
  CHECK(probe_link(*device, 8_MiB).error().code == ErrorCode::out_of_memory);
  CHECK(device->release_chunk(*all));
}

TEST_CASE("a failing call of the probe is its error, and it leaves nothing behind") {
  using driver::Operation;
  for (const Operation operation :
       {Operation::reserve, Operation::map, Operation::register_host, Operation::create_stream,
        Operation::create_event, Operation::copy_to_device, Operation::copy_to_host,
        Operation::record_event, Operation::synchronize_event}) {
    driver::FaultInjectingDriver device(
        driver::make_simulated_driver({.name = "probe", .total_bytes = 4_MiB},
                                      std::make_shared<driver::VirtualLink>(0))
            .value());
    device.fail_call(operation, 1, {ErrorCode::driver_failure, "injected"});
    CHECK(probe_link(device, 2_MiB).error().message == "injected");
    CHECK(device.memory_info()->free_bytes == 4_MiB);
  }
}

TEST_CASE("the probe measures both ways at once, and the cost of a chunk") {
  auto device = driver::make_simulated_driver({.name = "probe", .total_bytes = 8_MiB},
                                              driver::make_wall_clock_link(200'000'000))
                    .value();
  const auto speed = probe_link_both_ways(*device, 16_MiB);  // there is room for two of 4 MiB
  REQUIRE(speed);
  for (const uint64_t bytes_per_s : {speed->restore_bytes_per_s, speed->evict_bytes_per_s}) {
    CHECK(bytes_per_s > 0);
    CHECK(bytes_per_s <= 220'000'000);
  }
  const auto cost = probe_chunk_cost(*device, 2_MiB);
  REQUIRE(cost);
  CHECK(cost->map_ns > 0);
  CHECK(cost->unmap_ns > 0);
  CHECK(device->memory_info()->free_bytes == 8_MiB);
}

TEST_CASE("a failure in the middle of a measurement leaves nothing behind") {
  using driver::Operation;
  for (const Operation operation : {Operation::map, Operation::unmap, Operation::copy_to_device,
                                    Operation::synchronize_event}) {
    driver::FaultInjectingDriver device(
        driver::make_simulated_driver({.name = "probe", .total_bytes = 8_MiB},
                                      std::make_shared<driver::VirtualLink>(0))
            .value());
    device.fail_call(operation, 4, {ErrorCode::driver_failure, "injected"});
    const bool copies =
        operation == Operation::copy_to_device || operation == Operation::synchronize_event;
    const Error error = copies ? probe_link_both_ways(device, 2_MiB).error()
                               : probe_chunk_cost(device, 2_MiB).error();
    CHECK(error.message == "injected");
    CHECK(device.memory_info()->free_bytes == 8_MiB);
  }
}

TEST_CASE("a meter copies in the background until it is stopped, or a copy fails") {
  auto owned = std::make_unique<driver::FaultInjectingDriver>(
      driver::make_simulated_driver({.name = "probe", .total_bytes = 4_MiB},
                                    std::make_shared<driver::VirtualLink>(0))
          .value());
  driver::FaultInjectingDriver& device = *owned;
  DeviceMeter meter(std::move(owned));
  CHECK(meter.stop_copies());
  REQUIRE(meter.start_copies());
  CHECK(meter.start_copies());
  CHECK(meter.stop_copies());
  CHECK(device.memory_info()->free_bytes == 4_MiB);
  REQUIRE(meter.measure(2_MiB));
  device.fail_call(driver::Operation::copy_to_device, 3, {ErrorCode::driver_failure, "injected"});
  REQUIRE(meter.start_copies());
  while (device.memory_info()->free_bytes < 4_MiB) std::this_thread::yield();
  CHECK(meter.stop_copies().error().message == "injected");
  CHECK(meter.stop_copies());
}

TEST_CASE("every stream of a job is waited for, also when one fails") {
  ScriptedArbiter arbiter;
  Silent listener;
  Device device(arbiter.device, arbiter.bank, listener, {});
  CHECK(device.complete({}));
  arbiter.device->fail_call(driver::Operation::query_event, 1, {ErrorCode::device_lost, "gone"});
  const std::array streams{driver::StreamHandle{0}, driver::StreamHandle{0}};
  const uint64_t before = arbiter.device->calls(driver::Operation::query_event);
  CHECK(device.complete(streams).error().code == ErrorCode::device_lost);
  CHECK(arbiter.device->calls(driver::Operation::query_event) == before + 2);
}

TEST_CASE("work that was queued can be asked after without waiting for it") {
  // Its time passes while somebody waits.
  const std::shared_ptr<driver::Driver> driver =
      driver::make_simulated_driver({.name = "queued", .total_bytes = 4_MiB},
                                    std::make_shared<driver::VirtualLink>(1'000'000))
          .value();
  const std::shared_ptr<const bank::Bank> bank = bank::Bank::create(*driver, kChunk, 1, {}).value();
  Silent listener;
  const auto device = std::make_shared<Device>(driver, bank, listener, engine::EngineOptions{});
  const driver::Address place = driver->reserve(kChunk, "place").value();
  const std::array chunks{driver->create_chunk(kChunk).value()};
  REQUIRE(driver->map(place, chunks, kChunk, driver::Access::read_write));
  std::vector<std::byte> host(kChunk);
  REQUIRE(driver->register_host(host.data(), kChunk));
  const std::array streams{driver->create_stream().value()};
  REQUIRE(driver->copy_to_device(place, host.data(), kChunk, streams[0]));

  MarkedWork work;
  REQUIRE(work.add(device, streams));
  CHECK_FALSE(work.completed().value());
  CHECK(device->complete(streams));
  CHECK(work.completed().value());

  CHECK(driver->destroy_stream(streams[0]));
  CHECK(driver->unregister_host(host.data()));
  CHECK(driver->unmap(place, kChunk));
  CHECK(driver->unreserve(place, kChunk));
  CHECK(driver->release_chunk(chunks[0]));
}

TEST_CASE("jobs that end at once in several threads wait for their own work") {
  ScriptedArbiter arbiter;
  Silent listener;
  Device device(arbiter.device, arbiter.bank, listener, {});
  const std::array streams{driver::StreamHandle{0}, driver::StreamHandle{0}};
  std::atomic<int> failures = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 50; ++round) failures += !device.complete(streams);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(failures == 0);
  CHECK(arbiter.device->calls(driver::Operation::create_event) <= 8);
}
