#include "csrc/bank/bank.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <set>

#include "csrc/bank/descriptors.h"
#include "csrc/base/check.h"
#include "csrc/base/units.h"
#include "csrc/driver/fault_injecting.h"
#include "csrc/driver/simulated.h"
#include "tests/catch.h"

using namespace rtswap;
using namespace rtswap::literals;
using bank::Bank;
using driver::FaultInjectingDriver;
using driver::Operation;
using test::contains;

namespace {

constexpr uint64_t kChunk = 2_MiB;

std::unique_ptr<driver::Driver> make_device(uint64_t total_bytes) {
  return driver::make_simulated_driver({.name = "bank", .total_bytes = total_bytes},
                                       std::make_shared<driver::VirtualLink>(0))
      .value();
}

size_t open_descriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    ++count;
  }
  return count;
}

std::vector<UniqueFd> copies_of(const Bank& bank) {
  std::vector<UniqueFd> copies;
  for (const int fd : bank.descriptors()) copies.emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  return copies;
}

// A word at the beginning of a chunk, through a mapping of this driver.
template <class Use>
void with_mapping(driver::Driver& device, driver::ChunkHandle chunk, Use use) {
  const driver::Address address = device.reserve(kChunk, "test").value();
  REQUIRE(device.map(address, {&chunk, 1}, kChunk, driver::Access::read_write));
  use(reinterpret_cast<uint64_t*>(address));
  REQUIRE(device.unmap(address, kChunk));
  REQUIRE(device.unreserve(address, kChunk));
}

}  // namespace

TEST_CASE("the default chunk keeps the table small and a restore early") {
  CHECK(bank::default_chunk_bytes(0) == 2_MiB);
  CHECK(bank::default_chunk_bytes(512_MiB - 1) == 2_MiB);
  CHECK(bank::default_chunk_bytes(512_MiB) == 4_MiB);
  CHECK(bank::default_chunk_bytes(3_GiB) == 16_MiB);
  CHECK(bank::default_chunk_bytes(4_GiB) == 32_MiB);
  CHECK(bank::default_chunk_bytes(UINT64_MAX) == 32_MiB);
}

TEST_CASE("a bank takes its chunks at creation and returns them at its end") {
  auto device = make_device(8 * kChunk);
  const size_t descriptors_before = open_descriptors();
  {
    std::vector<uint32_t> progress;
    auto bank = Bank::create(*device, kChunk, 6, [&](uint32_t done, uint32_t total) {
                  CHECK(total == 6);
                  progress.push_back(done);
                }).value();
    CHECK(progress == std::vector<uint32_t>{1, 2, 3, 4, 5, 6});
    CHECK(bank->chunk_count() == 6);
    CHECK(bank->chunk_bytes() == kChunk);
    CHECK(device->memory_info()->free_bytes == 2 * kChunk);

    std::set<driver::ChunkHandle> handles;
    std::set<int> descriptors;
    for (uint32_t i = 0; i < 6; ++i) {
      handles.insert(bank->handle(i));
      descriptors.insert(bank->descriptor(i));
      CHECK(bank->descriptor(i) >= bank::kLowestDescriptor);
      CHECK((fcntl(bank->descriptor(i), F_GETFD) & FD_CLOEXEC) != 0);
    }
    CHECK(handles.size() == 6);
    CHECK(descriptors.size() == 6);
    CHECK_THROWS_AS(bank->handle(6), InvariantViolation);
    CHECK_THROWS_AS(bank->descriptor(6), InvariantViolation);
  }
  CHECK(device->memory_info()->free_bytes == 8 * kChunk);
  CHECK(open_descriptors() == descriptors_before);
}

TEST_CASE("ids of banks are random") {
  auto device = make_device(2 * kChunk);
  const auto a = Bank::create(*device, kChunk, 1, {}).value();
  const auto b = Bank::create(*device, kChunk, 1, {}).value();
  CHECK(a->id().size() == 32);
  CHECK(a->id().find_first_not_of("0123456789abcdef") == std::string::npos);
  CHECK(a->id() != b->id());
}

TEST_CASE("an imported bank is the same memory, index by index") {
  auto owner = make_device(4 * kChunk);
  auto client = make_device(4 * kChunk);
  auto bank = Bank::create(*owner, kChunk, 3, {}).value();
  auto imported = Bank::import(*client, bank->id(), kChunk, copies_of(*bank)).value();
  CHECK(imported->id() == bank->id());
  REQUIRE(imported->chunk_count() == 3);
  for (const int fd : imported->descriptors()) CHECK(fd >= bank::kLowestDescriptor);
  for (uint32_t i = 0; i < 3; ++i) {
    with_mapping(*owner, bank->handle(i), [&](uint64_t* word) { *word = 1000 + i; });
  }
  for (uint32_t i = 0; i < 3; ++i) {
    with_mapping(*client, imported->handle(i), [&](uint64_t* word) { CHECK(*word == 1000 + i); });
  }
  // A restarted arbiter gets the chunks from what a client kept.
  bank.reset();
  auto again = Bank::import(*owner, imported->id(), kChunk, copies_of(*imported)).value();
  with_mapping(*owner, again->handle(2), [&](uint64_t* word) { CHECK(*word == 1002); });
}

TEST_CASE("impossible banks are refused with what to do") {
  auto device = make_device(4 * kChunk);
  const auto odd = Bank::create(*device, kChunk + 1, 1, {});
  REQUIRE_FALSE(odd);
  CHECK(odd.error().code == ErrorCode::invalid_argument);
  CHECK_THAT(odd.error().message, contains("multiple of 2097152"));
  CHECK(Bank::create(*device, 0, 1, {}).error().code == ErrorCode::invalid_argument);
  CHECK(Bank::create(*device, kChunk, 0, {}).error().code == ErrorCode::invalid_argument);
  CHECK(Bank::import(*device, "id", kChunk, {}).error().code == ErrorCode::invalid_argument);

  const auto large = Bank::create(*device, kChunk, 5, {});
  REQUIRE_FALSE(large);
  CHECK(large.error().code == ErrorCode::out_of_memory);
  CHECK_THAT(large.error().message, contains("chunk 5 of 5"));
  CHECK(device->memory_info()->free_bytes == 4 * kChunk);
}

TEST_CASE("a failure at any chunk leaves nothing behind") {
  FaultInjectingDriver device(make_device(8 * kChunk));
  const Error error{ErrorCode::driver_failure, "injected"};
  const size_t descriptors_before = open_descriptors();
  for (const Operation operation : {Operation::create_chunk, Operation::export_chunk}) {
    for (uint64_t nth = 1; nth <= 4; ++nth) {
      device.fail_call(operation, nth, error);
      const auto bank = Bank::create(device, kChunk, 4, {});
      REQUIRE_FALSE(bank);
      CHECK_THAT(bank.error().message, contains("injected"));
      CHECK(device.memory_info()->free_bytes == 8 * kChunk);
      CHECK(open_descriptors() == descriptors_before);
    }
  }
  const auto bank = Bank::create(device, kChunk, 4, {}).value();
  const size_t descriptors_with_bank = open_descriptors();
  for (uint64_t nth = 1; nth <= 4; ++nth) {
    device.fail_call(Operation::import_chunk, nth, error);
    const auto imported = Bank::import(device, bank->id(), kChunk, copies_of(*bank));
    REQUIRE_FALSE(imported);
    CHECK_THAT(imported.error().message, contains("could not be imported"));
    CHECK(open_descriptors() == descriptors_with_bank);
  }
}

TEST_CASE("a low soft limit of open files is raised") {
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
  const rlimit low{.rlim_cur = 1024, .rlim_max = before.rlim_max};
  REQUIRE(setrlimit(RLIMIT_NOFILE, &low) == 0);
  auto device = make_device(4 * kChunk);
  CHECK(Bank::create(*device, kChunk, 4, {}));
  rlimit after{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &after) == 0);
  CHECK(after.rlim_cur > static_cast<rlim_t>(bank::kLowestDescriptor));
  CHECK(after.rlim_max == before.rlim_max);
  REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
}

// In a child: a process without privileges cannot raise its hard limit again.
template <class Check>
bool holds_with_hard_limit(rlim_t most, const Check& check) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const rlimit low{.rlim_cur = most / 2, .rlim_max = most};
    if (setrlimit(RLIMIT_NOFILE, &low) != 0) _exit(2);
    _exit(check() ? 0 : 1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status) == 0;
}

TEST_CASE("below a hard limit that leaves no high numbers, low ones do") {
  CHECK(holds_with_hard_limit(3000, [] {
    auto device = make_device(4 * kChunk);
    const auto bank = Bank::create(*device, kChunk, 4, {});
    if (!bank) return false;
    const auto imported = Bank::import(*device, (*bank)->id(), kChunk, copies_of(**bank));
    return imported && (*imported)->descriptor(3) < 3000;
  }));
}

TEST_CASE("a hard limit that is too low is an error with both numbers") {
  CHECK(holds_with_hard_limit(100, [] {
    auto device = make_device(4 * kChunk);
    const std::string needed = std::to_string(open_descriptors() + 2 * 4 + 256);
    const auto bank = Bank::create(*device, kChunk, 4, {});
    return !bank && bank.error().code == ErrorCode::descriptor_limit &&
           bank.error().message.find("is 100;") != std::string::npos &&
           bank.error().message.find("limit of " + needed) != std::string::npos &&
           device->memory_info()->free_bytes == 4 * kChunk;
  }));
}
