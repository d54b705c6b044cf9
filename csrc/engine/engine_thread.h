// Threads of the engine, which live in somebody else's process.
#pragma once

#include <functional>
#include <string>
#include <thread>

#include "csrc/base/result.h"
#include "csrc/driver/driver.h"

namespace rtswap::engine {

// A thread that takes no signals (they are the program's, whose main thread handles them) and is
// listed under `name` (at most 15 characters). Throws std::system_error when the system has no
// more.
std::thread start_engine_thread(const std::string& name, std::function<void()> body);

// Runs `body` on a thread of its own that is prepared for driver calls, and waits for it. The
// caller's thread belongs to the program: its context and capture mode are not ours to change.
Status run_attached(driver::Driver& driver, const std::function<Status()>& body);

}  // namespace rtswap::engine
