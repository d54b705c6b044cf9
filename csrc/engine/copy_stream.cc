#include "csrc/engine/copy_stream.h"

namespace rtswap::engine {

std::optional<driver::StreamHandle> CopyStream::stream() {
  const std::lock_guard lock(mutex_);
  return stream_;
}

Result<driver::StreamHandle> CopyStream::open() {
  if (!attached_) {
    RTSWAP_TRY(driver_.attach_thread());
    attached_ = true;
  }
  if (const auto existing = stream()) return *existing;
  RTSWAP_ASSIGN(const driver::StreamHandle made, driver_.create_stream());
  const std::lock_guard lock(mutex_);
  stream_ = made;
  return made;
}

Result<driver::EventHandle> CopyStream::record() {
  RTSWAP_ASSIGN(const driver::StreamHandle on, open());
  if (spare_events_.empty()) {
    RTSWAP_ASSIGN(const driver::EventHandle made, driver_.create_event());
    spare_events_.push_back(made);
  }
  const driver::EventHandle event = spare_events_.back();
  RTSWAP_TRY(driver_.record_event(event, on));
  spare_events_.pop_back();
  return event;
}

Status CopyStream::settle() {
  const auto on = stream();
  if (!on) return {};
  RTSWAP_ASSIGN(const driver::EventHandle event, driver_.create_event());
  Status status = driver_.record_event(event, *on);
  if (status) status = driver_.synchronize_event(event);
  // A leaked event is no reason to call completed copies failed.
  (void)driver_.destroy_event(event);
  return status;
}

void CopyStream::close() {
  for (const driver::EventHandle event : spare_events_) (void)driver_.destroy_event(event);
  spare_events_.clear();
  if (const auto on = stream()) (void)driver_.destroy_stream(*on);
}

}  // namespace rtswap::engine
