#include "csrc/driver/await_event.h"

#include <thread>

#include "csrc/base/clock.h"
#include "csrc/base/units.h"

namespace rtswap::driver {

Status await_event(Driver& driver, EventHandle event) {
  const int64_t give_up_ns = monotonic_now_ns() + 1_ms;
  do {
    RTSWAP_ASSIGN(const bool completed, driver.query_event(event));
    if (completed) return {};
    std::this_thread::yield();
  } while (monotonic_now_ns() < give_up_ns);
  return driver.synchronize_event(event);
}

}  // namespace rtswap::driver
