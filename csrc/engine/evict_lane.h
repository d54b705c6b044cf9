// Takes positions off the device: saves what must not be lost, then unmaps from the tail.
#pragma once

#include <deque>

#include "csrc/engine/dispatcher.h"
#include "csrc/engine/engine.h"
#include "csrc/engine/residency.h"
#include "csrc/engine/verifier.h"

namespace rtswap::engine {

// Threads: everything on the lane's thread.
class EvictLane {
 public:
  EvictLane(driver::Driver& driver, uint64_t chunk_bytes, EngineListener& listener,
            EngineOptions options, HostImages& images, CopyStreams& streams,
            const Residency& residency, Dispatcher& dispatcher)
      : driver_(driver),
        listener_(listener),
        options_(options),
        streams_(streams),
        residency_(residency),
        dispatcher_(dispatcher),
        verifier_(driver, images, streams.evict, chunk_bytes) {}

  // Works until the queue of evictions is closed and empty.
  void run();

 private:
  struct Copy {
    Run run;
    driver::EventHandle event;  // behind it
  };

  void execute(const EvictWork& work);
  // Bytes written back.
  Result<uint64_t> evict(Arena& arena, uint32_t keep);
  Status repair(Arena& arena, uint32_t keep);
  // Copies out what must not be lost, from the tail on, and unmaps behind each copy while the next
  // ones run: the link has work all the time. Bytes written back.
  Result<uint64_t> write_back(Arena& arena, uint32_t keep);
  // Starts these copies; adds each to `copies` as soon as it is under way.
  Status copy_out(Arena& arena, uint32_t keep, std::deque<Copy>& copies);

  driver::Driver& driver_;
  EngineListener& listener_;
  const EngineOptions options_;
  CopyStreams& streams_;
  const Residency& residency_;
  Dispatcher& dispatcher_;
  Verifier verifier_;
};

}  // namespace rtswap::engine
