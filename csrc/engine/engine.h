// Residency of this process on one device: arenas whose addresses never change, with physical
// chunks mapped under a prefix of them and the rest in host memory.
//
// An *arena* is an ordered list of *segments*; a segment has one kind, one address range and one
// pinned host image. Chunk-sized *positions* are numbered through all segments of the arena. The
// resident part is always a prefix of the positions: restore goes forward, eviction comes from the
// tail.
//
// The engine does what the arbiter says (restore, evict) on two lanes, one thread each, so that an
// eviction of one arena and a restore of another go on at once; commands for one arena keep their
// order. It never decides anything, and it never sees tensors.
//
// Threads: every method may be called from any thread; none but the ones marked blocks on the
// device. Listener calls come from the lanes, one at a time per lane, and must not call back into
// the engine except where noted.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "csrc/bank/bank.h"
#include "csrc/base/result.h"
#include "csrc/driver/driver.h"
#include "csrc/engine/guard.h"

namespace rtswap::engine {

using ArenaId = uint32_t;

enum class Kind : uint8_t {
  read_only,      // the host image is the master: eviction only unmaps
  mutable_state,  // written back whole at each eviction after a use
  scratch,        // neither restored nor written back: contents are undefined at each job start,
                  // but for what keep_scratch() names
};

// Bytes of a device.
struct ByteRange {
  driver::Address address = 0;
  uint64_t bytes = 0;
};

struct Segment {
  driver::Address address = 0;  // device (simulated: process) address of the first byte
  // Host image; nullptr for scratch until something of it is kept. Valid until the arena is closed.
  std::byte* host = nullptr;
  uint64_t bytes = 0;  // as asked for; the range is chunk-rounded
  uint32_t first_position = 0;
  uint32_t chunks = 0;
  uint64_t chunk_bytes = 0;
  Kind kind = Kind::read_only;
};

struct ArenaStats {
  uint32_t chunks = 0;
  uint32_t resident_chunks = 0;
  uint64_t host_bytes = 0;
  uint64_t restored_bytes = 0;      // copied in since it was opened
  uint64_t evicted_bytes = 0;       // held by positions that were evicted; only kept scratch counts
  uint64_t written_back_bytes = 0;  // copied out
  uint64_t repaired_bytes = 0;      // read_only bytes found changed and written back (verify)
  uint32_t guarded_chunks = 0;      // evicted positions under which the guard lies now
  uint64_t guard_failures = 0;      // attempts to put it under evicted positions that failed
  uint32_t kept_chunks = 0;         // of scratch segments, as keep_scratch() says
};

// What became of the arbiter's commands.
class EngineListener {
 public:
  virtual ~EngineListener() = default;
  virtual void on_restored(ArenaId arena, uint32_t landed_chunks) = 0;
  virtual void on_evicted(ArenaId arena, uint32_t resident_chunks, uint64_t written_back_bytes) = 0;
  // The arena is consistent: the first `resident_chunks` positions are mapped and hold their bytes.
  // Whatever had landed stays. The report covers all restores of the arena given so far: those
  // queued behind the failed one are dropped without a report of their own, up to the next one that
  // continues the prefix.
  virtual void on_restore_failed(ArenaId arena, uint32_t resident_chunks, const Error& error) = 0;
  // Eviction could not be completed (write-back or unmap failed): the first `resident_chunks`
  // positions stay mapped and stay this process's; nothing was lost.
  virtual void on_evict_failed(ArenaId arena, uint32_t resident_chunks, const Error& error) = 0;
};

struct EngineOptions {
  // Checksums read_only chunks before they are unmapped; a changed one is written back and counted
  // instead of being lost. Costs one read of the memory: on in tests, off otherwise.
  bool verify = false;
  // Put under what was evicted; outlives the engine. nullptr: no memory lies there. Where it cannot
  // be mapped none lies there either, which is counted; the next eviction tries again.
  const Guard* guard = nullptr;
};

class Engine {
 public:
  // All references outlive the engine.
  Engine(driver::Driver& driver, const bank::Bank& bank, EngineListener& listener,
         EngineOptions options);
  // Drains both lanes, unmaps everything, gives addresses and host memory back. No listener calls
  // after it returns.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // An arena without segments. `label` names it in messages and fault reports.
  Status open_arena(ArenaId arena, const std::string& label);

  // Appends a segment: reserves addresses and makes the host image (zero-filled, pinned, exact
  // size). Blocks while it does. The caller fills the image before the first restore. REQUIRES: no
  // job of the arena is waiting or running. Errors: out_of_memory (addresses), host_memory (with
  // what is left and what was asked for).
  Result<Segment> add_segment(ArenaId arena, Kind kind, uint64_t bytes);

  // Takes the segments from this position on out again, with their addresses and images.
  // `invalid_argument` where memory is mapped under them. REQUIRES: no restore was given for them.
  Status discard_segments(ArenaId arena, uint32_t first_position);

  // From now on the chunks of a scratch segment under these bytes are treated as mutable ones, used
  // just now: contents outlive jobs. Those of its other chunks do not, so that no bytes make all of
  // it scratch again. The first bytes make the host image of the segment, which stays until the
  // arena is closed; that blocks as in add_segment(). `segment_address`: of its first byte.
  // Errors, which change nothing: host_memory; invalid_argument for what is no scratch segment or
  // lies outside of it, and where chunks not kept so far are not resident or an eviction of the
  // arena was given. REQUIRES: the arbiter may not evict what it is about: called within a job.
  Status keep_scratch(ArenaId arena, driver::Address segment_address,
                      std::span<const ByteRange> bytes);

  // The addresses of a segment are never used again, also when the arena is closed and for as long
  // as the process lives: somebody else, such as torch's allocator, goes on naming memory in it.
  // Errors: invalid_argument for what is no segment.
  Status keep_addresses(ArenaId arena, driver::Address segment_address);

  // Commands of the arbiter, queued. restore maps bank chunk chunks[i] at position
  // first_position + i and copies it in; evict unmaps positions keep_chunks.., writing back what
  // must not be lost. Each is answered by the listener, but for a restore of no chunks and commands
  // for an arena that is not open or is being closed: its chunks go back with it.
  void restore(ArenaId arena, uint32_t first_position, std::vector<uint32_t> chunks);
  void evict(ArenaId arena, uint32_t keep_chunks);

  // Marks the arena as used: what is mutable or kept may differ from the host image from now on.
  // Called at the start of each use (job, residents outside jobs).
  void mark_used(ArenaId arena);

  // Bank chunk under position 0, 1, ... of the resident prefix; waits for commands queued before.
  Result<std::vector<uint32_t>> resident_chunks(ArenaId arena);

  // Unmaps everything without write-back and frees the arena. Blocks until its queued commands and
  // copies are done. Host images stay valid until then. After an error the arena takes no more
  // commands, and closing it may be tried again. `unmapped` is called as soon as nothing of it lies
  // on the device any more: host images take longer. REQUIRES: no job of it is running.
  Status close_arena(
      ArenaId arena, const std::function<void()>& unmapped = [] {});

  Result<ArenaStats> stats(ArenaId arena) const;

  // Labels of the arenas of which something is not on the device now. Listeners may ask.
  std::vector<std::string> evicted_labels() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace rtswap::engine
