// A consistent picture of an arbiter between two events: for `stats`, `top` and tests.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "csrc/protocol/messages.h"

namespace rtswap::protocol {

struct TaskStats {
  std::string name;  // "name@pid"
  SessionId session = 0;
  uint32_t device = 0;
  TaskState state = TaskState::loading;
  Timing timing;
  uint64_t released = 0, met = 0, missed = 0, dropped = 0, overruns = 0;
  uint64_t restored_bytes = 0, evicted_bytes = 0, written_back_bytes = 0;
  uint32_t arena_chunks = 0, resident_chunks = 0;
  int64_t response_max_ns = 0, response_bound_ns = 0;
  int32_t importance = 0;
  bool staged = false;  // as in its Verdict
  int64_t lead_ns = 0;
};
struct DeviceStats {
  std::string uuid;
  uint64_t chunk_bytes = 0;
  uint32_t chunk_count = 0, free_chunks = 0;
  uint64_t static_bytes = 0, static_limit_bytes = 0;
  std::string running;     // "name@pid" of the job that holds the device, or empty
  double utilisation = 0;  // sum of block/period over admitted tasks
  // Why the bounds of its tasks do not hold until it is next idle; empty: they do.
  std::string suspended;
  uint64_t suspensions = 0;  // how often that has been so
};
struct Snapshot {
  bool recovering = false;
  std::vector<DeviceStats> devices;
  std::vector<TaskStats> tasks;
};

}  // namespace rtswap::protocol
