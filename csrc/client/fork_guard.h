// Tells whether this is still the process that made the object. A child of fork() has copies of its
// parent's objects but not its threads, and the parent's link and memory are not its own.
//
// A comparison of process ids instead of a pthread_atfork handler: nothing global to register, and
// it also holds for a child made by clone(). Must be asked before any lock is taken: another thread
// of the parent may have held it at the fork.
#pragma once

#include <unistd.h>

#include "csrc/base/result.h"

namespace rtswap::client {

class ForkGuard {
 public:
  bool in_child() const noexcept { return ::getpid() != owner_; }

  static tl::unexpected<Error> closed_in_child() {
    return fail(
        ErrorCode::closed,
        "this process was forked from one that uses rtswap, and the session stayed with the "
        "parent: open a session of its own here (with CUDA, start the process by spawn "
        "instead of fork)");
  }

 private:
  const pid_t owner_ = ::getpid();
};

}  // namespace rtswap::client
