#include "csrc/client/queued_work.h"

namespace rtswap::client {

MarkedWork::~MarkedWork() {
  for (const auto& [owner, marks] : marks_) {
    if (const auto device = owner.lock()) device->take_back(marks);
  }
}

Status MarkedWork::add(const std::shared_ptr<Device>& device,
                       std::span<const driver::StreamHandle> streams) {
  auto& [owner, marks] = marks_.emplace_back(device, Device::Marks());
  return device->mark(streams, marks);
}

Result<bool> MarkedWork::completed() {
  for (const auto& [owner, marks] : marks_) {
    const auto device = owner.lock();
    if (device == nullptr) continue;
    RTSWAP_ASSIGN(const bool passed, device->passed(marks));
    if (!passed) return false;
  }
  return true;
}

}  // namespace rtswap::client
