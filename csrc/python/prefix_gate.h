// Makes the first use of a tensor wait until its memory is there, while a job runs on a prefix of
// its arena: an operator of torch that gets a tensor whose chunks have not landed waits for them
// before it runs. Every operator passes here while a gate is entered, whatever calls it: a module,
// a function, a method; on the thread that entered the gate, and on those to which torch carries
// the thread's state (autograd). Without an entered gate nothing is added to any operator.
//
// What does not pass torch's dispatcher here (data_ptr(), other threads) meets the closed storage
// instead.
//
// LibTorch only.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace rtswap::python {

// The bytes at [begin, end) are there once the arena's first `chunks` have landed.
struct MemoryNeed {
  uintptr_t begin = 0;
  uintptr_t end = 0;
  uint32_t chunks = 0;
};

class PrefixGate {
 public:
  // `needs` do not overlap. `wait(chunks)` returns how many chunks have landed, at least as many as
  // asked for, with their storages open; it is called in the thread of the operator, and what it
  // raises leaves the operator. REQUIRES: the GIL, as everything here.
  PrefixGate(std::vector<MemoryNeed> needs, uint32_t landed_chunks, pybind11::function wait);
  ~PrefixGate();
  PrefixGate(const PrefixGate&) = delete;
  PrefixGate& operator=(const PrefixGate&) = delete;

  // From now on operators of the calling thread pass the gate.
  void enter();
  // Ends it. From any thread; idempotent.
  void leave();

  class State;  // outlives the gate in threads that have not noticed its end

 private:
  const std::shared_ptr<State> state_;
};

}  // namespace rtswap::python
