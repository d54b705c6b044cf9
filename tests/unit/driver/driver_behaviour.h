// What every driver does, whichever device is behind it: one suite, run against the simulated
// device in wall clock and in virtual time, against the fault-injecting adaptor, and on a machine
// with a GPU against CUDA. It looks at memory through copies only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "csrc/base/units.h"
#include "csrc/driver/driver.h"
#include "tests/catch.h"

namespace rtswap::test {

using driver::Access;
using driver::Address;
using driver::ChunkHandle;
using driver::Driver;
using driver::EventHandle;
using driver::StreamHandle;

using DriverFactory = std::function<std::unique_ptr<Driver>()>;

template <class T>
T value_of(Result<T> result) {
  INFO((result ? std::string() : result.error().message));
  REQUIRE(result.has_value());
  return std::move(result).value();
}

inline void ok(const Status& status) {
  INFO((status ? std::string() : status.error().message));
  REQUIRE(status.has_value());
}

template <class T>
void fails_with(ErrorCode code, const Result<T>& result) {
  REQUIRE_FALSE(result.has_value());
  INFO(result.error().message);
  CHECK(std::string(to_string(result.error().code)) == to_string(code));
  CHECK_FALSE(result.error().message.empty());
}

// Registered host memory with contents that differ at every offset and for every seed. It has its
// pages to itself, because CUDA pins whole pages and each only once.
class HostBuffer {
 public:
  HostBuffer(Driver& driver, size_t bytes, uint32_t seed = 0)
      : driver_(driver),
        size_(bytes),
        pages_(static_cast<std::byte*>(std::aligned_alloc(kPageBytes, round_up(bytes, kPageBytes))),
               std::free) {
    for (size_t i = 0; i < bytes; ++i) {
      pages_.get()[i] = static_cast<std::byte>((i * 2654435761u + seed * 40503u) >> 11);
    }
    ok(driver_.register_host(pages_.get(), size_));
  }
  ~HostBuffer() { CHECK(driver_.unregister_host(pages_.get()).has_value()); }
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;

  std::byte* at(size_t offset) { return pages_.get() + offset; }
  size_t size() const { return size_; }
  bool operator==(const HostBuffer& other) const {
    return size_ == other.size_ && std::memcmp(pages_.get(), other.pages_.get(), size_) == 0;
  }

 private:
  static constexpr size_t kPageBytes = 4096;

  Driver& driver_;
  const size_t size_;
  std::unique_ptr<std::byte[], decltype(&std::free)> pages_;
};

// A device with one stream and one event, and the steps that most tests need.
struct Device {
  explicit Device(const DriverFactory& make) : driver(make()) {
    ok(driver->attach_thread());
    chunk_bytes = driver->info().granularity_bytes;
    stream = value_of(driver->create_stream());
    event = value_of(driver->create_event());
  }
  ~Device() {
    CHECK(driver->destroy_event(event).has_value());
    CHECK(driver->destroy_stream(stream).has_value());
  }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  Address reserve(size_t chunks) { return value_of(driver->reserve(chunks * chunk_bytes, "test")); }
  std::vector<ChunkHandle> create(size_t count) {
    std::vector<ChunkHandle> chunks;
    for (size_t i = 0; i < count; ++i) {
      chunks.push_back(value_of(driver->create_chunk(chunk_bytes)));
    }
    return chunks;
  }
  void map(Address address, const std::vector<ChunkHandle>& chunks) {
    ok(driver->map(address, chunks, chunk_bytes, Access::read_write));
  }
  void finish() {
    ok(driver->record_event(event, stream));
    ok(driver->synchronize_event(event));
  }
  void write(Address to, const std::byte* from, size_t bytes) {
    ok(driver->copy_to_device(to, from, bytes, stream));
    finish();
  }
  void read(std::byte* to, Address from, size_t bytes) {
    ok(driver->copy_to_host(to, from, bytes, stream));
    finish();
  }
  void take_down(Address address, size_t reserved_chunks, const std::vector<ChunkHandle>& chunks) {
    if (!chunks.empty()) ok(driver->unmap(address, chunks.size() * chunk_bytes));
    ok(driver->unreserve(address, reserved_chunks * chunk_bytes));
    for (const ChunkHandle chunk : chunks) ok(driver->release_chunk(chunk));
  }

  std::unique_ptr<Driver> driver;
  uint64_t chunk_bytes = 0;
  StreamHandle stream{};
  EventHandle event{};
};

inline void describes_itself_and_its_limits(Device& device) {
  const driver::DeviceInfo& info = device.driver->info();
  CHECK_FALSE(info.uuid.empty());
  CHECK_FALSE(info.name.empty());
  REQUIRE(info.granularity_bytes > 0);
  const uint64_t all = info.total_bytes / info.granularity_bytes * info.granularity_bytes;

  const uint64_t free_bytes = value_of(device.driver->memory_info()).free_bytes;
  CHECK(value_of(device.driver->memory_info()).total_bytes <= info.total_bytes);
  const ChunkHandle chunk = value_of(device.driver->create_chunk(device.chunk_bytes));
  CHECK(value_of(device.driver->memory_info()).free_bytes < free_bytes);
  fails_with(ErrorCode::out_of_memory, device.driver->create_chunk(all));
  ok(device.driver->release_chunk(chunk));
  CHECK(value_of(device.driver->memory_info()).free_bytes >= free_bytes);

  fails_with(ErrorCode::driver_failure, device.driver->create_chunk(0));
  fails_with(ErrorCode::driver_failure, device.driver->create_chunk(device.chunk_bytes + 1));
  fails_with(ErrorCode::driver_failure, device.driver->release_chunk(ChunkHandle{0}));
}

inline void copies_bit_exact(Device& device) {
  const std::vector<ChunkHandle> chunks = device.create(3);
  const Address address = device.reserve(3);
  device.map(address, chunks);
  const size_t bytes = 3 * device.chunk_bytes;
  {
    HostBuffer image(*device.driver, bytes, 1);
    HostBuffer back(*device.driver, bytes, 2);
    device.write(address, image.at(0), bytes);
    device.read(back.at(0), address, bytes);
    CHECK((back == image));

    // Odd offsets on both sides, across a border of chunks; the neighbours stay as they were.
    const size_t length = device.chunk_bytes + 12345;
    const Address odd = address + device.chunk_bytes - 777;
    HostBuffer patch(*device.driver, length + 64, 3);
    device.write(odd, patch.at(13), length);
    std::memcpy(image.at(odd - address), patch.at(13), length);
    device.read(back.at(0), address, bytes);
    CHECK((back == image));
    device.read(back.at(5), odd, length);
    CHECK(std::memcmp(back.at(5), patch.at(13), length) == 0);
  }
  device.take_down(address, 3, chunks);
}

inline void keeps_bytes_of_chunks_between_mappings(Device& device) {
  const std::vector<ChunkHandle> chunks = device.create(2);
  const Address first = device.reserve(2);
  const Address second = device.reserve(2);
  const size_t bytes = 2 * device.chunk_bytes;
  {
    HostBuffer image(*device.driver, bytes, 4);
    HostBuffer back(*device.driver, bytes);
    device.map(first, chunks);
    device.write(first, image.at(0), bytes);
    ok(device.driver->unmap(first, bytes));
    // Elsewhere and in the other order: the bytes belong to the chunk, not to the address.
    device.map(second, {chunks[1], chunks[0]});
    device.read(back.at(0), second, bytes);
    CHECK(std::memcmp(back.at(0), image.at(device.chunk_bytes), device.chunk_bytes) == 0);
    CHECK(std::memcmp(back.at(device.chunk_bytes), image.at(0), device.chunk_bytes) == 0);
    // A part of what was mapped in one call is unmapped, and back again.
    ok(device.driver->unmap(second + device.chunk_bytes, device.chunk_bytes));
    device.map(second + device.chunk_bytes, {chunks[0]});
    device.read(back.at(0), second + device.chunk_bytes, device.chunk_bytes);
    CHECK(std::memcmp(back.at(0), image.at(0), device.chunk_bytes) == 0);
    // A released handle takes nothing away from what is mapped.
    ok(device.driver->release_chunk(chunks[0]));
    device.read(back.at(0), second + device.chunk_bytes, device.chunk_bytes);
    CHECK(std::memcmp(back.at(0), image.at(0), device.chunk_bytes) == 0);
  }
  ok(device.driver->unmap(second, bytes));
  ok(device.driver->release_chunk(chunks[1]));
  ok(device.driver->unreserve(first, bytes));
  ok(device.driver->unreserve(second, bytes));
}

inline void maps_one_chunk_read_only_at_many_addresses(Device& device) {
  const std::vector<ChunkHandle> chunks = device.create(2);
  const Address address = device.reserve(4);
  const size_t bytes = device.chunk_bytes;
  {
    HostBuffer shared(*device.driver, bytes, 11);
    HostBuffer other(*device.driver, bytes, 12);
    HostBuffer back(*device.driver, bytes, 13);
    device.map(address, {chunks[0]});
    device.write(address, shared.at(0), bytes);
    ok(device.driver->unmap(address, bytes));

    const std::vector<ChunkHandle> thrice(3, chunks[0]);
    ok(device.driver->map(address, thrice, bytes, Access::read_only));
    ok(device.driver->map(address + 3 * bytes, {&chunks[0], 1}, bytes, Access::read_only));
    for (size_t i = 0; i < 4; ++i) {
      device.read(back.at(0), address + i * bytes, bytes);
      CHECK((back == shared));
    }
    // Each mapping goes on its own, and its place can have other memory.
    ok(device.driver->unmap(address + bytes, bytes));
    device.map(address + bytes, {chunks[1]});
    device.write(address + bytes, other.at(0), bytes);
    for (size_t i = 0; i < 4; ++i) {
      device.read(back.at(0), address + i * bytes, bytes);
      CHECK((back == (i == 1 ? other : shared)));
    }
  }
  ok(device.driver->unmap(address, 4 * bytes));
  device.take_down(address, 4, {});
  for (const ChunkHandle chunk : chunks) ok(device.driver->release_chunk(chunk));
}

inline void passes_chunks_on_as_descriptors(Device& device) {
  const std::vector<ChunkHandle> own = device.create(1);
  UniqueFd fd = value_of(device.driver->export_chunk(own[0]));
  REQUIRE(fd.get() >= 0);
  const ChunkHandle imported = value_of(device.driver->import_chunk(fd.get(), device.chunk_bytes));
  fails_with(ErrorCode::driver_failure, device.driver->export_chunk(imported));
  fd.reset();  // the handle is enough
  const Address address = device.reserve(2);
  {
    HostBuffer image(*device.driver, device.chunk_bytes, 5);
    HostBuffer back(*device.driver, device.chunk_bytes);
    device.map(address, own);
    device.write(address, image.at(0), device.chunk_bytes);
    device.map(address + device.chunk_bytes, {imported});
    device.read(back.at(0), address + device.chunk_bytes, device.chunk_bytes);
    CHECK((back == image));
  }
  ok(device.driver->unmap(address + device.chunk_bytes, device.chunk_bytes));
  ok(device.driver->release_chunk(imported));
  device.take_down(address, 2, own);
}

inline void orders_streams_by_events(Device& device) {
  const std::vector<ChunkHandle> chunks = device.create(2);
  const Address address = device.reserve(2);
  device.map(address, chunks);
  const size_t bytes = 2 * device.chunk_bytes;
  const StreamHandle other = value_of(device.driver->create_stream());
  const EventHandle loaded = value_of(device.driver->create_event());
  CHECK(value_of(device.driver->query_event(loaded)));  // never recorded
  ok(device.driver->synchronize_event(loaded));
  {
    HostBuffer image(*device.driver, bytes, 6);
    HostBuffer back(*device.driver, bytes, 7);
    ok(device.driver->copy_to_device(address, image.at(0), bytes, device.stream));
    ok(device.driver->record_event(loaded, device.stream));
    // The other direction would overtake if the streams were not ordered.
    ok(device.driver->wait_event(other, loaded));
    ok(device.driver->copy_to_host(back.at(0), address, bytes, other));
    ok(device.driver->record_event(device.event, other));
    ok(device.driver->synchronize_event(device.event));
    CHECK(value_of(device.driver->query_event(device.event)));
    CHECK(value_of(device.driver->query_event(loaded)));
    CHECK((back == image));

    // The default stream waits too, and an event recorded on it is complete for a copy behind it.
    ok(device.driver->copy_to_device(address, back.at(0), device.chunk_bytes, device.stream));
    ok(device.driver->record_event(loaded, device.stream));
    ok(device.driver->wait_event(StreamHandle{0}, loaded));
    ok(device.driver->record_event(loaded, StreamHandle{0}));
    ok(device.driver->wait_event(device.stream, loaded));
    device.read(back.at(0), address, bytes);
    CHECK((back == image));
  }
  ok(device.driver->destroy_event(loaded));
  ok(device.driver->destroy_stream(other));
  device.take_down(address, 2, chunks);
}

inline void refuses_and_changes_nothing(Device& device) {
  const std::vector<ChunkHandle> chunks = device.create(2);
  const Address address = device.reserve(4);
  const size_t bytes = 2 * device.chunk_bytes;
  Driver& driver = *device.driver;
  {
    HostBuffer image(driver, bytes, 8);
    HostBuffer back(driver, bytes);
    device.map(address, chunks);
    device.write(address, image.at(0), bytes);
    const auto map = [&](Address at, std::vector<ChunkHandle> what) {
      return driver.map(at, what, device.chunk_bytes, Access::read_write);
    };
    const auto refused = [](const char* what, const auto& result) {
      INFO(what);
      fails_with(ErrorCode::driver_failure, result);
    };
    refused("mapping over a mapping", map(address, {chunks[0]}));
    // The first chunk would fit, the second does not exist.
    refused("a chunk that does not exist", map(address + bytes, {chunks[0], ChunkHandle{0}}));
    refused("registering twice", driver.register_host(image.at(0), bytes));
    refused("reserving an odd size", driver.reserve(device.chunk_bytes + 1, "odd"));
    // Nothing of this has left a trace.
    ok(map(address + bytes, {chunks[1], chunks[0]}));
    device.read(back.at(0), address, bytes);
    CHECK((back == image));
    ok(driver.unmap(address + bytes, bytes));
  }
  device.take_down(address, 4, chunks);
}

// One section each, on a fresh device each.
inline void behaves_like_a_driver(const DriverFactory& make) {
  Device device(make);
  SECTION("describes itself and its limits") { describes_itself_and_its_limits(device); }
  SECTION("copies both ways bit exact") { copies_bit_exact(device); }
  SECTION("chunks keep their bytes between mappings") {
    keeps_bytes_of_chunks_between_mappings(device);
  }
  SECTION("one chunk lies read-only at many addresses") {
    maps_one_chunk_read_only_at_many_addresses(device);
  }
  SECTION("chunks travel as descriptors") { passes_chunks_on_as_descriptors(device); }
  SECTION("events order streams") { orders_streams_by_events(device); }
  SECTION("a refused call changes nothing") { refuses_and_changes_nothing(device); }
}

}  // namespace rtswap::test
