#include "csrc/client/attached_thread.h"

#include <utility>

#include "csrc/engine/engine_thread.h"

namespace rtswap::client {

AttachedThread::AttachedThread(driver::Driver& driver, const std::string& name)
    : thread_(engine::start_engine_thread(name, [this, &driver] {
        (void)driver.attach_thread();  // a failure shows in the first call that needs it
        while (auto work = works_.pop()) (*work)();
      })) {}

AttachedThread::~AttachedThread() {
  works_.close();
  thread_.join();
}

Status AttachedThread::run(const std::function<Status()>& body) {
  std::packaged_task<Status()> work(body);
  std::future<Status> result = work.get_future();
  works_.push(std::move(work));
  return result.get();
}

}  // namespace rtswap::client
