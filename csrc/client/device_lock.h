// One embedded arbiter per GPU: each would hand out what it takes for its own memory. The lock is a
// flock() on a file named after the GPU's UUID, so the kernel lets go of it when the holder dies.
// (A forked child that outlives its parent keeps it: it shares the open file.)
#pragma once

#include <string>
#include <vector>

#include "csrc/base/result.h"
#include "csrc/base/unique_fd.h"

namespace rtswap::client {

class DeviceLock {
 public:
  // Takes the lock in the first of `folders` that exists or can be made. `device_in_use` names the
  // process that has it; `unsupported` when none of the folders can be written.
  static Result<DeviceLock> take(const std::string& device_uuid,
                                 const std::vector<std::string>& folders);
  // $XDG_RUNTIME_DIR/rtswap, /run/rtswap, ~/.cache/rtswap: all processes of one user find the same.
  static std::vector<std::string> default_folders();

  DeviceLock(DeviceLock&&) = default;
  DeviceLock& operator=(DeviceLock&&) = delete;
  ~DeviceLock();

 private:
  explicit DeviceLock(UniqueFd file) : file_(std::move(file)) {}

  UniqueFd file_;
};

}  // namespace rtswap::client
