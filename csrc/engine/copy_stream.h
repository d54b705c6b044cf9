// One stream of the device and the events recorded on it, made when they are first needed: the
// engine's constructor cannot fail, and a failure to make them is the failure of one command.
//
// Threads: owned by one lane, which calls everything but settle().
#pragma once

#include <mutex>
#include <optional>
#include <vector>

#include "csrc/base/result.h"
#include "csrc/driver/driver.h"

namespace rtswap::engine {

class CopyStream {
 public:
  explicit CopyStream(driver::Driver& driver) : driver_(driver) {}
  CopyStream(const CopyStream&) = delete;
  CopyStream& operator=(const CopyStream&) = delete;

  // Prepares the lane's thread and makes the stream, unless that has been done.
  Result<driver::StreamHandle> open();

  // An event behind everything enqueued so far; give it back when it is no longer needed.
  Result<driver::EventHandle> record();
  void give_back(driver::EventHandle event) { spare_events_.push_back(event); }

  // Blocks until everything enqueued so far has completed. From any thread prepared for driver
  // calls; does not use the lane's events.
  Status settle();

  // Gives stream and events back. REQUIRES: nothing is in flight. Last call, on the lane's thread.
  void close();

 private:
  std::optional<driver::StreamHandle> stream();

  driver::Driver& driver_;
  std::mutex mutex_;  // guards stream_
  std::optional<driver::StreamHandle> stream_;
  bool attached_ = false;
  std::vector<driver::EventHandle> spare_events_;
};

}  // namespace rtswap::engine
