#include "csrc/client/device.h"

#include <array>
#include <optional>
#include <utility>

#include "csrc/driver/await_event.h"
#include "csrc/engine/engine_thread.h"

namespace rtswap::client {
namespace {

engine::EngineOptions with_guard(engine::EngineOptions options, const engine::Guard* guard) {
  options.guard = guard;
  return options;
}

}  // namespace

Device::Device(std::shared_ptr<driver::Driver> driver, std::shared_ptr<const bank::Bank> bank,
               engine::EngineListener& listener, engine::EngineOptions options,
               std::unique_ptr<const engine::Guard> guard)
    : driver_(std::move(driver)),
      bank_(std::move(bank)),
      guard_(std::move(guard)),
      engine_(*driver_, *bank_, listener, with_guard(options, guard_.get())) {}

Device::~Device() {
  (void)engine::run_attached(*driver_, [this] {
    // What the driver does not take back ends with the process.
    for (const driver::EventHandle event : spare_events_) (void)driver_->destroy_event(event);
    return Status();
  });
}

Result<LinkSpeed> Device::link_speed(const protocol::DeviceDescription& description) {
  if (description.simulated) {
    return LinkSpeed{description.simulated_bytes_per_s, description.simulated_bytes_per_s};
  }
  LinkSpeed speed;
  RTSWAP_TRY(engine::run_attached(*driver_, [&]() -> Status {
    RTSWAP_ASSIGN(speed, probe_link(*driver_, kProbe_bytes));
    return {};
  }));
  return speed;
}

Status Device::complete(std::span<const driver::StreamHandle> streams) {
  // All are recorded before the first is waited for: work queued meanwhile is not this job's. One
  // bad stream is no reason not to wait for the others: their memory is taken away afterwards.
  Marks marks;
  Status status = mark(streams, marks);
  Status waited = driver_->on_program_thread([&] {
    Status first_failure;
    for (const driver::EventHandle event : marks) {
      Status outcome = driver::await_event(*driver_, event);
      if (!outcome && first_failure) first_failure = std::move(outcome);
    }
    return first_failure;
  });
  take_back(marks);
  if (!status) return status;
  if (!waited) return fail(explain(std::move(waited).error()));
  return {};
}

Status Device::mark(std::span<const driver::StreamHandle> streams, Marks& marks) {
  constexpr std::array kDefaultStream{driver::StreamHandle{0}};
  if (streams.empty()) streams = kDefaultStream;
  Status status = driver_->on_program_thread([&] {
    Status first_failure;
    for (const driver::StreamHandle stream : streams) {
      Status outcome = record(stream, marks);
      if (!outcome && first_failure) first_failure = std::move(outcome);
    }
    return first_failure;
  });
  if (!status) return fail(explain(std::move(status).error()));
  return {};
}

Result<bool> Device::passed(const Marks& marks) {
  bool all = true;
  Status status = driver_->on_program_thread([&]() -> Status {
    for (const driver::EventHandle event : marks) {
      RTSWAP_ASSIGN(const bool completed, driver_->query_event(event));
      all = all && completed;
    }
    return {};
  });
  if (!status) return fail(explain(std::move(status).error()));
  return all;
}

void Device::take_back(const Marks& marks) {
  const std::lock_guard lock(mutex_);
  spare_events_.insert(spare_events_.end(), marks.begin(), marks.end());
}

Status Device::record(driver::StreamHandle stream, Marks& events) {
  std::optional<driver::EventHandle> event;
  {
    const std::lock_guard lock(mutex_);
    if (!spare_events_.empty()) {
      event = spare_events_.back();
      spare_events_.pop_back();
    }
  }
  if (!event) {
    RTSWAP_ASSIGN(event, driver_->create_event());
  }
  events.push_back(*event);
  return driver_->record_event(*event, stream);
}

Error Device::explain(Error error) {
  if (error.code != ErrorCode::device_lost) return error;
  error.message += suspects();
  const std::lock_guard lock(mutex_);
  if (!loss_) loss_ = std::move(error);
  return *loss_;
}

std::optional<Error> Device::loss() const {
  const std::lock_guard lock(mutex_);
  return loss_;
}

std::string Device::suspects() const {
  std::string names;
  for (const std::string& label : engine_.evicted_labels()) {
    names += (names.empty() ? "" : ", ") + label;
  }
  if (names.empty()) {
    return ". All memory of this process's tasks was on the device, so none of it was missed";
  }
  const char* const how_to_find_it =
      guard_ == nullptr
          ? "To find it, run with rtswap.enable(guard=True): reads give NaN then, and "
            "the process lives"
          : "As guard=True lets reads go on, it was a write, or work that was running "
            "while the memory came or left";
  return ". Not, or not wholly, on the device now: " + names +
         ". If work outside their jobs used their memory, that was the cause: the replay of a CUDA "
         "graph or a kernel with an exported pointer, which no closed tensor stops. Such work "
         "belongs inside `with task.job():`. " +
         how_to_find_it;
}

}  // namespace rtswap::client
