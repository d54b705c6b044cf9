// What session.h says of QueuedWork: marks on the streams of the devices of one job.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "csrc/client/device.h"
#include "csrc/client/session.h"

namespace rtswap::client {

class MarkedWork final : public QueuedWork {
 public:
  ~MarkedWork() override;

  // Adds what is queued so far on `streams` of the device.
  Status add(const std::shared_ptr<Device>& device, std::span<const driver::StreamHandle> streams);

  Result<bool> completed() override;

 private:
  // A device that is gone has been waited for, and its events with it.
  std::vector<std::pair<std::weak_ptr<Device>, Device::Marks>> marks_;
};

}  // namespace rtswap::client
