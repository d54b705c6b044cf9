// Bodies of the scenarios: they stand for client processes, so they share nothing with the tests
// but the descriptor they are given.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <iostream>
#include <memory>
#include <span>
#include <stdexcept>

#include "csrc/base/units.h"
#include "csrc/driver/simulated.h"
#include "tests/unit/driver/scenario.h"

namespace rtswap::test {
namespace {

using namespace rtswap::literals;
using namespace rtswap::driver;

constexpr uint64_t kChunkBytes = 2_MiB;

template <class T>
T must(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  if constexpr (!std::is_void_v<T>) return std::move(result).value();
}

std::unique_ptr<Driver> make_driver() {
  return must(make_simulated_driver({.name = "scenario", .total_bytes = 16_MiB},
                                    std::make_shared<VirtualLink>(0)));
}

volatile char* at(Address address) { return reinterpret_cast<volatile char*>(address); }

// An arena of four chunks, of which the second is mapped.
struct Arena {
  explicit Arena(Access access) : driver(make_driver()) {
    base = must(driver->reserve(4 * kChunkBytes, "camera"));
    const ChunkHandle chunk = must(driver->create_chunk(kChunkBytes));
    must(driver->map(base + kChunkBytes, std::span(&chunk, 1), kChunkBytes, access));
  }
  void evict() { must(driver->unmap(base + kChunkBytes, kChunkBytes)); }

  std::unique_ptr<Driver> driver;
  Address base = 0;
};

int read_evicted() {
  Arena arena(Access::read_write);
  *at(arena.base + kChunkBytes + 16) = 1;
  arena.evict();
  return *at(arena.base + kChunkBytes + 16);
}

int write_evicted() {
  Arena arena(Access::read_write);
  arena.evict();
  *at(arena.base + kChunkBytes + 16) = 1;
  return 0;
}

int write_read_only() {
  Arena arena(Access::read_only);
  if (*at(arena.base + kChunkBytes) != '\xff') return 1;
  *at(arena.base + kChunkBytes) = 1;
  return 0;
}

int read_in_forked_child() {
  Arena arena(Access::read_write);
  const pid_t child = fork();
  if (child == 0) _exit(*at(arena.base + kChunkBytes));
  int status = 0;
  waitpid(child, &status, 0);
  *at(arena.base + kChunkBytes) = 1;  // the parent's mapping is as it was
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

void say_and_leave(int) {
  constexpr char kText[] = "the handler before\n";
  [[maybe_unused]] const ssize_t ignored = write(STDERR_FILENO, kText, sizeof kText - 1);
  _exit(42);
}

int hand_on_to_earlier_handler() {
  signal(SIGSEGV, say_and_leave);
  return read_evicted();
}

int hand_on_foreign_fault() {
  signal(SIGSEGV, say_and_leave);
  Arena arena(Access::read_write);
  volatile Address nowhere = 8;  // volatile: the compiler knows that nothing can lie there
  return *at(nowhere);
}

ChunkHandle import_inherited(Driver& driver) {
  return must(driver.import_chunk(kInheritedFd, kChunkBytes));
}

// Exit codes: 0 as it should be.
int change_imported_chunk() {
  const auto driver = make_driver();
  const ChunkHandle chunk = import_inherited(*driver);
  const Address base = must(driver->reserve(kChunkBytes, "arena"));
  must(driver->map(base, std::span(&chunk, 1), kChunkBytes, Access::read_write));
  if (std::memcmp(reinterpret_cast<const void*>(base), "from the parent", 15) != 0) return 1;
  std::memcpy(reinterpret_cast<void*>(base + kChunkBytes - 8), "answered", 8);
  // Dies with the chunk mapped, as a client that is killed.
  kill(getpid(), SIGKILL);
  return 2;
}

int map_chunk_of_another() {
  const auto driver = make_driver();
  const ChunkHandle chunk = import_inherited(*driver);
  const Address base = must(driver->reserve(kChunkBytes, "arena"));
  const Status mapped = driver->map(base, std::span(&chunk, 1), kChunkBytes, Access::read_write);
  if (mapped) return 1;
  std::cerr << mapped.error().message;
  return 0;
}

}  // namespace

const Scenarios& all_scenarios() {
  static const Scenarios scenarios{
      {"read_evicted", read_evicted},
      {"write_evicted", write_evicted},
      {"write_read_only", write_read_only},
      {"read_in_forked_child", read_in_forked_child},
      {"hand_on_to_earlier_handler", hand_on_to_earlier_handler},
      {"hand_on_foreign_fault", hand_on_foreign_fault},
      {"change_imported_chunk", change_imported_chunk},
      {"map_chunk_of_another", map_chunk_of_another},
  };
  return scenarios;
}

}  // namespace rtswap::test
