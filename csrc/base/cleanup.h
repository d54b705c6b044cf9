// Takes back what a function has made so far, unless it is kept.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "csrc/base/result.h"

namespace rtswap {

// Runs its steps at its end, the last one first. What they return is dropped: nobody is there to be
// told. Threads: one.
class Cleanup {
 public:
  Cleanup() = default;
  Cleanup(const Cleanup&) = delete;
  Cleanup& operator=(const Cleanup&) = delete;
  ~Cleanup() {
    while (!steps_.empty()) {
      (void)steps_.back()();
      steps_.pop_back();
    }
  }
  void add(std::function<Status()> step) { steps_.push_back(std::move(step)); }

 private:
  std::vector<std::function<Status()>> steps_;
};

}  // namespace rtswap
