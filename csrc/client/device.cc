#include "csrc/client/device.h"

#include <array>
#include <utility>

#include "csrc/base/clock.h"

namespace rtswap::client {

Device::Device(std::shared_ptr<driver::Driver> driver, std::shared_ptr<const bank::Bank> bank,
               engine::EngineListener& listener, engine::EngineOptions options)
    : driver_(std::move(driver)),
      bank_(std::move(bank)),
      engine_(*driver_, *bank_, listener, options),
      thread_(*driver_, "rtswap-device") {}

Device::~Device() {
  (void)thread_.run([this] {
    // What the driver does not take back ends with the process.
    for (const driver::EventHandle event : events_) (void)driver_->destroy_event(event);
    return Status();
  });
}

Result<LinkSpeed> Device::link_speed(const protocol::DeviceDescription& description) {
  if (description.simulated) {
    return LinkSpeed{description.simulated_bytes_per_s, description.simulated_bytes_per_s};
  }
  LinkSpeed speed;
  RTSWAP_TRY(thread_.run([&]() -> Status {
    RTSWAP_ASSIGN(speed, probe_link(*driver_, kProbe_bytes));
    return {};
  }));
  return speed;
}

Status Device::complete(std::span<const driver::StreamHandle> streams,
                        const std::function<void(int64_t)>& completed) {
  constexpr std::array kDefaultStream{driver::StreamHandle{0}};
  const Status status = thread_.run([&] {
    Status waited =
        wait_for(streams.empty() ? std::span<const driver::StreamHandle>(kDefaultStream) : streams);
    completed(monotonic_now_ns());
    return waited;
  });
  if (!status) return fail(explain(status.error()));
  return {};
}

Error Device::explain(Error error) const {
  if (error.code != ErrorCode::device_lost) return error;
  std::string names;
  for (const std::string& label : engine_.evicted_labels()) {
    names += (names.empty() ? "" : ", ") + label;
  }
  error.message +=
      names.empty()
          ? ". All memory of this process's tasks was on the device, so none of it was missed"
          : ". Not, or not wholly, on the device now: " + names +
                ". If work outside their jobs used their memory, that was the cause: the replay of "
                "a CUDA graph or a kernel with an exported pointer, which no closed tensor stops. "
                "Such work belongs inside `with task.job():`";
  return error;
}

Status Device::wait_for(std::span<const driver::StreamHandle> streams) {
  while (events_.size() < streams.size()) {
    RTSWAP_ASSIGN(const driver::EventHandle event, driver_->create_event());
    events_.push_back(event);
  }
  // All are recorded before the first is waited for: work queued meanwhile is not this job's. One
  // bad stream is no reason not to wait for the others: their memory is taken away afterwards.
  Status first_failure;
  const auto note = [&](Status status) {
    if (!status && first_failure) first_failure = std::move(status);
  };
  for (size_t i = 0; i < streams.size(); ++i) note(driver_->record_event(events_[i], streams[i]));
  for (size_t i = 0; i < streams.size(); ++i) note(driver_->synchronize_event(events_[i]));
  return first_failure;
}

}  // namespace rtswap::client
