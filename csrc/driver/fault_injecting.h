// A driver that fails on demand: passes every call on to another driver, except those that it was
// told to fail, which never reach it. For tests of what stands above the driver.
//
// Deterministic: what fails depends on the order of calls and the seed alone.
// Threads: every method may be called from any thread.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>

#include "csrc/base/result.h"
#include "csrc/driver/driver.h"

namespace rtswap::driver {

// One for each method of Driver that can fail.
enum class Operation : uint8_t {
  memory_info,
  create_chunk,
  export_chunk,
  import_chunk,
  release_chunk,
  reserve,
  unreserve,
  map,
  unmap,
  create_stream,
  destroy_stream,
  create_event,
  destroy_event,
  record_event,
  wait_event,
  query_event,
  synchronize_event,
  copy_to_device,
  copy_to_host,
  register_host,
  unregister_host,
  attach_thread,
};
inline constexpr size_t kOperationCount = static_cast<size_t>(Operation::attach_thread) + 1;

class FaultInjectingDriver final : public Driver {
 public:
  explicit FaultInjectingDriver(std::unique_ptr<Driver> inner);

  // The `nth` call of the operation from now on (1: the next one) returns `error`. An error with
  // code `device_lost` also ends the device: every call after it returns the same.
  void fail_call(Operation operation, uint64_t nth, Error error);
  // From now on each call fails with `error` with this probability (0: never again). Calls that
  // take something back (release, unmap, unreserve, destroy, unregister) are left alone: a driver
  // that refuses them is broken for good, and is tested with fail_call.
  void fail_randomly(double probability, uint64_t seed, Error error);

  // Calls so far, failed ones included.
  uint64_t calls(Operation operation) const;
  // Calls that this adaptor failed.
  uint64_t injected() const;

  const DeviceInfo& info() const noexcept override { return inner_->info(); }
  Result<MemoryInfo> memory_info() override;
  Result<ChunkHandle> create_chunk(uint64_t bytes) override;
  Result<UniqueFd> export_chunk(ChunkHandle chunk) override;
  Result<ChunkHandle> import_chunk(int fd, uint64_t bytes) override;
  Status release_chunk(ChunkHandle chunk) override;
  Result<Address> reserve(uint64_t bytes, std::string_view label) override;
  Status unreserve(Address address, uint64_t bytes) override;
  Status map(Address address, std::span<const ChunkHandle> chunks, uint64_t chunk_bytes,
             Access access) override;
  Status unmap(Address address, uint64_t bytes) override;
  Result<StreamHandle> create_stream() override;
  Status destroy_stream(StreamHandle stream) override;
  Result<EventHandle> create_event() override;
  Status destroy_event(EventHandle event) override;
  Status record_event(EventHandle event, StreamHandle stream) override;
  Status wait_event(StreamHandle stream, EventHandle event) override;
  Result<bool> query_event(EventHandle event) override;
  Status synchronize_event(EventHandle event) override;
  Status copy_to_device(Address destination, const void* host, uint64_t bytes,
                        StreamHandle stream) override;
  Status copy_to_host(void* host, Address source, uint64_t bytes, StreamHandle stream) override;
  Status register_host(void* host, uint64_t bytes) override;
  Status unregister_host(void* host) override;
  Status attach_thread() override;
  Status on_program_thread(const std::function<Status()>& body) override;

 private:
  struct RandomFaults {
    double probability = 0;
    std::mt19937_64 generator;
    Error error;
  };

  // Counts the call; the error that it is to fail with, if any.
  Status admit(Operation operation);

  const std::unique_ptr<Driver> inner_;
  mutable std::mutex mutex_;  // guards what follows
  std::array<uint64_t, kOperationCount> calls_{};
  std::array<std::map<uint64_t, Error>, kOperationCount> planned_;  // by number of the call
  RandomFaults random_;
  std::optional<Error> lost_;
  uint64_t injected_ = 0;
};

}  // namespace rtswap::driver
