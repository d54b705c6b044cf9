// Takes positions off the device: saves what must not be lost, then unmaps from the tail.
#pragma once

#include "csrc/engine/dispatcher.h"
#include "csrc/engine/engine.h"
#include "csrc/engine/residency.h"
#include "csrc/engine/verifier.h"

namespace rtswap::engine {

// Threads: everything on the lane's thread.
class EvictLane {
 public:
  EvictLane(driver::Driver& driver, uint64_t chunk_bytes, EngineListener& listener,
            EngineOptions options, HostImages& images, CopyStreams& streams, Dispatcher& dispatcher)
      : driver_(driver),
        listener_(listener),
        options_(options),
        streams_(streams),
        dispatcher_(dispatcher),
        verifier_(driver, images, streams.evict, chunk_bytes) {}

  // Works until the queue of evictions is closed and empty.
  void run();

 private:
  void execute(const EvictWork& work);
  // Bytes written back.
  Result<uint64_t> evict(Arena& arena, uint32_t keep);
  Status repair(Arena& arena, uint32_t keep);
  Result<uint64_t> write_back(Arena& arena, uint32_t keep);
  Status copy_out(const std::vector<Run>& runs);

  driver::Driver& driver_;
  EngineListener& listener_;
  const EngineOptions options_;
  CopyStreams& streams_;
  Dispatcher& dispatcher_;
  Verifier verifier_;
};

}  // namespace rtswap::engine
