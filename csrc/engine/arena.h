// One arena inside the engine: its bookkeeping, the order of its commands, and what backs it.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "csrc/engine/arena_state.h"
#include "csrc/engine/command_order.h"
#include "csrc/engine/host_image.h"

namespace rtswap::engine {

struct Arena {
  Arena(ArenaId arena_id, std::string arena_label, uint64_t chunk_bytes)
      : id(arena_id), label(std::move(arena_label)), state(chunk_bytes) {}

  // Addresses and host image of one segment.
  struct Backing {
    driver::Address address = 0;  // 0: given back
    uint64_t reserved_bytes = 0;
    bool addresses_stay = false;       // reserved, when the arena is closed
    std::unique_ptr<HostImage> image;  // empty: scratch of which nothing was ever kept
  };

  const ArenaId id;
  const std::string label;

  std::mutex mutex;                 // guards what follows; never held across a driver call
  std::condition_variable changed;  // a command is done
  ArenaState state;
  CommandOrder order;
  std::vector<Backing> backings;  // by segment
  bool closing = false;           // no more commands and segments
  bool close_running = false;
  // A call failed behind an enqueued copy: before anything is unmapped or freed, both streams are
  // waited for.
  bool copies_in_doubt = false;

  // Restore lane only. The last restore failed: its report has taken back all positions beyond the
  // resident ones, and with them the grants behind it that were on their way.
  bool restore_failed = false;
};

using ArenaPtr = std::shared_ptr<Arena>;

}  // namespace rtswap::engine
