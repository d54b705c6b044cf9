#include "csrc/client/device_meter.h"

#include "csrc/engine/engine_thread.h"

namespace rtswap::client {
namespace {

constexpr int kCopiesAtOnce = 4;  // at most some 10 ms of a GPU's link, to end soon

}  // namespace

DeviceMeter::~DeviceMeter() { (void)stop_copies(); }

Result<DeviceFigures> DeviceMeter::measure(uint64_t chunk_bytes) {
  DeviceFigures figures;
  RTSWAP_TRY(engine::run_attached(*driver_, [&]() -> Status {
    RTSWAP_ASSIGN(figures.alone, probe_link(*driver_, kProbe_bytes));
    RTSWAP_ASSIGN(figures.both_ways, probe_link_both_ways(*driver_, kProbe_bytes));
    RTSWAP_ASSIGN(figures.chunk, probe_chunk_cost(*driver_, chunk_bytes));
    return {};
  }));
  return figures;
}

Status DeviceMeter::start_copies() {
  if (copies_.joinable()) return {};
  RTSWAP_TRY(engine::run_attached(*driver_, [this]() -> Status {
    RTSWAP_ASSIGN(place_, CopyPlace::make(*driver_, kProbe_bytes));
    return place_->start(Direction::to_device);
  }));
  stopping_ = false;
  copies_ = engine::start_engine_thread("rtswap-copies", [this] {
    outcome_ = copy_until_stopped();
    place_.reset();  // here, where the driver may be called
  });
  return {};
}

Status DeviceMeter::stop_copies() {
  if (!copies_.joinable()) return {};
  stopping_ = true;
  copies_.join();
  return std::exchange(outcome_, Status());
}

Status DeviceMeter::copy_until_stopped() {
  RTSWAP_TRY(driver_->attach_thread());
  while (!stopping_) {
    // Several at a time: the link is hardly ever idle.
    for (int i = 0; i < kCopiesAtOnce; ++i) RTSWAP_TRY(place_->start(Direction::to_device));
    RTSWAP_TRY(place_->finish());
  }
  return {};
}

}  // namespace rtswap::client
