#include <array>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "csrc/base/check.h"
#include "csrc/base/units.h"
#include "csrc/driver/call_text.h"
#include "csrc/driver/simulated.h"
#include "csrc/driver/simulated_chunk.h"
#include "csrc/driver/simulated_host.h"
#include "csrc/driver/simulated_space.h"

namespace rtswap::driver {
namespace {

tl::unexpected<Error> refuse(const std::string& call, const std::string& why) {
  return fail(ErrorCode::driver_failure, "simulated device: " + call + ": " + why);
}

// Puts the call before an error of the layer below.
tl::unexpected<Error> refuse(const std::string& call, Error error) {
  error.message = "simulated device: " + call + ": " + error.message;
  return fail(std::move(error));
}

class SimulatedDriver final : public Driver {
 public:
  SimulatedDriver(const SimulatedOptions& options, std::shared_ptr<SimulatedLink> link)
      : info_{.uuid = "SIM-" + options.name,
              .name = "simulated device",
              .total_bytes = options.total_bytes,
              .granularity_bytes = kSimulatedGranularityBytes,
              .simulated = true},
        poison_on_map_(options.poison_on_map),
        link_(std::move(link)),
        budget_(std::make_shared<ChunkBudget>(options.total_bytes)) {}

  // Copies that were queued still run, as their memory is the caller's until they are complete.
  ~SimulatedDriver() override {
    for (const TicketPtr& last : last_copy_) {
      if (last != nullptr) link_->wait(*last);
    }
  }

  const DeviceInfo& info() const noexcept override { return info_; }

  Result<MemoryInfo> memory_info() override {
    return MemoryInfo{.free_bytes = budget_->free_bytes(), .total_bytes = info_.total_bytes};
  }

  Result<ChunkHandle> create_chunk(uint64_t bytes) override {
    if (bytes == 0 || bytes % kSimulatedGranularityBytes != 0) {
      return refuse(call_text("create_chunk", Bytes{bytes}),
                    "not a positive multiple of " + std::to_string(kSimulatedGranularityBytes));
    }
    RTSWAP_ASSIGN(ChunkPtr chunk, SimulatedChunk::create(bytes, budget_));
    return add_handle(std::move(chunk), false);
  }

  Result<UniqueFd> export_chunk(ChunkHandle chunk) override {
    const std::string call = call_text("export_chunk", id(chunk));
    const std::lock_guard lock(mutex_);
    const auto found = handles_.find(chunk);
    if (found == handles_.end()) return refuse(call, "there is no such chunk");
    if (found->second.imported) return refuse(call, "the chunk was imported: keep its descriptor");
    return duplicate_fd(found->second.chunk->fd());
  }

  Result<ChunkHandle> import_chunk(int fd, uint64_t bytes) override {
    RTSWAP_ASSIGN(ChunkPtr chunk, SimulatedChunk::import(fd, bytes, budget_));
    return add_handle(std::move(chunk), true);
  }

  Status release_chunk(ChunkHandle chunk) override {
    const std::lock_guard lock(mutex_);
    if (handles_.erase(chunk) == 0) {
      return refuse(call_text("release_chunk", id(chunk)), "there is no such chunk");
    }
    return {};
  }

  Result<Address> reserve(uint64_t bytes, std::string_view label) override {
    auto address = space_->reserve(bytes, label);
    if (!address) return refuse(call_text("reserve", Bytes{bytes}, label), address.error());
    return address;
  }

  Status unreserve(Address address, uint64_t bytes) override {
    return with_call(space_->unreserve(address, bytes), "unreserve", Hex{address}, Bytes{bytes});
  }

  Status map(Address address, std::span<const ChunkHandle> chunks, uint64_t chunk_bytes,
             Access access) override {
    const std::string call =
        call_text("map", Hex{address}, std::to_string(chunks.size()) + " chunks",
                  Bytes{chunk_bytes}, access == Access::read_only ? "read_only" : "read_write");
    std::vector<ChunkPtr> pieces;
    pieces.reserve(chunks.size());
    {
      const std::lock_guard lock(mutex_);
      for (const ChunkHandle chunk : chunks) {
        const auto found = handles_.find(chunk);
        if (found == handles_.end()) {
          return refuse(call, "there is no chunk " + std::to_string(id(chunk)));
        }
        if (found->second.chunk->bytes() != chunk_bytes) {
          return refuse(call, "chunk " + std::to_string(id(chunk)) + " has " +
                                  std::to_string(found->second.chunk->bytes()) + " bytes");
        }
        pieces.push_back(found->second.chunk);
      }
    }
    if (Status mapped = space_->map(address, pieces, access); !mapped) {
      return refuse(call, std::move(mapped).error());
    }
    if (!poison_on_map_ || access == Access::read_only) return {};
    for (const ChunkPtr& piece : pieces) {
      if (Status poisoned = piece->poison(); !poisoned) {
        RTSWAP_TRY(space_->unmap(address, pieces.size() * chunk_bytes));
        return refuse(call, std::move(poisoned).error());
      }
    }
    return {};
  }

  Status unmap(Address address, uint64_t bytes) override {
    return with_call(space_->unmap(address, bytes), "unmap", Hex{address}, Bytes{bytes});
  }

  Result<StreamHandle> create_stream() override {
    const std::lock_guard lock(mutex_);
    const StreamHandle stream{next_id_++};
    streams_[stream];
    return stream;
  }

  Status destroy_stream(StreamHandle stream) override {
    const std::lock_guard lock(mutex_);
    if (streams_.erase(stream) == 0) {
      return refuse(call_text("destroy_stream", id(stream)), "there is no such stream");
    }
    return {};
  }

  Result<EventHandle> create_event() override {
    const std::lock_guard lock(mutex_);
    const EventHandle event{next_id_++};
    events_[event];
    return event;
  }

  Status destroy_event(EventHandle event) override {
    const std::lock_guard lock(mutex_);
    if (events_.erase(event) == 0) return no_such_event("destroy_event", event);
    return {};
  }

  Status record_event(EventHandle event, StreamHandle stream) override {
    const std::lock_guard lock(mutex_);
    const auto found = events_.find(event);
    if (found == events_.end()) return no_such_event("record_event", event);
    if (stream == kDefaultStream) {
      found->second.clear();
      return {};
    }
    const auto tail = streams_.find(stream);
    if (tail == streams_.end()) return no_such_stream("record_event", stream);
    found->second = tail->second;
    return {};
  }

  Status wait_event(StreamHandle stream, EventHandle event) override {
    if (stream == kDefaultStream) return synchronize_event(event);
    const std::lock_guard lock(mutex_);
    const auto found = events_.find(event);
    if (found == events_.end()) return no_such_event("wait_event", event);
    const auto tail = streams_.find(stream);
    if (tail == streams_.end()) return no_such_stream("wait_event", stream);
    std::erase_if(tail->second, [&](const TicketPtr& ticket) { return link_->is_done(*ticket); });
    tail->second.insert(tail->second.end(), found->second.begin(), found->second.end());
    return {};
  }

  Result<bool> query_event(EventHandle event) override {
    const std::lock_guard lock(mutex_);
    const auto found = events_.find(event);
    if (found == events_.end()) return no_such_event("query_event", event);
    std::erase_if(found->second, [&](const TicketPtr& ticket) { return link_->is_done(*ticket); });
    return found->second.empty();
  }

  Status synchronize_event(EventHandle event) override {
    Tickets tickets;
    {
      const std::lock_guard lock(mutex_);
      const auto found = events_.find(event);
      if (found == events_.end()) return no_such_event("synchronize_event", event);
      tickets = found->second;
    }
    for (const TicketPtr& ticket : tickets) link_->wait(*ticket);
    return {};
  }

  Status copy_to_device(Address destination, const void* host, uint64_t bytes,
                        StreamHandle stream) override {
    return copy("copy_to_device", CopyDirection::to_device, destination, const_cast<void*>(host),
                bytes, stream);
  }

  Status copy_to_host(void* host, Address source, uint64_t bytes, StreamHandle stream) override {
    return copy("copy_to_host", CopyDirection::to_host, source, host, bytes, stream);
  }

  Status register_host(void* host, uint64_t bytes) override {
    return with_call(host_->add(host, bytes), "register_host", host, Bytes{bytes});
  }

  Status unregister_host(void* host) override {
    return with_call(host_->remove(host), "unregister_host", host);
  }

  Status attach_thread() override { return {}; }
  Status on_program_thread(const std::function<Status()>& body) override { return body(); }

 private:
  // What must be complete before later work on a stream may start.
  using Tickets = std::vector<TicketPtr>;
  struct Handle {
    ChunkPtr chunk;
    bool imported = false;
  };
  static constexpr StreamHandle kDefaultStream{0};

  template <class Handle>
  static uint64_t id(Handle handle) {
    return static_cast<uint64_t>(handle);
  }

  template <class... Arguments>
  static Status with_call(Status status, const char* name, const Arguments&... arguments) {
    if (status) return status;
    return refuse(call_text(name, arguments...), std::move(status).error());
  }

  static tl::unexpected<Error> no_such_event(const char* call, EventHandle event) {
    return refuse(call_text(call, id(event)), "there is no such event");
  }
  static tl::unexpected<Error> no_such_stream(const char* call, StreamHandle stream) {
    return refuse(call_text(call, id(stream)), "there is no such stream");
  }

  // Several handles of one memory share one chunk, which is counted once.
  ChunkHandle add_handle(ChunkPtr chunk, bool imported) {
    const std::lock_guard lock(mutex_);
    for (const auto& [handle, known] : handles_) {
      if (known.chunk->identity() == chunk->identity()) {
        chunk = known.chunk;
        break;
      }
    }
    const ChunkHandle handle{next_id_++};
    handles_.emplace(handle, Handle{.chunk = std::move(chunk), .imported = imported});
    return handle;
  }

  Status copy(const char* name, CopyDirection direction, Address device, void* host, uint64_t bytes,
              StreamHandle stream) {
    const auto refuse_copy = [&](const std::string& why) {
      return refuse(call_text(name, Hex{device}, host, Bytes{bytes}, id(stream)), why);
    };
    const bool to_device = direction == CopyDirection::to_device;
    auto device_pin =
        space_->pin(device, bytes, to_device ? Access::read_write : Access::read_only);
    if (!device_pin) return refuse_copy(device_pin.error().message);
    auto host_pin = host_->pin(host, bytes);
    if (!host_pin) return refuse_copy(host_pin.error().message);
    void* const memory = reinterpret_cast<void*>(device);
    CopyRequest request{.direction = direction,
                        .to = to_device ? memory : host,
                        .from = to_device ? host : memory,
                        .bytes = bytes,
                        .after = {},
                        .holds = {std::move(*device_pin), std::move(*host_pin)}};
    TicketPtr ticket;
    {
      const std::lock_guard lock(mutex_);
      Tickets* tail = nullptr;
      if (stream != kDefaultStream) {
        const auto found = streams_.find(stream);
        if (found == streams_.end()) return refuse_copy("there is no such stream");
        tail = &found->second;
        request.after = *tail;
      }
      ticket = link_->submit(std::move(request));
      last_copy_[static_cast<size_t>(direction)] = ticket;
      if (tail != nullptr) *tail = {ticket};
    }
    if (stream == kDefaultStream) link_->wait(*ticket);
    return {};
  }

  const DeviceInfo info_;
  const bool poison_on_map_;
  const std::shared_ptr<SimulatedLink> link_;
  const std::shared_ptr<ChunkBudget> budget_;
  const std::shared_ptr<SimulatedSpace> space_ = std::make_shared<SimulatedSpace>();
  const std::shared_ptr<HostRanges> host_ = std::make_shared<HostRanges>();

  std::mutex mutex_;  // guards what follows
  uint64_t next_id_ = 1;
  std::map<ChunkHandle, Handle> handles_;
  std::map<StreamHandle, Tickets> streams_;
  std::map<EventHandle, Tickets> events_;
  std::array<TicketPtr, 2> last_copy_;  // per direction, in which copies complete in order
};

}  // namespace

int64_t simulated_chunk_cost_ns(uint64_t chunk_bytes) {
  constexpr int64_t kCostPerMiB_ns = 200'000;
  return static_cast<int64_t>(div_up(chunk_bytes, uint64_t{1} << 20)) * kCostPerMiB_ns;
}

Result<std::unique_ptr<Driver>> make_simulated_driver(SimulatedOptions options,
                                                      std::shared_ptr<SimulatedLink> link) {
  if (options.name.empty()) {
    return fail(ErrorCode::invalid_argument, "a simulated device needs a name");
  }
  if (options.total_bytes < kSimulatedGranularityBytes) {
    return fail(ErrorCode::invalid_argument,
                "a simulated device of " + std::to_string(options.total_bytes) +
                    " bytes is too small: it needs at least " +
                    std::to_string(kSimulatedGranularityBytes >> 20) + " MiB");
  }
  options.total_bytes -= options.total_bytes % kSimulatedGranularityBytes;
  RTSWAP_CHECK(link != nullptr, "a simulated device needs a link");
  return std::make_unique<SimulatedDriver>(options, std::move(link));
}

}  // namespace rtswap::driver
