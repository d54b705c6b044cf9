#include "csrc/protocol/messages.h"

namespace rtswap::protocol {

const char* to_string(TaskState state) noexcept {
  switch (state) {
    case TaskState::loading:
      return "loading";
    case TaskState::warming:
      return "warming";
    case TaskState::admitted:
      return "admitted";
    case TaskState::best_effort:
      return "best_effort";
    case TaskState::refused:
      return "refused";
    case TaskState::paused:
      return "paused";
  }
  return "unknown";
}

}  // namespace rtswap::protocol
