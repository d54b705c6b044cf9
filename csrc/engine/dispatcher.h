// Brings the commands of each arena, in order, to the lanes.
#pragma once

#include <cstdint>
#include <variant>

#include "csrc/engine/arena.h"
#include "csrc/engine/command_order.h"
#include "csrc/engine/work_queue.h"

namespace rtswap::engine {

struct RestoreWork {
  ArenaPtr arena;
  RestoreCommand command;
};
struct EvictWork {
  ArenaPtr arena;
  EvictCommand command;
};

// Threads: any.
class Dispatcher {
 public:
  // Queues a command; one for an arena that is being closed is dropped.
  void submit(const ArenaPtr& arena, Command command) {
    const std::lock_guard lock(arena->mutex);
    if (arena->closing) return;
    arena->order.add(std::move(command));
    start_what_may(arena);
  }

  // A lane reports that a command which it took is done, after its listener call.
  void finished(const ArenaPtr& arena) {
    {
      const std::lock_guard lock(arena->mutex);
      arena->order.finished();
      start_what_may(arena);
    }
    arena->changed.notify_all();
  }

  WorkQueue<RestoreWork>& restores() noexcept { return restores_; }
  WorkQueue<EvictWork>& evictions() noexcept { return evictions_; }

 private:
  // With the arena's mutex held, so that commands enter the lane in order.
  void start_what_may(const ArenaPtr& arena) {
    while (arena->order.may_start()) {
      Command command = arena->order.start();
      if (auto* restore = std::get_if<RestoreCommand>(&command)) {
        restores_.push({arena, std::move(*restore)});
      } else {
        evictions_.push({arena, std::get<EvictCommand>(command)});
      }
    }
  }

  WorkQueue<RestoreWork> restores_;
  WorkQueue<EvictWork> evictions_;
};

}  // namespace rtswap::engine
