// What the simulated device does beyond the common behaviour: sharing between processes, explained
// faults, and refusals that a GPU cannot give.
#include "csrc/driver/simulated.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <thread>
#include <vector>

#include "csrc/base/units.h"
#include "tests/unit/driver/driver_behaviour.h"
#include "tests/unit/driver/scenario.h"

namespace rtswap::driver {
namespace {

using namespace rtswap::literals;
using test::contains;
using test::Device;
using test::fails_with;
using test::HostBuffer;
using test::ok;
using test::run_scenario;
using test::value_of;

constexpr uint64_t kLinkBytesPerS = 2u << 30;  // a chunk of 2 MiB takes just under 1 ms

// A device in virtual time with its link within reach.
struct VirtualDevice {
  explicit VirtualDevice(bool poison_on_map = false)
      : device([&] {
          return value_of(make_simulated_driver(
              {.name = "test", .total_bytes = 16_MiB, .poison_on_map = poison_on_map}, link));
        }) {}
  Driver& driver() { return *device.driver; }

  std::shared_ptr<VirtualLink> link = std::make_shared<VirtualLink>(kLinkBytesPerS);
  Device device;
};

std::byte* memory(Address address) { return reinterpret_cast<std::byte*>(address); }

TEST_CASE("a simulated device needs a name and memory") {
  const auto link = std::make_shared<VirtualLink>(0);
  fails_with(ErrorCode::invalid_argument,
             make_simulated_driver({.name = "", .total_bytes = 4_MiB}, link));
  fails_with(ErrorCode::invalid_argument,
             make_simulated_driver({.name = "tiny", .total_bytes = 1_MiB}, link));
  const auto driver = value_of(make_simulated_driver({.name = "a", .total_bytes = 5_MiB}, link));
  CHECK(driver->info().uuid == "SIM-a");
  CHECK(driver->info().total_bytes == 4_MiB);
  CHECK(driver->info().simulated);
}

TEST_CASE("the budget counts each chunk once, until its last handle and mapping are gone") {
  VirtualDevice sim;
  const auto free_bytes = [&] { return value_of(sim.driver().memory_info()).free_bytes; };
  const auto chunks = sim.device.create(2);
  const UniqueFd fd = value_of(sim.driver().export_chunk(chunks[0]));
  const ChunkHandle imported = value_of(sim.driver().import_chunk(fd.get(), 2_MiB));
  CHECK(free_bytes() == 12_MiB);
  const Address address = sim.device.reserve(1);
  sim.device.map(address, {imported});
  ok(sim.driver().release_chunk(imported));
  ok(sim.driver().release_chunk(chunks[0]));
  CHECK(free_bytes() == 12_MiB);
  ok(sim.driver().unmap(address, 2_MiB));
  CHECK(free_bytes() == 14_MiB);
  const ChunkHandle rest = value_of(sim.driver().create_chunk(14_MiB));
  CHECK(free_bytes() == 0);
  fails_with(ErrorCode::out_of_memory, sim.driver().create_chunk(2_MiB));
  ok(sim.driver().release_chunk(rest));
  CHECK(free_bytes() == 14_MiB);
}

TEST_CASE("only descriptors of chunks are imported") {
  VirtualDevice sim;
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  fails_with(ErrorCode::driver_failure, sim.driver().import_chunk(null.get(), 2_MiB));
  fails_with(ErrorCode::driver_failure, sim.driver().import_chunk(-1, 2_MiB));
  const auto chunks = sim.device.create(1);
  const UniqueFd fd = value_of(sim.driver().export_chunk(chunks[0]));
  fails_with(ErrorCode::driver_failure, sim.driver().import_chunk(fd.get(), 4_MiB));
  CHECK((fcntl(fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("a process out of descriptors is told so") {
  VirtualDevice sim;
  const auto chunks = sim.device.create(1);
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
  const rlimit none{.rlim_cur = 3, .rlim_max = before.rlim_max};
  REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
  const auto created = sim.driver().create_chunk(2_MiB);
  const auto exported = sim.driver().export_chunk(chunks[0]);
  REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
  fails_with(ErrorCode::descriptor_limit, created);
  fails_with(ErrorCode::descriptor_limit, exported);
}

TEST_CASE("device addresses are memory of the process") {
  VirtualDevice sim;
  const auto chunks = sim.device.create(1);
  const Address address = sim.device.reserve(1);
  CHECK(address % 2_MiB == 0);
  sim.device.map(address, chunks);
  std::memset(memory(address), 7, 2_MiB);
  HostBuffer back(sim.driver(), 2_MiB);
  sim.device.read(back.at(0), address, 2_MiB);
  CHECK(std::all_of(back.at(0), back.at(2_MiB), [](std::byte b) { return b == std::byte{7}; }));
}

TEST_CASE("work on the default stream is complete when the call returns") {
  VirtualDevice sim;
  const auto chunks = sim.device.create(1);
  const Address address = sim.device.reserve(1);
  sim.device.map(address, chunks);
  HostBuffer host(sim.driver(), 2_MiB, 1);
  // Behind a copy that fills the link: it is complete too.
  ok(sim.driver().copy_to_device(address, host.at(0), 1_MiB, sim.device.stream));
  ok(sim.driver().copy_to_device(address + 1_MiB, host.at(1_MiB), 1_MiB, StreamHandle{0}));
  CHECK(std::memcmp(memory(address), host.at(0), 2_MiB) == 0);
  ok(sim.driver().record_event(sim.device.event, StreamHandle{0}));
  CHECK(value_of(sim.driver().query_event(sim.device.event)));
}

TEST_CASE("an event stands for its last recording") {
  VirtualDevice sim;
  const auto chunks = sim.device.create(1);
  const Address address = sim.device.reserve(1);
  sim.device.map(address, chunks);
  HostBuffer host(sim.driver(), 2_MiB, 1);
  const auto copy = [&] {
    ok(sim.driver().copy_to_device(address, host.at(0), 2_MiB, sim.device.stream));
  };
  const auto is_complete = [&] { return value_of(sim.driver().query_event(sim.device.event)); };
  copy();
  CHECK(is_complete());  // not recorded yet
  ok(sim.driver().record_event(sim.device.event, sim.device.stream));
  CHECK_FALSE(is_complete());
  copy();  // later work is not part of the recording
  sim.link->advance_to(1'000'000);
  CHECK(is_complete());
  ok(sim.driver().record_event(sim.device.event, sim.device.stream));
  CHECK_FALSE(is_complete());
  ok(sim.driver().synchronize_event(sim.device.event));
  CHECK(is_complete());
  CHECK(sim.link->now_ns() == 2 * 976'563);  // 2 MiB at 2 GiB/s, twice
}

TEST_CASE("poison_on_map overwrites what an earlier owner left, where it may be written") {
  VirtualDevice sim(true);
  const auto chunks = sim.device.create(1);
  const Address address = sim.device.reserve(1);
  const auto is_full_of = [&](std::byte value) {
    return std::all_of(memory(address), memory(address) + 2_MiB,
                       [value](std::byte b) { return b == value; });
  };
  sim.device.map(address, chunks);
  std::memset(memory(address), 0, 2_MiB);
  ok(sim.driver().unmap(address, 2_MiB));
  ok(sim.driver().map(address, chunks, 2_MiB, Access::read_only));
  CHECK(is_full_of(std::byte{0}));
  ok(sim.driver().unmap(address, 2_MiB));
  sim.device.map(address, chunks);
  CHECK(is_full_of(std::byte{0xff}));
}

TEST_CASE("copies that a GPU would answer with a lost context are refused") {
  VirtualDevice sim;
  const auto chunks = sim.device.create(2);
  const Address address = sim.device.reserve(4);
  HostBuffer host(sim.driver(), 6_MiB);
  const auto to_device = [&](Address to, uint64_t bytes) {
    return sim.driver().copy_to_device(to, host.at(0), bytes, sim.device.stream);
  };
  fails_with(ErrorCode::driver_failure, to_device(address, 1));
  sim.device.map(address, {chunks[0]});
  ok(sim.driver().map(address + 4_MiB, std::vector{chunks[1]}, 2_MiB, Access::read_only));
  CHECK_THAT(to_device(address + 4_MiB, 1).error().message, contains("read-only"));
  CHECK_THAT(to_device(address, 2_MiB + 1).error().message, contains("only a part"));
  CHECK_THAT(to_device(address, 6_MiB).error().message, contains("only a part"));
  fails_with(ErrorCode::driver_failure, to_device(address, 0));
  fails_with(ErrorCode::driver_failure, to_device(address - 1, 2));
  ok(sim.driver().copy_to_host(host.at(0), address + 4_MiB, 2_MiB, sim.device.stream));
  sim.device.finish();

  std::vector<std::byte> unregistered(64);
  CHECK_THAT(sim.driver()
                 .copy_to_host(unregistered.data(), address, 64, sim.device.stream)
                 .error()
                 .message,
             contains("registered"));
  fails_with(ErrorCode::driver_failure,
             sim.driver().copy_to_host(host.at(6_MiB - 1), address, 2, sim.device.stream));
  fails_with(ErrorCode::driver_failure,
             sim.driver().copy_to_host(host.at(0), address, 2, StreamHandle{12345}));
}

TEST_CASE("memory under a copy in flight can be neither unmapped nor unregistered") {
  VirtualDevice sim;
  const auto chunks = sim.device.create(2);
  const Address address = sim.device.reserve(2);
  sim.device.map(address, chunks);
  std::vector<std::byte> host(2_MiB, std::byte{3});
  ok(sim.driver().register_host(host.data(), host.size()));
  ok(sim.driver().copy_to_device(address, host.data(), host.size(), sim.device.stream));
  CHECK_THAT(sim.driver().unmap(address, 4_MiB).error().message, contains("in flight"));
  CHECK_THAT(sim.driver().unregister_host(host.data()).error().message, contains("in flight"));
  ok(sim.driver().unmap(address + 2_MiB, 2_MiB));  // the copy does not use this chunk
  sim.device.finish();
  CHECK(*memory(address + 2_MiB - 1) == std::byte{3});
  ok(sim.driver().unregister_host(host.data()));
  ok(sim.driver().unmap(address, 2_MiB));
}

TEST_CASE("address space and host memory in use, or not known, are not given back") {
  VirtualDevice sim;
  const auto chunks = sim.device.create(1);
  const Address address = sim.device.reserve(2);
  sim.device.map(address + 2_MiB, chunks);
  fails_with(ErrorCode::driver_failure, sim.driver().unreserve(address, 4_MiB));
  fails_with(ErrorCode::driver_failure, sim.driver().unmap(address, 4_MiB));
  fails_with(ErrorCode::driver_failure, sim.driver().unmap(address + 2_MiB, 1_MiB));
  ok(sim.driver().unmap(address + 2_MiB, 2_MiB));
  fails_with(ErrorCode::driver_failure, sim.driver().unreserve(address, 2_MiB));
  // Behind the end of the reservation, and a chunk of another size than was said.
  fails_with(ErrorCode::driver_failure,
             sim.driver().map(address + 4_MiB, chunks, 2_MiB, Access::read_write));
  fails_with(ErrorCode::driver_failure,
             sim.driver().map(address, chunks, 4_MiB, Access::read_write));
  fails_with(ErrorCode::driver_failure,
             sim.driver().map(address + 4096, chunks, 2_MiB, Access::read_write));
  fails_with(ErrorCode::driver_failure, sim.driver().map(address, {}, 2_MiB, Access::read_write));
  ok(sim.driver().unreserve(address, 4_MiB));

  HostBuffer host(sim.driver(), 4096);
  fails_with(ErrorCode::driver_failure, sim.driver().unregister_host(host.at(1)));
  fails_with(ErrorCode::driver_failure, sim.driver().register_host(host.at(4095), 4096));
  fails_with(ErrorCode::driver_failure, sim.driver().register_host(nullptr, 4096));
}

TEST_CASE("the end of a driver waits for its copies") {
  VirtualDevice sim;
  std::vector<std::byte> host(2_MiB);
  {
    const auto driver =
        value_of(make_simulated_driver({.name = "short", .total_bytes = 4_MiB}, sim.link));
    const ChunkHandle chunk = value_of(driver->create_chunk(2_MiB));
    const Address address = value_of(driver->reserve(2_MiB, "short"));
    ok(driver->map(address, std::span(&chunk, 1), 2_MiB, Access::read_write));
    ok(driver->register_host(host.data(), host.size()));
    const StreamHandle stream = value_of(driver->create_stream());
    ok(driver->copy_to_host(host.data(), address, 2_MiB, stream));
    CHECK(host.back() == std::byte{0});
  }
  CHECK(host.back() == std::byte{0xff});
}

TEST_CASE("threads use one driver at the same time") {
  constexpr size_t kThreads = 3;
  const auto driver = value_of(
      make_simulated_driver({.name = "threads", .total_bytes = 16_MiB}, make_wall_clock_link(0)));
  std::array<bool, kThreads> right{};
  const auto work = [&](size_t number) {
    // No assertions here: the test framework is not made for several threads.
    std::vector<std::byte> image(2_MiB, static_cast<std::byte>(number + 1));
    std::vector<std::byte> back(2_MiB);
    const ChunkHandle chunk = driver->create_chunk(2_MiB).value();
    const Address address = driver->reserve(2_MiB, "thread").value();
    const StreamHandle stream = driver->create_stream().value();
    const EventHandle event = driver->create_event().value();
    bool all = driver->register_host(image.data(), image.size()).has_value() &&
               driver->register_host(back.data(), back.size()).has_value();
    for (int round = 0; round < 10; ++round) {
      all = all &&
            driver->map(address, std::span(&chunk, 1), 2_MiB, Access::read_write).has_value() &&
            driver->copy_to_device(address, image.data(), 64_KiB, stream).has_value() &&
            driver->copy_to_host(back.data(), address, 64_KiB, stream).has_value() &&
            driver->record_event(event, stream).has_value() &&
            driver->synchronize_event(event).has_value() &&
            driver->unmap(address, 2_MiB).has_value() &&
            std::memcmp(image.data(), back.data(), 64_KiB) == 0;
    }
    right[number] = all && driver->unregister_host(image.data()).has_value() &&
                    driver->unregister_host(back.data()).has_value();
  };
  std::vector<std::thread> threads;
  for (size_t i = 0; i < kThreads; ++i) threads.emplace_back(work, i);
  for (std::thread& thread : threads) thread.join();
  CHECK(std::count(right.begin(), right.end(), true) == kThreads);
}

TEST_CASE("handles that do not exist are refused by name") {
  VirtualDevice sim;
  const EventHandle event{12345};
  const StreamHandle stream{12345};
  CHECK_THAT(sim.driver().query_event(event).error().message, contains("query_event(12345)"));
  fails_with(ErrorCode::driver_failure, sim.driver().synchronize_event(event));
  fails_with(ErrorCode::driver_failure, sim.driver().destroy_event(event));
  fails_with(ErrorCode::driver_failure, sim.driver().destroy_stream(stream));
  fails_with(ErrorCode::driver_failure, sim.driver().record_event(event, sim.device.stream));
  fails_with(ErrorCode::driver_failure, sim.driver().record_event(sim.device.event, stream));
  fails_with(ErrorCode::driver_failure, sim.driver().wait_event(stream, sim.device.event));
  fails_with(ErrorCode::driver_failure, sim.driver().wait_event(sim.device.stream, event));
}

TEST_CASE("chunks are shared with other processes, and outlive them") {
  VirtualDevice sim;
  const auto chunks = sim.device.create(1);
  const Address address = sim.device.reserve(1);
  UniqueFd fd = value_of(sim.driver().export_chunk(chunks[0]));
  sim.device.map(address, chunks);
  std::memcpy(memory(address), "from the parent", 15);

  SECTION("a chunk that is mapped elsewhere is not mapped") {
    const auto outcome = run_scenario("map_chunk_of_another", fd.get());
    INFO(outcome.errors);
    CHECK(outcome.exited_with(0));
    CHECK_THAT(outcome.errors, contains("mapped by process " + std::to_string(getpid())));
  }
  SECTION("a chunk is free again when its owner was killed") {
    ok(sim.driver().unmap(address, 2_MiB));
    const auto outcome = run_scenario("change_imported_chunk", fd.get());
    INFO(outcome.errors);
    CHECK(outcome.killed_by(SIGKILL));
    sim.device.map(address, chunks);
    CHECK(std::memcmp(memory(address + 2_MiB - 8), "answered", 8) == 0);
  }
}

TEST_CASE("faults in a reservation are explained and stay faults") {
  const auto dies_saying = [](const char* scenario, const std::string& what) {
    const auto outcome = run_scenario(scenario);
    CHECK_THAT(outcome.errors, contains(what));
    CHECK(outcome.killed_by(SIGSEGV));
    CHECK(std::count(outcome.errors.begin(), outcome.errors.end(), '\n') == 1);
  };
#if defined(__x86_64__)
  const std::string read = "rtswap: illegal read of 0x";
  const std::string write = "rtswap: illegal write of 0x";
#else
  const std::string read = "rtswap: illegal access of 0x";
  const std::string write = read;
#endif
  dies_saying("read_evicted", read);
  dies_saying("read_evicted", "offset 0x200010 of arena 'camera': no memory is mapped there");
  dies_saying("write_evicted", write);
  dies_saying("write_evicted", "offset 0x200010 of arena 'camera': no memory is mapped there");
  dies_saying("write_read_only",
              "offset 0x200000 of arena 'camera': the memory is mapped read-only");
}

TEST_CASE("a forked child does not see device memory") {
  const auto outcome = run_scenario("read_in_forked_child");
  CHECK(outcome.exited_with(SIGSEGV));  // how its child ended
  CHECK_THAT(outcome.errors, contains("is not there in a forked process"));
}

TEST_CASE("faults are handed on to the handler before ours") {
  auto outcome = run_scenario("hand_on_to_earlier_handler");
  CHECK(outcome.exited_with(42));
  CHECK_THAT(outcome.errors, contains("arena 'camera'") && contains("the handler before"));
  outcome = run_scenario("hand_on_foreign_fault");
  CHECK(outcome.exited_with(42));
  CHECK(outcome.errors == "the handler before\n");
}

}  // namespace
}  // namespace rtswap::driver
