// An engine on a simulated device, and the other half of the world it lives in: an arbiter that
// hands out chunks, and a program that knows what its memory must hold.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "csrc/bank/bank.h"
#include "csrc/base/check.h"
#include "csrc/base/units.h"
#include "csrc/driver/fault_injecting.h"
#include "csrc/driver/simulated.h"
#include "csrc/engine/engine.h"

namespace rtswap::engine::test {

using namespace rtswap::literals;

inline constexpr uint64_t kChunk = 2_MiB;

// Keeps what the engine reported.
class Recorder final : public EngineListener {
 public:
  struct Report {
    enum class What { restored, evicted, restore_failed, evict_failed };
    What what = What::restored;
    ArenaId arena = 0;
    uint32_t chunks = 0;
    uint64_t bytes = 0;
    std::string message;
  };

  void on_restored(ArenaId arena, uint32_t landed) override {
    add({Report::What::restored, arena, landed, 0, ""});
  }
  void on_evicted(ArenaId arena, uint32_t resident, uint64_t bytes) override {
    add({Report::What::evicted, arena, resident, bytes, ""});
  }
  void on_restore_failed(ArenaId arena, uint32_t resident, const Error& error) override {
    add({Report::What::restore_failed, arena, resident, 0, error.message});
  }
  void on_evict_failed(ArenaId arena, uint32_t resident, const Error& error) override {
    add({Report::What::evict_failed, arena, resident, 0, error.message});
  }

  // Reports since the last call.
  std::vector<Report> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(reports_, {});
  }

 private:
  void add(Report report) {
    const std::lock_guard lock(mutex_);
    reports_.push_back(std::move(report));
  }

  std::mutex mutex_;
  std::vector<Report> reports_;
};

using What = Recorder::Report::What;

struct RigOptions {
  uint32_t chunks = 16;
  bool verify = true;
  bool guard = false;
  std::shared_ptr<driver::SimulatedLink> link = std::make_shared<driver::VirtualLink>(0);
};

struct Rig {
  explicit Rig(RigOptions options = {})
      : device(driver::make_simulated_driver(
                   {.name = "engine",
                    .total_bytes = (options.chunks + (options.guard ? 1 : 0)) * kChunk,
                    .poison_on_map = true},
                   options.link)
                   .value()),
        bank(bank::Bank::create(device, kChunk, options.chunks, {}).value()) {
    if (options.guard) guard = Guard::make(device, kChunk).value();
    engine.emplace(device, *bank, listener,
                   EngineOptions{.verify = options.verify, .guard = guard.get()});
    for (uint32_t chunk = options.chunks; chunk > 0; --chunk) free_chunks.push_back(chunk - 1);
  }

  // Chunks that no arena has.
  std::vector<uint32_t> take_chunks(size_t count) {
    const std::lock_guard lock(mutex);
    std::vector<uint32_t> chunks;
    while (chunks.size() < count && !free_chunks.empty()) {
      chunks.push_back(free_chunks.back());
      free_chunks.pop_back();
    }
    return chunks;
  }
  void give_chunks(const std::vector<uint32_t>& chunks) {
    const std::lock_guard lock(mutex);
    free_chunks.insert(free_chunks.end(), chunks.begin(), chunks.end());
  }

  // Ends the engine; true when everything went back to the device, so that no reservation or
  // mapping holds a chunk.
  bool nothing_left() {
    engine.reset();
    guard.reset();
    bank.reset();
    const auto memory = device.memory_info();
    return memory->free_bytes == memory->total_bytes;
  }

  driver::FaultInjectingDriver device;
  std::unique_ptr<bank::Bank> bank;
  std::unique_ptr<Guard> guard;
  Recorder listener;
  std::mutex mutex;  // guards free_chunks
  std::vector<uint32_t> free_chunks;
  std::optional<Engine> engine;  // last: goes first
};

// An arena as its program sees it.
class Program {
 public:
  Program(Rig& rig, ArenaId id, uint64_t seed) : rig_(rig), id_(id), random_(seed) {
    RTSWAP_CHECK(rig_.engine->open_arena(id, "arena-" + std::to_string(id)).has_value(), "open");
  }

  ArenaId id() const { return id_; }
  uint32_t total() const { return total_; }

  Status add(Kind kind, uint64_t bytes) {
    RTSWAP_ASSIGN(const Segment segment, rig_.engine->add_segment(id_, kind, bytes));
    RTSWAP_CHECK(segment.first_position == total_, "positions have gaps");
    Memory memory{segment, {}};
    if (kind != Kind::scratch) {
      memory.expected.resize(bytes);
      fill(memory.expected);
      std::memcpy(segment.host, memory.expected.data(), bytes);
    }
    memories_.push_back(std::move(memory));
    total_ += segment.chunks;
    return {};
  }

  // Waits for the commands given so far; the chunks that are resident now.
  std::vector<uint32_t> resident() { return rig_.engine->resident_chunks(id_).value(); }

  // Positions up to `to` or as far as chunks are free; false when the engine reported a failure or
  // there were no chunks. `pieces` commands, given without waiting.
  bool restore(uint32_t to, uint32_t pieces = 1) {
    const auto before = static_cast<uint32_t>(resident().size());
    if (to <= before) return true;
    std::vector<uint32_t> chunks = rig_.take_chunks(to - before);
    const size_t step = div_up(std::max<size_t>(chunks.size(), 1), pieces);
    for (size_t i = 0; i < chunks.size(); i += step) {
      const size_t end = std::min(i + step, chunks.size());
      rig_.engine->restore(id_, before + static_cast<uint32_t>(i),
                           {chunks.begin() + static_cast<ptrdiff_t>(i),
                            chunks.begin() + static_cast<ptrdiff_t>(end)});
    }
    const std::vector<uint32_t> now = resident();
    reached_ = std::max(reached_, static_cast<uint32_t>(now.size()));
    for (size_t i = before; i < now.size(); ++i) {
      RTSWAP_CHECK(now[i] == chunks[i - before], "another chunk than the one that was granted");
    }
    rig_.give_chunks({chunks.begin() + static_cast<ptrdiff_t>(now.size() - before), chunks.end()});
    return now.size() == to;
  }

  // False when something beyond `keep` is still resident.
  bool evict(uint32_t keep) {
    const std::vector<uint32_t> before = resident();
    rig_.engine->evict(id_, keep);
    const std::vector<uint32_t> now = resident();
    RTSWAP_CHECK(std::equal(now.begin(), now.end(), before.begin()), "not a prefix");
    rig_.give_chunks({before.begin() + static_cast<ptrdiff_t>(now.size()), before.end()});
    return now.size() <= keep;
  }

  // One job: writes into everything that may be written. REQUIRES: wholly resident.
  void use() {
    rig_.engine->mark_used(id_);
    for (Memory& memory : memories_) {
      std::byte* const device = at(memory.segment);
      if (memory.expected.empty()) {
        std::memset(device, 0x5a, memory.segment.bytes);
      } else if (memory.segment.kind != Kind::read_only) {
        for (int i = 0; i < 64; ++i) write(memory, random_() % memory.segment.bytes);
        write(memory, 0);
        write(memory, memory.segment.bytes - 1);
      }
    }
  }

  // From now on all of a scratch segment is kept, or nothing of it.
  Status keep(size_t index, bool all) {
    Memory& memory = memories_.at(index);
    const Segment& segment = memory.segment;
    std::vector<ByteRange> bytes;
    if (all) bytes.push_back({segment.address, segment.bytes});
    RTSWAP_TRY(rig_.engine->keep_scratch(id_, segment.address, bytes));
    memory.expected.clear();
    if (all) memory.expected.assign(at(segment), at(segment) + segment.bytes);
    return {};
  }

  // What is resident holds its bytes.
  bool exact() {
    const auto now = static_cast<uint32_t>(resident().size());
    for (const Memory& memory : memories_) {
      const Segment& segment = memory.segment;
      if (memory.expected.empty() || now <= segment.first_position) continue;
      const uint64_t bytes =
          std::min<uint64_t>((now - segment.first_position) * kChunk, segment.bytes);
      if (std::memcmp(at(segment), memory.expected.data(), bytes) != 0) return false;
    }
    return true;
  }

  // Under what was evicted lies the guard. REQUIRES: putting it there never failed.
  bool guarded() {
    const auto now = static_cast<uint32_t>(resident().size());
    for (const Memory& memory : memories_) {
      const Segment& segment = memory.segment;
      for (uint32_t i = 0; i < segment.chunks; ++i) {
        const uint32_t position = segment.first_position + i;
        if (position < now || position >= reached_) continue;
        const std::byte* const begin = at(segment) + i * kChunk;
        // All bytes are 0xFF: the first is, and each is like the one before it.
        if (*begin != std::byte{0xff} || std::memcmp(begin, begin + 1, kChunk - 1) != 0)
          return false;
      }
    }
    return true;
  }

  // A write behind rtswap's back into memory that was called read_only.
  void overwrite(size_t segment, uint64_t offset) { write(memories_.at(segment), offset); }

  const Segment& segment(size_t index) const { return memories_.at(index).segment; }
  ArenaStats stats() const { return rig_.engine->stats(id_).value(); }
  Status close() {
    // Not known any more when an attempt before this one has failed.
    if (const auto before = rig_.engine->resident_chunks(id_)) last_resident_ = *before;
    RTSWAP_TRY(rig_.engine->close_arena(id_));
    rig_.give_chunks(std::exchange(last_resident_, {}));
    return {};
  }

 private:
  struct Memory {
    Segment segment;
    std::vector<std::byte> expected;  // empty: scratch that is not kept
  };

  static std::byte* at(const Segment& segment) {
    return reinterpret_cast<std::byte*>(segment.address);
  }
  // Eight bytes a draw: one a byte is most of the run time of an instrumented build.
  void fill(std::vector<std::byte>& bytes) {
    for (size_t i = 0; i < bytes.size(); i += sizeof(uint64_t)) {
      const uint64_t word = random_();
      std::memcpy(&bytes[i], &word, std::min(sizeof word, bytes.size() - i));
    }
  }
  void write(Memory& memory, uint64_t offset) {
    // Always a change.
    memory.expected[offset] ^= static_cast<std::byte>(1 + random_() % 255);
    at(memory.segment)[offset] = memory.expected[offset];
  }

  Rig& rig_;
  const ArenaId id_;
  std::mt19937_64 random_;
  std::vector<Memory> memories_;
  uint32_t total_ = 0;
  uint32_t reached_ = 0;  // positions that were resident once
  std::vector<uint32_t> last_resident_;
};

}  // namespace rtswap::engine::test
