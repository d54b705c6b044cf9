// A thread of ours that is prepared for driver calls and runs what it is given, in order. Waiting
// for an event in a thread of the program would end a graph capture of another thread there; here
// it does not (driver::Driver::attach_thread).
//
// Threads: every method from any thread but its own.
#pragma once

#include <functional>
#include <future>
#include <string>
#include <thread>

#include "csrc/base/result.h"
#include "csrc/driver/driver.h"
#include "csrc/engine/work_queue.h"

namespace rtswap::client {

class AttachedThread {
 public:
  // `driver` outlives it. Throws std::system_error when the system has no more threads.
  AttachedThread(driver::Driver& driver, const std::string& name);
  ~AttachedThread();  // after everything given so far
  AttachedThread(const AttachedThread&) = delete;
  AttachedThread& operator=(const AttachedThread&) = delete;

  // Runs `body` there and returns what it returns. It runs also when the device is lost: its own
  // driver calls will say so.
  Status run(const std::function<Status()>& body);

 private:
  engine::WorkQueue<std::packaged_task<Status()>> works_;
  std::thread thread_;
};

}  // namespace rtswap::client
