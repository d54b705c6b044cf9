// One arbiter per GPU, be it a daemon or inside a process: two would promise the same memory twice.
// The lock is a flock() on a file named after the GPU's UUID, in a folder that is the same for all
// users of the host, so the kernel lets go of it when the holder dies. (A forked child that
// outlives its parent keeps it: it shares the open file.)
#pragma once

#include <string>

#include "csrc/base/result.h"
#include "csrc/base/unique_fd.h"

namespace rtswap::bank {

class DeviceLock {
 public:
  // /run/lock where every user may write to it, else /tmp.
  static std::string shared_folder();

  // `device_in_use` names the process that has it; `unsupported` when the file cannot be made.
  static Result<DeviceLock> take(const std::string& device_uuid,
                                 const std::string& folder = shared_folder());

  DeviceLock(DeviceLock&&) = default;
  DeviceLock& operator=(DeviceLock&&) = delete;
  ~DeviceLock();

 private:
  explicit DeviceLock(UniqueFd file) : file_(std::move(file)) {}

  UniqueFd file_;
};

}  // namespace rtswap::bank
