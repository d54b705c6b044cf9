// What a process keeps after a thousand arenas: nothing.
#include <dirent.h>

#include <fstream>

#include "tests/catch.h"
#include "tests/unit/engine/rig.h"

using namespace rtswap;
using namespace rtswap::literals;
using namespace rtswap::engine;
using namespace rtswap::engine::test;
using driver::Operation;

namespace {

size_t lines_of_maps() {
  std::ifstream maps("/proc/self/maps");
  size_t lines = 0;
  for (std::string line; std::getline(maps, line);) ++lines;
  return lines;
}

size_t entries(const char* folder) {
  DIR* const handle = opendir(folder);
  size_t count = 0;
  while (readdir(handle) != nullptr) ++count;
  closedir(handle);
  return count;
}

}  // namespace

TEST_CASE("a thousand arenas leave no addresses, descriptors, threads or events behind") {
  Rig rig({.chunks = 4, .verify = false});
  const auto cycle = [&](ArenaId id) {
    REQUIRE(rig.engine->open_arena(id, "cycle"));
    REQUIRE(rig.engine->add_segment(id, Kind::mutable_state, 5000));
    REQUIRE(rig.engine->add_segment(id, Kind::scratch, kChunk));
    rig.engine->restore(id, 0, {0, 1});
    if (id % 2 == 0) rig.engine->evict(id, 1);
    REQUIRE(rig.engine->close_arena(id));
  };
  for (ArenaId id = 0; id < 50; ++id) cycle(id);
  const size_t maps_before = lines_of_maps();
  const size_t descriptors_before = entries("/proc/self/fd");
  const size_t threads_before = entries("/proc/self/task");
  const uint64_t events_before = rig.device.calls(Operation::create_event);
  for (ArenaId id = 50; id < 1050; ++id) cycle(id);
  // A few lines are the C library's, for stacks and heaps of threads; a leak would be 1000.
  CHECK(lines_of_maps() < maps_before + 100);
  CHECK(entries("/proc/self/fd") == descriptors_before);
  CHECK(entries("/proc/self/task") == threads_before);
  CHECK(rig.device.calls(Operation::create_event) == events_before);
  CHECK(rig.device.calls(Operation::reserve) == rig.device.calls(Operation::unreserve));
  CHECK(rig.device.calls(Operation::register_host) == rig.device.calls(Operation::unregister_host));
}

TEST_CASE("an engine gives its streams and events back") {
  Rig rig;
  for (int round = 0; round < 3; ++round) {
    Program program(rig, 1, 21);
    REQUIRE(program.add(Kind::mutable_state, 3 * kChunk));
    REQUIRE(program.restore(3, 3));
    program.use();
    REQUIRE(program.evict(0));
    rig.engine.reset();
    CHECK(rig.device.calls(Operation::create_stream) == 2 * (round + 1u));
    CHECK(rig.device.calls(Operation::destroy_stream) == 2 * (round + 1u));
    CHECK(rig.device.calls(Operation::create_event) == rig.device.calls(Operation::destroy_event));
    CHECK(rig.device.calls(Operation::register_host) ==
          rig.device.calls(Operation::unregister_host));
    rig.engine.emplace(rig.device, *rig.bank, rig.listener, EngineOptions{});
  }
}
