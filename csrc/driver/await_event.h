// Waiting for an event that may be about to complete.
#pragma once

#include "csrc/driver/driver.h"

namespace rtswap::driver {

// As synchronize_event(), but looks for itself for up to a millisecond before it blocks: a thread
// that sleeps wakes up some 50 us after its event, and what comes next waits for that.
Status await_event(Driver& driver, EventHandle event);

}  // namespace rtswap::driver
