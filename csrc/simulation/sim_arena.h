// The memory that a simulated client has on one device: carries out grants and revokes in their
// order. Chunks are mapped while those before are copied, as in csrc/engine.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <variant>
#include <vector>

#include "csrc/protocol/messages.h"
#include "csrc/simulation/simulation.h"
#include "csrc/simulation/world.h"

namespace rtswap::simulation {

// What an arena needs of its process.
struct ArenaHost {
  std::function<void(protocol::ClientMessage)> send;
  // Runs it then, unless the process has ended.
  std::function<void(int64_t at_ns, std::function<void()> action)> later;
  std::function<void()> changed;  // a chunk has landed, or what was asked back is gone
};

class SimArena {
 public:
  SimArena(World& world, protocol::ArenaId id, const SimPart& part, ArenaHost host);

  protocol::ArenaId id() const { return id_; }
  uint32_t chunks() const { return part_.chunks; }
  uint32_t landed() const { return static_cast<uint32_t>(mapped_.size()); }
  bool whole() const { return landed() == part_.chunks; }
  bool leaving() const;  // some of it was asked back and is not gone yet
  bool idle() const { return commands_.empty() && copying_.empty(); }
  protocol::HeldArena held() const;
  protocol::OpenArena opening() const;
  uint32_t device() const { return part_.device; }
  uint64_t restored_bytes() const { return restored_bytes_; }
  uint64_t evicted_bytes() const { return evicted_bytes_; }

  // From now on it belongs to this session.
  void join(protocol::SessionId session) { session_ = session; }
  void carry_out(const protocol::Grant& grant);
  void carry_out(const protocol::Revoke& revoke);
  void fail_next_restore() { restore_fails_ = true; }
  // The process has ended.
  void clear();

 private:
  struct Restore {
    uint32_t first_position = 0;
    std::vector<protocol::ChunkId> chunks;
    size_t begun = 0;
  };
  struct Evict {
    uint32_t keep_chunks = 0;
    uint64_t written_back_bytes = 0;
  };

  void work();  // goes on with the next command
  void begin(Restore& restore);
  void begin(Evict& evict);
  void chunk_mapped();
  void chunk_landed();
  void unmap_step();
  void evicted_step();
  void restore_failed();
  void finish_command();
  int64_t unmap_ns() const;

  World& world_;
  const protocol::ArenaId id_;
  const SimPart part_;
  const ArenaHost host_;
  protocol::SessionId session_ = 0;
  std::vector<protocol::ChunkId> mapped_;  // by position; all of them hold their bytes
  std::deque<protocol::ChunkId> copying_;  // the next positions
  std::deque<std::variant<Restore, Evict>> commands_;
  bool busy_ = false;  // with the first command
  bool restore_fails_ = false;
  uint64_t restored_bytes_ = 0;
  uint64_t evicted_bytes_ = 0;
};

}  // namespace rtswap::simulation
