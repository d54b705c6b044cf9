#include "csrc/engine/command_order.h"

#include <algorithm>
#include <utility>

#include "csrc/base/check.h"

namespace rtswap::engine {

void CommandOrder::add(Command command) {
  waiting_.push_back(std::move(command));
  ++added_;
}

bool CommandOrder::may_start() const noexcept {
  if (waiting_.empty() || evicting_) return false;
  return running_ == 0 || std::holds_alternative<RestoreCommand>(waiting_.front());
}

bool CommandOrder::evicts() const noexcept {
  return evicting_ || std::any_of(waiting_.begin(), waiting_.end(), [](const Command& command) {
           return std::holds_alternative<EvictCommand>(command);
         });
}

Command CommandOrder::start() {
  RTSWAP_CHECK(may_start(), "the next command must wait");
  Command command = std::move(waiting_.front());
  waiting_.pop_front();
  evicting_ = std::holds_alternative<EvictCommand>(command);
  ++running_;
  return command;
}

void CommandOrder::finished() {
  RTSWAP_CHECK(running_ > 0, "no command is running");
  --running_;
  ++done_;
  evicting_ = false;
}

}  // namespace rtswap::engine
