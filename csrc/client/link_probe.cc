#include "csrc/client/link_probe.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

#include "csrc/base/clock.h"

namespace rtswap::client {
namespace {

constexpr int kCopies = 5;
constexpr int64_t kSecond_ns = 1'000'000'000;
constexpr size_t kPage_bytes = 4096;

// Takes back what was made, in reverse order.
class Cleanup {
 public:
  Cleanup() = default;
  Cleanup(const Cleanup&) = delete;
  Cleanup& operator=(const Cleanup&) = delete;
  ~Cleanup() {
    while (!steps_.empty()) {
      (void)steps_.back()();  // nobody is there to be told; the figures are known
      steps_.pop_back();
    }
  }
  void add(std::function<Status()> step) { steps_.push_back(std::move(step)); }

 private:
  std::vector<std::function<Status()>> steps_;
};

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

// Bytes per second of the slowest of some copies, the first of which does not count.
Result<uint64_t> slowest(driver::Driver& driver, driver::EventHandle event,
                         driver::StreamHandle stream, uint64_t bytes,
                         const std::function<Status()>& copy) {
  int64_t longest_ns = 1;
  for (int i = 0; i <= kCopies; ++i) {
    const int64_t start_ns = monotonic_now_ns();
    RTSWAP_TRY(copy());
    RTSWAP_TRY(driver.record_event(event, stream));
    RTSWAP_TRY(driver.synchronize_event(event));
    if (i > 0) longest_ns = std::max(longest_ns, monotonic_now_ns() - start_ns);
  }
  return static_cast<uint64_t>(static_cast<double>(bytes) * kSecond_ns /
                               static_cast<double>(longest_ns));
}

}  // namespace

Result<LinkSpeed> probe_link(driver::Driver& driver, uint64_t bytes) {
  std::unique_ptr<void, FreeDeleter> host;  // before the clean-up: copies may use it until then
  Cleanup cleanup;
  RTSWAP_ASSIGN(const driver::ChunkHandle chunk, largest_chunk(driver, bytes));
  cleanup.add([&driver, chunk] { return driver.release_chunk(chunk); });
  RTSWAP_ASSIGN(const driver::Address address, driver.reserve(bytes, "link probe"));
  cleanup.add([&driver, address, bytes] { return driver.unreserve(address, bytes); });
  RTSWAP_TRY(driver.map(address, std::array{chunk}, bytes, driver::Access::read_write));
  cleanup.add([&driver, address, bytes] { return driver.unmap(address, bytes); });
  host.reset(std::aligned_alloc(kPage_bytes, bytes));
  if (host == nullptr) {
    return fail(ErrorCode::host_memory,
                "no " + std::to_string(bytes) + " bytes of memory to measure the link with");
  }
  RTSWAP_TRY(driver.register_host(host.get(), bytes));
  cleanup.add([&driver, memory = host.get()] { return driver.unregister_host(memory); });
  RTSWAP_ASSIGN(const driver::StreamHandle stream, driver.create_stream());
  cleanup.add([&driver, stream] { return driver.destroy_stream(stream); });
  RTSWAP_ASSIGN(const driver::EventHandle event, driver.create_event());
  cleanup.add([&driver, event] { return driver.destroy_event(event); });
  // First of all: a copy that a failure left under way still uses the memory.
  cleanup.add([&driver, event, stream] {
    return driver.record_event(event, stream).and_then([&] {
      return driver.synchronize_event(event);
    });
  });

  LinkSpeed speed;
  RTSWAP_ASSIGN(speed.restore_bytes_per_s, slowest(driver, event, stream, bytes, [&] {
                  return driver.copy_to_device(address, host.get(), bytes, stream);
                }));
  RTSWAP_ASSIGN(speed.evict_bytes_per_s, slowest(driver, event, stream, bytes, [&] {
                  return driver.copy_to_host(host.get(), address, bytes, stream);
                }));
  return speed;
}

}  // namespace rtswap::client
