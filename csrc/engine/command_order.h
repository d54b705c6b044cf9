// Pure: keeps the commands of one arena in the order in which they were given, although two lanes
// carry them out. Restores may follow each other into the restore lane without waiting; an eviction
// runs alone. A command goes to its lane only when it may start there, so no lane ever waits for
// the other, and an arena that must wait holds up no other arena.
//
// Threads: guarded by its owner.
#pragma once

#include <cstdint>
#include <deque>
#include <variant>
#include <vector>

namespace rtswap::engine {

struct RestoreCommand {
  uint32_t first_position = 0;
  std::vector<uint32_t> chunks;  // never empty
};
struct EvictCommand {
  uint32_t keep_chunks = 0;
};
using Command = std::variant<RestoreCommand, EvictCommand>;

class CommandOrder {
 public:
  void add(Command command);
  // True when there is a next command and it may start now.
  bool may_start() const noexcept;
  // An eviction waits or runs.
  bool evicts() const noexcept;
  // The next command, which runs until finished() is called for it. REQUIRES: may_start().
  Command start();
  // One running command is done. Restores finish in the order in which they were started.
  void finished();

  // Commands so far: one that was given when `added()` was n is done when `done()` exceeds n.
  uint64_t added() const noexcept { return added_; }
  uint64_t done() const noexcept { return done_; }
  bool idle() const noexcept { return added_ == done_; }

 private:
  std::deque<Command> waiting_;
  uint32_t running_ = 0;
  bool evicting_ = false;
  uint64_t added_ = 0;
  uint64_t done_ = 0;
};

}  // namespace rtswap::engine
