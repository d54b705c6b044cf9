// Taking devices into use.
#include <algorithm>
#include <utility>

#include "csrc/base/clock.h"
#include "csrc/base/units.h"
#include "csrc/client/core.h"
#include "csrc/engine/engine_thread.h"
#include "csrc/engine/guard.h"

namespace rtswap::client {
namespace {

using namespace rtswap::literals;

constexpr int64_t kSnapshotLimit_ns = 10_s;

// Asks anew each time: an answer takes microseconds unless the arbiter hangs.
Result<protocol::Snapshot> take_snapshot(protocol::Link& link, const Interrupted& interrupted) {
  const int64_t give_up_ns = monotonic_now_ns() + kSnapshotLimit_ns;
  for (;;) {
    Result<protocol::Snapshot> now = link.snapshot(kLookEvery_ns);
    const bool late = !now && now.error().code == ErrorCode::timed_out;
    if (!late || monotonic_now_ns() >= give_up_ns) return now;
    RTSWAP_TRY(check(interrupted));
  }
}

// The arbiter ends sessions that report more than there is beside its bank. Looked up before, that
// is an error of the call that would have reported it.
Status check_static_memory(protocol::Link& link, const std::string& uuid, uint64_t static_bytes,
                           bool guard, const Interrupted& interrupted) {
  if (static_bytes == 0) return {};
  RTSWAP_ASSIGN(const protocol::Snapshot now, take_snapshot(link, interrupted));
  const auto device = std::find_if(now.devices.begin(), now.devices.end(),
                                   [&](const auto& entry) { return entry.uuid == uuid; });
  if (device == now.devices.end()) return {};
  const uint64_t limit_bytes = device->static_limit_bytes;
  const uint64_t left_bytes = limit_bytes - std::min(limit_bytes, device->static_bytes);
  if (static_bytes <= left_bytes) return {};
  return fail(ErrorCode::static_memory,
              "this process announces " + std::to_string(static_bytes >> 20) +
                  " MiB beside the bank (" +
                  (guard ? "static= and one chunk for guard=" : "static=") + "), and of the " +
                  std::to_string(limit_bytes >> 20) + " MiB that " + uuid + " has for that only " +
                  std::to_string(left_bytes >> 20) +
                  " MiB are left: announce what it really needs, run fewer processes, or start the "
                  "arbiter with a smaller bank");
}

Result<std::unique_ptr<const engine::Guard>> make_guard(driver::Driver& driver,
                                                        uint64_t chunk_bytes) {
  std::unique_ptr<const engine::Guard> guard;
  RTSWAP_TRY(engine::run_attached(driver, [&]() -> Status {
    RTSWAP_ASSIGN(guard, engine::Guard::make(driver, chunk_bytes));
    return {};
  }));
  return guard;
}

}  // namespace

Status Core::use_device(uint32_t device, const Interrupted& interrupted) {
  // Before mutex_, so that a second caller waits for the first one's preparation.
  const std::lock_guard device_lock(device_mutex_);
  std::shared_ptr<protocol::Link> link;
  protocol::SessionId session = 0;
  uint32_t remote = 0;
  {
    const std::lock_guard lock(mutex_);
    if (const auto error = unusable()) return fail(*error);
    if (device >= descriptions_.size()) {
      return fail(ErrorCode::unknown_device, "device " + std::to_string(device) +
                                                 ": the arbiter manages " +
                                                 std::to_string(descriptions_.size()));
    }
    if (gone(device)) return fail(gone_error(device));
    if (devices_[device] != nullptr) return {};
    link = link_;
    session = session_;
    remote = remote_indices_[device];
  }
  const protocol::DeviceDescription& description = descriptions_[device];
  if (remote == kNoDevice) {
    return fail(ErrorCode::unknown_device, "the arbiter does not manage " + description.uuid +
                                               " any more since it was started again");
  }
  RTSWAP_TRY(check_static_memory(*link, description.uuid, static_bytes_on(description),
                                 options_.guard, interrupted));
  RTSWAP_ASSIGN(auto driver, source_->open_driver(description));
  RTSWAP_ASSIGN(auto bank,
                source_->open_bank(*driver, description, *link, session, remote, interrupted));
  RTSWAP_ASSIGN(std::shared_ptr<Device> made,
                make_device(description, std::move(driver), std::move(bank)));
  RTSWAP_ASSIGN(const LinkSpeed speed, made->link_speed(description));
  const std::lock_guard lock(mutex_);
  if (const auto error = unusable()) return fail(*error);
  devices_[device] = std::move(made);
  speeds_[device] = speed;
  report_device(device);
  return {};
}

Result<std::shared_ptr<Device>> Core::make_device(const protocol::DeviceDescription& description,
                                                  std::shared_ptr<driver::Driver> driver,
                                                  std::shared_ptr<const bank::Bank> bank) {
  std::unique_ptr<const engine::Guard> guard;
  if (options_.guard) {
    RTSWAP_ASSIGN(guard, make_guard(*driver, description.chunk_bytes));
  }
  engine::EngineListener& listener = *this;
  const engine::EngineOptions engine_options{.verify = options_.verify};
  return std::make_shared<Device>(std::move(driver), std::move(bank), listener, engine_options,
                                  std::move(guard));
}

void Core::report_device(uint32_t index) {
  send(protocol::DeviceReport{remote_indices_[index], static_bytes_on(descriptions_[index]),
                              speeds_[index].restore_bytes_per_s,
                              speeds_[index].evict_bytes_per_s});
}

uint64_t Core::static_bytes_on(const protocol::DeviceDescription& device) const {
  return options_.static_bytes + (options_.guard ? device.chunk_bytes : 0);
}

}  // namespace rtswap::client
