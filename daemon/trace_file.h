// Every decision of the arbiter as one JSON object a line (--trace): a timeline can be drawn from
// it while the daemon runs or after it was killed, hence flushed line by line.
#pragma once

#include <cstdio>
#include <memory>
#include <string>

#include "csrc/arbiter/arbiter.h"
#include "csrc/base/result.h"

namespace rtswap::daemon {

// The line of one event, without its end.
std::string trace_line(const arbiter::Trace& event);

class TraceFile {
 public:
  // `invalid_argument` when it cannot be written. An older file is replaced.
  static Result<std::unique_ptr<TraceFile>> create(const std::string& path);
  ~TraceFile();
  TraceFile(const TraceFile&) = delete;
  TraceFile& operator=(const TraceFile&) = delete;

  // One thread at a time.
  void write(const arbiter::Trace& event);

 private:
  explicit TraceFile(std::FILE* file) : file_(file) {}
  std::FILE* file_;
};

}  // namespace rtswap::daemon
