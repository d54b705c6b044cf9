// Brings positions onto the device, chunk by chunk: that is how the arbiter's test counts them, and
// jobs wait for none longer than they must. Copies are queued behind each other on one stream, a
// few ahead, while the lane maps the next chunks: the copy engine never waits for a mapping.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "csrc/bank/bank.h"
#include "csrc/engine/dispatcher.h"
#include "csrc/engine/engine.h"
#include "csrc/engine/residency.h"

namespace rtswap::engine {

// Threads: everything on the lane's thread.
class RestoreLane {
 public:
  RestoreLane(driver::Driver& driver, const bank::Bank& bank, EngineListener& listener,
              CopyStreams& streams, const Residency& residency, Dispatcher& dispatcher)
      : driver_(driver),
        bank_(bank),
        listener_(listener),
        streams_(streams),
        residency_(residency),
        dispatcher_(dispatcher) {}

  // Works until the queue of restores is closed and empty.
  void run();

 private:
  // One command, from its start until all its positions have landed or failed.
  struct Transfer {
    ArenaPtr arena;
    RestoreCommand command;
    std::vector<Run> runs;
    size_t next_run = 0;  // the first that is not mapped yet
    std::optional<Error> error;
  };
  using TransferPtr = std::shared_ptr<Transfer>;

  // A mapped run, landed once its event has come; without an event (scratch) as soon as the batches
  // before it have landed.
  struct Batch {
    TransferPtr transfer;
    Run run;
    std::optional<driver::EventHandle> event;
    bool last = false;  // of its transfer
    bool lands = true;  // false: behind a failed copy
  };

  void begin(RestoreWork work);
  // Makes the transfer's arena ready and plans its runs, of one chunk each.
  Status prepare(Transfer& transfer);
  // Maps the next run of the transfer in progress and queues its copy.
  void advance();
  Status start_batch(Transfer& transfer, Batch& batch);

  // Takes in the batches that have completed; first waits for the oldest, if asked to.
  void land(bool wait_for_oldest);
  Result<bool> has_completed(const Batch& batch, bool wait);
  void fail_copy(const Batch& batch, const Error& error);
  void report_landed();
  void finish(const TransferPtr& transfer);

  // The transfer and those of its arena behind it have failed; what is in flight still lands.
  void doom(const TransferPtr& transfer, const Error& error);
  // Waits for all copies, returns doomed arenas to their resident prefix and reports them.
  void settle_doomed();

  driver::Driver& driver_;
  const bank::Bank& bank_;
  EngineListener& listener_;
  CopyStreams& streams_;
  const Residency& residency_;
  Dispatcher& dispatcher_;

  std::deque<TransferPtr> open_;  // in the order of their start
  TransferPtr current_;           // has runs that are not mapped yet
  std::deque<Batch> in_flight_;   // in the order of their copies
  ArenaPtr landing_;              // has landed positions that were not reported yet
};

}  // namespace rtswap::engine
