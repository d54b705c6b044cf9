#include "csrc/client/copy_place.h"

#include <array>
#include <cstddef>
#include <cstdlib>
#include <string>
#include <utility>

#include "csrc/base/cleanup.h"
#include "csrc/base/units.h"

namespace rtswap::client {
namespace {

constexpr size_t kPage_bytes = 4096;

struct FreeDeleter {
  void operator()(void* memory) const { std::free(memory); }
};

// The largest chunk of at most `bytes` that the device has room for; `bytes` becomes its size.
Result<driver::ChunkHandle> largest_chunk(driver::Driver& driver, uint64_t& bytes) {
  const uint64_t granularity_bytes = driver.info().granularity_bytes;
  while (true) {
    bytes = round_up(bytes, granularity_bytes);
    auto chunk = driver.create_chunk(bytes);
    const bool smaller_may_fit =
        !chunk && chunk.error().code == ErrorCode::out_of_memory && bytes > granularity_bytes;
    if (!smaller_may_fit) return chunk;
    bytes /= 2;
  }
}

}  // namespace

struct CopyPlace::Parts {
  explicit Parts(driver::Driver& on) : driver(on) {}

  Status make(uint64_t wanted_bytes) {
    bytes = wanted_bytes;
    RTSWAP_ASSIGN(chunk, largest_chunk(driver, bytes));
    cleanup.add([this] { return driver.release_chunk(chunk); });
    RTSWAP_ASSIGN(address, driver.reserve(bytes, "link probe"));
    cleanup.add([this] { return driver.unreserve(address, bytes); });
    RTSWAP_TRY(map());
    cleanup.add([this] { return mapped ? unmap() : Status(); });
    host.reset(std::aligned_alloc(kPage_bytes, bytes));
    if (host == nullptr) {
      return fail(ErrorCode::host_memory,
                  "no " + std::to_string(bytes) + " bytes of memory to measure the link with");
    }
    RTSWAP_TRY(driver.register_host(host.get(), bytes));
    cleanup.add([this] { return driver.unregister_host(host.get()); });
    RTSWAP_ASSIGN(stream, driver.create_stream());
    cleanup.add([this] { return driver.destroy_stream(stream); });
    RTSWAP_ASSIGN(event, driver.create_event());
    cleanup.add([this] { return driver.destroy_event(event); });
    // First of all: a copy that a failure left under way still uses the memory.
    cleanup.add([this] { return finish(); });
    return {};
  }

  Status finish() {
    RTSWAP_TRY(driver.record_event(event, stream));
    return driver.synchronize_event(event);
  }

  Status map() {
    RTSWAP_TRY(driver.map(address, std::array{chunk}, bytes, driver::Access::read_write));
    mapped = true;
    return {};
  }

  Status unmap() {
    RTSWAP_TRY(driver.unmap(address, bytes));
    mapped = false;
    return {};
  }

  driver::Driver& driver;
  uint64_t bytes = 0;
  driver::ChunkHandle chunk{};
  driver::Address address = 0;
  bool mapped = false;
  driver::StreamHandle stream{};
  driver::EventHandle event{};
  std::unique_ptr<void, FreeDeleter> host;  // before the clean-up: copies may use it until then
  Cleanup cleanup;
};

CopyPlace::CopyPlace(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

CopyPlace::~CopyPlace() = default;

Result<std::unique_ptr<CopyPlace>> CopyPlace::make(driver::Driver& driver, uint64_t bytes) {
  auto parts = std::make_unique<Parts>(driver);
  RTSWAP_TRY(parts->make(bytes));
  return std::unique_ptr<CopyPlace>(new CopyPlace(std::move(parts)));
}

uint64_t CopyPlace::bytes() const { return parts_->bytes; }

Status CopyPlace::start(Direction direction) {
  Parts& parts = *parts_;
  return direction == Direction::to_device
             ? parts.driver.copy_to_device(parts.address, parts.host.get(), parts.bytes,
                                           parts.stream)
             : parts.driver.copy_to_host(parts.host.get(), parts.address, parts.bytes,
                                         parts.stream);
}

Status CopyPlace::finish() { return parts_->finish(); }

Status CopyPlace::unmap() { return parts_->unmap(); }

Status CopyPlace::map() { return parts_->map(); }

}  // namespace rtswap::client
