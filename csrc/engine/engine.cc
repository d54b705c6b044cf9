#include "csrc/engine/engine.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "csrc/base/units.h"
#include "csrc/engine/arena.h"
#include "csrc/engine/dispatcher.h"
#include "csrc/engine/engine_thread.h"
#include "csrc/engine/evict_lane.h"
#include "csrc/engine/host_image.h"
#include "csrc/engine/residency.h"
#include "csrc/engine/restore_lane.h"

namespace rtswap::engine {
namespace {

tl::unexpected<Error> no_such_arena(ArenaId id) {
  return fail(ErrorCode::closed, "arena " + std::to_string(id) + " is not open");
}

tl::unexpected<Error> is_closing(const Arena& arena) {
  return fail(ErrorCode::closed, "arena " + arena.label + " is being closed");
}

bool lies_in(const ByteRange& range, const Segment& segment) {
  return range.address >= segment.address && range.address - segment.address <= segment.bytes &&
         range.bytes <= segment.bytes - (range.address - segment.address);
}

// The index of the scratch segment that begins there. REQUIRES the arena's mutex.
Result<size_t> find_scratch(const Arena& arena, driver::Address address,
                            std::span<const ByteRange> bytes) {
  if (arena.closing) return is_closing(arena);
  const auto segments = arena.state.segments();
  const auto segment =
      std::find_if(segments.begin(), segments.end(), [&](const Segment& candidate) {
        return candidate.kind == Kind::scratch && candidate.address == address;
      });
  if (segment == segments.end()) {
    return fail(ErrorCode::invalid_argument,
                "no scratch segment of arena " + arena.label + " begins there");
  }
  if (!std::all_of(bytes.begin(), bytes.end(),
                   [&](const ByteRange& range) { return lies_in(range, *segment); })) {
    return fail(ErrorCode::invalid_argument,
                "bytes outside the scratch segment of arena " + arena.label);
  }
  return static_cast<size_t>(segment - segments.begin());
}

}  // namespace

class Engine::Impl {
 public:
  Impl(driver::Driver& driver, const bank::Bank& bank, EngineListener& listener,
       EngineOptions options)
      : driver_(driver),
        bank_(bank),
        images_(driver),
        streams_(driver),
        residency_(driver, bank, streams_, options.guard),
        restore_lane_(driver, bank, listener, streams_, residency_, dispatcher_),
        evict_lane_(driver, bank.chunk_bytes(), listener, options, images_, streams_, residency_,
                    dispatcher_),
        restore_thread_(start_engine_thread("rtswap-restore", [this] { restore_lane_.run(); })) {
    try {
      evict_thread_ = start_engine_thread("rtswap-evict", [this] { evict_lane_.run(); });
    } catch (...) {  // the system has no more threads
      dispatcher_.restores().close();
      restore_thread_.join();
      throw;
    }
  }

  ~Impl();

  Status open_arena(ArenaId id, const std::string& label);
  Result<Segment> add_segment(ArenaId id, Kind kind, uint64_t bytes);
  Status discard_segments(ArenaId id, uint32_t first_position);
  Status keep_scratch(ArenaId id, driver::Address segment_address,
                      std::span<const ByteRange> bytes);
  Status keep_addresses(ArenaId id, driver::Address segment_address);
  void submit(ArenaId id, Command command);
  Result<std::vector<uint32_t>> resident_chunks(ArenaId id);
  Status close_arena(ArenaId id, const std::function<void()>& unmapped);
  ArenaPtr find(ArenaId id) const;
  std::vector<std::string> evicted_labels() const;

 private:
  // Frees the memory of an arena that takes no more commands; may be repeated after a failure.
  Status tear_down(Arena& arena, const std::function<void()>& unmapped);

  driver::Driver& driver_;
  const bank::Bank& bank_;
  mutable std::mutex mutex_;  // guards arenas_
  std::map<ArenaId, ArenaPtr> arenas_;
  HostImages images_;
  CopyStreams streams_;
  const Residency residency_;
  Dispatcher dispatcher_;
  RestoreLane restore_lane_;
  EvictLane evict_lane_;
  std::thread restore_thread_;
  std::thread evict_thread_;
};

Engine::Impl::~Impl() {
  while (true) {
    ArenaPtr arena;
    {
      const std::lock_guard lock(mutex_);
      if (arenas_.empty()) break;
      arena = arenas_.begin()->second;
    }
    if (close_arena(arena->id, [] {})) continue;
    // What the driver does not take back stays with it until the process ends.
    for (Arena::Backing& backing : arena->backings) {
      if (backing.image != nullptr) backing.image->abandon();
    }
    const std::lock_guard lock(mutex_);
    arenas_.erase(arena->id);
  }
  dispatcher_.restores().close();
  dispatcher_.evictions().close();
  restore_thread_.join();
  evict_thread_.join();
}

ArenaPtr Engine::Impl::find(ArenaId id) const {
  const std::lock_guard lock(mutex_);
  const auto found = arenas_.find(id);
  return found == arenas_.end() ? nullptr : found->second;
}

std::vector<std::string> Engine::Impl::evicted_labels() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> labels;
  for (const auto& [id, arena] : arenas_) {
    const std::lock_guard arena_lock(arena->mutex);
    if (arena->state.landed() < arena->state.total()) labels.push_back(arena->label);
  }
  return labels;
}

Status Engine::Impl::open_arena(ArenaId id, const std::string& label) {
  const std::lock_guard lock(mutex_);
  const auto [place, is_new] = arenas_.try_emplace(id);
  if (!is_new) {
    return fail(ErrorCode::invalid_argument,
                "arena " + std::to_string(id) + " is open already, as " + place->second->label);
  }
  place->second = std::make_shared<Arena>(id, label, bank_.chunk_bytes());
  return {};
}

Result<Segment> Engine::Impl::add_segment(ArenaId id, Kind kind, uint64_t bytes) {
  const ArenaPtr arena = find(id);
  if (arena == nullptr) return no_such_arena(id);
  {
    const std::lock_guard lock(arena->mutex);
    if (bytes == 0 || !arena->state.can_hold(bytes)) {
      return fail(ErrorCode::invalid_argument, "a segment of " + std::to_string(bytes) +
                                                   " bytes cannot be added to arena " +
                                                   arena->label);
    }
  }
  Arena::Backing backing;
  // First the host image, whose limits a person is most likely to meet.
  if (kind != Kind::scratch) {
    RTSWAP_ASSIGN(backing.image, images_.make(bytes));
  }
  backing.reserved_bytes = round_up(bytes, bank_.chunk_bytes());
  RTSWAP_ASSIGN(backing.address, driver_.reserve(backing.reserved_bytes, arena->label));
  std::byte* const host = backing.image == nullptr ? nullptr : backing.image->data();
  {
    const std::lock_guard lock(arena->mutex);
    if (!arena->closing && arena->state.can_hold(bytes)) {
      const Segment segment = arena->state.append(kind, bytes, backing.address, host);
      arena->backings.push_back(std::move(backing));
      return segment;
    }
  }
  RTSWAP_TRY(driver_.unreserve(backing.address, backing.reserved_bytes));
  return is_closing(*arena);
}

Status Engine::Impl::discard_segments(ArenaId id, uint32_t first_position) {
  const ArenaPtr arena = find(id);
  if (arena == nullptr) return no_such_arena(id);
  std::vector<Arena::Backing> discarded;
  {
    const std::lock_guard lock(arena->mutex);
    if (arena->closing) return is_closing(*arena);
    if (arena->state.mapped() > first_position) {
      return fail(ErrorCode::invalid_argument, "segments of arena " + arena->label +
                                                   " that are on the device cannot be discarded");
    }
    arena->state.truncate(first_position);
    const auto first =
        arena->backings.begin() + static_cast<ptrdiff_t>(arena->state.segments().size());
    std::move(first, arena->backings.end(), std::back_inserter(discarded));
    arena->backings.erase(first, arena->backings.end());
  }
  Status status;
  for (const Arena::Backing& backing : discarded) {
    if (Status freed = driver_.unreserve(backing.address, backing.reserved_bytes); !freed) {
      status = std::move(freed);
    }
  }
  return status;
}

Status Engine::Impl::keep_scratch(ArenaId id, driver::Address segment_address,
                                  std::span<const ByteRange> bytes) {
  const ArenaPtr arena = find(id);
  if (arena == nullptr) return no_such_arena(id);
  uint64_t image_bytes = 0;
  {
    const std::lock_guard lock(arena->mutex);
    RTSWAP_ASSIGN(const size_t index, find_scratch(*arena, segment_address, bytes));
    const Segment& segment = arena->state.segments()[index];
    if (!bytes.empty() && segment.host == nullptr) image_bytes = segment.bytes;
  }
  std::unique_ptr<HostImage> image;  // one that is not taken goes without the mutex
  if (image_bytes > 0) {
    RTSWAP_ASSIGN(image, images_.make(image_bytes));
  }
  const std::lock_guard lock(arena->mutex);
  RTSWAP_ASSIGN(const size_t index, find_scratch(*arena, segment_address, bytes));
  if (arena->order.evicts() || !arena->state.can_keep(index, bytes)) {
    return fail(ErrorCode::invalid_argument, "memory of arena " + arena->label +
                                                 " that is not there, or leaves, cannot be kept");
  }
  if (image != nullptr && arena->state.segments()[index].host == nullptr) {
    arena->state.set_image(index, image->data());
    arena->backings[index].image = std::move(image);
  }
  arena->state.keep(index, bytes);
  return {};
}

Status Engine::Impl::keep_addresses(ArenaId id, driver::Address segment_address) {
  const ArenaPtr arena = find(id);
  if (arena == nullptr) return no_such_arena(id);
  const std::lock_guard lock(arena->mutex);
  const auto backing = std::find_if(
      arena->backings.begin(), arena->backings.end(),
      [segment_address](const auto& entry) { return entry.address == segment_address; });
  if (backing == arena->backings.end()) {
    return fail(ErrorCode::invalid_argument, "arena " + arena->label + " has no such segment");
  }
  backing->addresses_stay = true;
  return {};
}

void Engine::Impl::submit(ArenaId id, Command command) {
  if (const ArenaPtr arena = find(id)) dispatcher_.submit(arena, std::move(command));
}

Result<std::vector<uint32_t>> Engine::Impl::resident_chunks(ArenaId id) {
  const ArenaPtr arena = find(id);
  if (arena == nullptr) return no_such_arena(id);
  std::unique_lock lock(arena->mutex);
  const uint64_t given = arena->order.added();
  arena->changed.wait(lock, [&] { return arena->order.done() >= given; });
  if (arena->closing) return is_closing(*arena);
  return arena->state.resident_chunks();
}

Status Engine::Impl::close_arena(ArenaId id, const std::function<void()>& unmapped) {
  const ArenaPtr arena = find(id);
  if (arena == nullptr) return no_such_arena(id);
  {
    std::unique_lock lock(arena->mutex);
    if (arena->close_running) return is_closing(*arena);
    arena->closing = true;
    arena->close_running = true;
    arena->changed.wait(lock, [&] { return arena->order.idle(); });
  }
  Status status = tear_down(*arena, unmapped);
  if (!status) {
    const std::lock_guard lock(arena->mutex);
    arena->close_running = false;
    return status;
  }
  const std::lock_guard lock(mutex_);
  arenas_.erase(id);
  return {};
}

Status Engine::Impl::tear_down(Arena& arena, const std::function<void()>& unmapped) {
  RTSWAP_TRY(run_attached(driver_, [&] { return residency_.clear(arena); }));
  unmapped();
  // Nobody else uses the backings of a closing arena without commands.
  while (!arena.backings.empty()) {
    Arena::Backing& backing = arena.backings.back();
    if (backing.address != 0 && !backing.addresses_stay) {
      RTSWAP_TRY(driver_.unreserve(backing.address, backing.reserved_bytes));
      backing.address = 0;
    }
    if (backing.image != nullptr) RTSWAP_TRY(backing.image->release());
    arena.backings.pop_back();
  }
  return {};
}

Engine::Engine(driver::Driver& driver, const bank::Bank& bank, EngineListener& listener,
               EngineOptions options)
    : impl_(std::make_unique<Impl>(driver, bank, listener, options)) {}

Engine::~Engine() = default;

Status Engine::open_arena(ArenaId arena, const std::string& label) {
  return impl_->open_arena(arena, label);
}

Result<Segment> Engine::add_segment(ArenaId arena, Kind kind, uint64_t bytes) {
  return impl_->add_segment(arena, kind, bytes);
}

Status Engine::discard_segments(ArenaId arena, uint32_t first_position) {
  return impl_->discard_segments(arena, first_position);
}

Status Engine::keep_scratch(ArenaId arena, driver::Address segment_address,
                            std::span<const ByteRange> bytes) {
  return impl_->keep_scratch(arena, segment_address, bytes);
}

Status Engine::keep_addresses(ArenaId arena, driver::Address segment_address) {
  return impl_->keep_addresses(arena, segment_address);
}

void Engine::restore(ArenaId arena, uint32_t first_position, std::vector<uint32_t> chunks) {
  if (chunks.empty()) return;
  impl_->submit(arena, RestoreCommand{first_position, std::move(chunks)});
}

void Engine::evict(ArenaId arena, uint32_t keep_chunks) {
  impl_->submit(arena, EvictCommand{keep_chunks});
}

void Engine::mark_used(ArenaId arena) {
  const ArenaPtr found = impl_->find(arena);
  if (found == nullptr) return;
  const std::lock_guard lock(found->mutex);
  found->state.mark_used();
}

Result<std::vector<uint32_t>> Engine::resident_chunks(ArenaId arena) {
  return impl_->resident_chunks(arena);
}

Status Engine::close_arena(ArenaId arena, const std::function<void()>& unmapped) {
  return impl_->close_arena(arena, unmapped);
}

Result<ArenaStats> Engine::stats(ArenaId arena) const {
  const ArenaPtr found = impl_->find(arena);
  if (found == nullptr) return no_such_arena(arena);
  const std::lock_guard lock(found->mutex);
  return found->state.stats();
}

std::vector<std::string> Engine::evicted_labels() const { return impl_->evicted_labels(); }

}  // namespace rtswap::engine
