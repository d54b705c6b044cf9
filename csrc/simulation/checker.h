// Watches the messages of an arbiter from outside and knows what it must never do. It keeps its own
// table of who has which chunk, fed by what clients really did, and shares no code with the ledger.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "csrc/protocol/messages.h"

namespace rtswap::simulation {

class Checker {
 public:
  using Owner = std::pair<protocol::SessionId, protocol::ArenaId>;

  // All devices have so many chunks.
  explicit Checker(uint32_t chunk_count, uint32_t devices = 1)
      : owners_(devices, std::vector<Owner>(chunk_count)) {}

  // From now on the arena is one of this device; those that are not known are of the first.
  void opened(protocol::SessionId session, protocol::ArenaId arena, uint32_t device) {
    devices_[{session, arena}] = device;
  }
  // The arbiter sent these.
  void granted(protocol::SessionId session, const protocol::Grant& grant);
  void revoked(protocol::SessionId session, const protocol::Revoke& revoke);

  // A client really did these.
  void unmapped(protocol::SessionId session, protocol::ArenaId arena, uint32_t keep_chunks);
  // Unmapped or never mapped: single chunks of a grant that failed.
  void gave_up(protocol::SessionId session, protocol::ArenaId arena,
               const std::vector<protocol::ChunkId>& chunks);
  void died(protocol::SessionId session);
  // Comes back under a new id with the first `chunks` positions.
  void resumed(protocol::SessionId old_session, protocol::SessionId session,
               protocol::ArenaId arena, uint32_t chunks);
  // With at least so many of its chunks. A job that spans devices: once for each of its arenas.
  void started(protocol::SessionId session, protocol::ArenaId arena, uint32_t chunks);
  void ended(protocol::SessionId session);
  // The session stopped answering: until its next job has ended, the arbiter may give the device to
  // others although this session has been told to run.
  void excuse(protocol::SessionId session);

  const std::vector<std::string>& violations() const { return violations_; }

 private:
  void violation(std::string what);
  void free_chunk(protocol::ChunkId chunk, const Owner& owner);

  uint32_t device_of(const Owner& owner) const;

  std::vector<std::vector<Owner>> owners_;  // by device; {0, 0}: free
  std::map<Owner, uint32_t> devices_;
  std::map<Owner, std::vector<protocol::ChunkId>> held_;  // by position
  std::set<Owner> running_;
  std::set<protocol::SessionId> excused_;
  std::set<protocol::SessionId> dead_;  // the arbiter may not have heard of it yet
  std::set<Owner>
      failed_;  // their failures may cross messages of the arbiter: positions may be off
  std::vector<std::string> violations_;
};

}  // namespace rtswap::simulation
