#include "csrc/client/daemon_source.h"

#include <string_view>
#include <utility>

#include "csrc/client/grpc_loader.h"
#include "csrc/driver/cuda.h"
#include "csrc/driver/simulated.h"

namespace rtswap::client {
namespace {

constexpr std::string_view kSimulatedPrefix = "SIM-";

}  // namespace

Result<std::shared_ptr<driver::Driver>> open_simulated_device(
    const protocol::DeviceDescription& device) {
  if (device.uuid.rfind(kSimulatedPrefix, 0) != 0) {
    return fail(ErrorCode::protocol_violation, "the arbiter calls its device " + device.uuid +
                                                   " simulated; such a name starts "
                                                   "with " +
                                                   std::string(kSimulatedPrefix));
  }
  RTSWAP_ASSIGN(
      std::shared_ptr<driver::Driver> opened,
      driver::make_simulated_driver({.name = device.uuid.substr(kSimulatedPrefix.size()),
                                     .total_bytes = device.total_bytes,
                                     .poison_on_map = false},
                                    driver::make_wall_clock_link(device.simulated_bytes_per_s)));
  return opened;
}

Result<std::unique_ptr<protocol::Link>> DaemonSource::connect(const Interrupted& interrupted) {
  return connect_by(connect_function_, {.socket_path = socket_path_, .interrupted = interrupted});
}

Result<std::shared_ptr<driver::Driver>> DaemonSource::open_driver(
    const protocol::DeviceDescription& device) {
  if (device.simulated) return open_simulated_device(device);
  RTSWAP_ASSIGN(std::shared_ptr<driver::Driver> opened,
                driver::make_cuda_driver(device.uuid, true));
  return opened;
}

Result<std::shared_ptr<const bank::Bank>> DaemonSource::open_bank(
    driver::Driver& driver, const protocol::DeviceDescription& device, protocol::Link& link,
    protocol::SessionId session, uint32_t index, const Interrupted& interrupted) {
  RTSWAP_ASSIGN(std::vector<UniqueFd> descriptors, link.fetch_chunks(session, index, interrupted));
  if (descriptors.size() != device.chunk_count) {
    return fail(ErrorCode::protocol_violation,
                "the arbiter announced " + std::to_string(device.chunk_count) + " chunks of " +
                    device.uuid + " and passed on " + std::to_string(descriptors.size()));
  }
  RTSWAP_ASSIGN(
      std::shared_ptr<const bank::Bank> imported,
      bank::Bank::import(driver, device.bank_id, device.chunk_bytes, std::move(descriptors)));
  return imported;
}

}  // namespace rtswap::client
