#include "csrc/engine/guard.h"

#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "csrc/base/cleanup.h"
#include "csrc/engine/host_image.h"

namespace rtswap::engine {

Result<std::unique_ptr<Guard>> Guard::make(driver::Driver& driver, uint64_t chunk_bytes) {
  auto chunk = driver.create_chunk(chunk_bytes);
  if (!chunk) {
    chunk.error().message =
        "the chunk of guard=True, which lies beside the bank: " + chunk.error().message;
    return fail(std::move(chunk).error());
  }
  std::unique_ptr<Guard> guard(new Guard(driver, chunk_bytes, *chunk));
  RTSWAP_TRY(guard->fill());
  return guard;
}

Guard::~Guard() { (void)driver_.release_chunk(chunk_); }  // ends with the process otherwise

Status Guard::fill() const {
  // Of pinned memory the smallest piece, copied again and again.
  const uint64_t piece_bytes = driver_.info().granularity_bytes;
  RTSWAP_ASSIGN(const std::unique_ptr<HostImage> image, HostImages(driver_).make(piece_bytes));
  std::memset(image->data(), 0xFF, piece_bytes);
  Cleanup cleanup;  // behind the image: copies may use it until then
  RTSWAP_ASSIGN(const driver::Address address, driver_.reserve(chunk_bytes_, "guard"));
  cleanup.add([this, address] { return driver_.unreserve(address, chunk_bytes_); });
  RTSWAP_TRY(driver_.map(address, std::array{chunk_}, chunk_bytes_, driver::Access::read_write));
  cleanup.add([this, address] { return driver_.unmap(address, chunk_bytes_); });
  RTSWAP_ASSIGN(const driver::StreamHandle stream, driver_.create_stream());
  cleanup.add([this, stream] { return driver_.destroy_stream(stream); });
  RTSWAP_ASSIGN(const driver::EventHandle event, driver_.create_event());
  cleanup.add([this, event] { return driver_.destroy_event(event); });
  const auto finish = [this, stream, event]() -> Status {
    RTSWAP_TRY(driver_.record_event(event, stream));
    return driver_.synchronize_event(event);
  };
  // First of all: a copy that a failure left under way still uses the memory.
  cleanup.add(finish);
  for (uint64_t offset = 0; offset < chunk_bytes_; offset += piece_bytes) {
    RTSWAP_TRY(driver_.copy_to_device(address + offset, image->data(), piece_bytes, stream));
  }
  return finish();
}

Status Guard::map(driver::Address address, uint64_t bytes) const {
  const std::vector<driver::ChunkHandle> chunks(bytes / chunk_bytes_, chunk_);
  return driver_.map(address, chunks, chunk_bytes_, driver::Access::read_only);
}

}  // namespace rtswap::engine
