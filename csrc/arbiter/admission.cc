// Between the arbiter's records and the pure test of csrc/policy.
#include <algorithm>

#include "csrc/arbiter/state.h"
#include "csrc/base/units.h"

namespace rtswap::arbiter {
namespace {

// One round trip between arbiter and client, with the wake-ups in it: several times the median
// measured over gRPC on a Unix socket (43 us).
constexpr int64_t kRoundTrip_ns = 200'000;

bool is_member(const Task& task) {
  return task.state == TaskState::admitted || task.state == TaskState::best_effort ||
         task.state == TaskState::warming;
}

policy::TaskModel model_of(const Task& task) {
  policy::TaskModel model;
  model.name = task.full_name;
  model.period_ns = task.timing.period_ns;
  model.deadline_ns = task.timing.deadline_ns;
  model.wcet_ns = task.timing.wcet_ns;
  model.arena = task.arena->key;
  model.arena_chunks = task.arena->chunks;
  model.mutable_chunks = task.arena->mutable_chunks;
  model.resident = task.resident;
  return model;
}

}  // namespace

// Memory of sessions that were ended but whose process lives is out of reach.
uint32_t Arbiter::State::usable_chunks(const Device& device) const {
  uint32_t usable = device.ledger.chunk_count();
  for (const Arena* arena : device.arenas) {
    if (arena->session->phase == Session::Phase::faulted) usable -= device.ledger.owned(arena->key);
  }
  return usable;
}

uint32_t Arbiter::State::quantum(const Device& device) const {
  const uint64_t chunk_bytes = std::max<uint64_t>(1, device.config.description.chunk_bytes);
  using namespace literals;
  return static_cast<uint32_t>(std::max<uint64_t>(1, 32_MiB / chunk_bytes));
}

policy::Decision Arbiter::State::test(const Device& device, const Task* candidate) const {
  policy::AdmissionInput input;
  for (const Task* task : device.tasks) {
    if (!is_member(*task)) continue;
    if (edf() && task->state == TaskState::admitted) {
      if (task == candidate) input.candidate = input.promised.size();
      input.promised.push_back(model_of(*task));
      input.may_run_late.push_back(task->late == protocol::LatePolicy::run);
    } else {
      input.best_effort.push_back(model_of(*task));
    }
  }
  input.link.restore_bytes_per_s = device.restore_bytes_per_s;
  input.link.evict_bytes_per_s = device.evict_bytes_per_s;
  input.link.chunk_bytes = device.config.description.chunk_bytes;
  input.link.chunk_cost_ns = device.config.chunk_cost_ns;
  input.link.overhead_ns = kRoundTrip_ns;
  input.link.prefetch_chunks = quantum(device);
  input.bank_chunks = usable_chunks(device);
  return policy::admit(input);
}

policy::Decision Arbiter::State::retest(Device& device, const Task* candidate) {
  policy::Decision decision = test(device, candidate);
  if (decision.admitted) apply(device, decision, candidate);
  return decision;
}

void Arbiter::State::apply(Device& device, const policy::Decision& decision,
                           const Task* candidate) {
  device.best_effort_block_ns = decision.best_effort_block_ns;
  device.utilisation = decision.utilisation;
  for (Arena* arena : device.arenas) arena->reserved = false;
  size_t next_promised = 0;
  size_t next_best_effort = 0;
  for (Task* task : device.tasks) {
    if (!is_member(*task)) continue;
    const bool promised = edf() && task->state == TaskState::admitted;
    const policy::Promise& promise =
        promised ? decision.promises[next_promised++] : decision.best_effort[next_best_effort++];
    task->arena->reserved |= promise.reserved;
    const int64_t block_ns = task->timing.wcet_ns > 0 ? promise.block_ns : 0;
    const int64_t bound_ns = promised ? promise.response_ns : 0;
    const bool changed = task->block_ns != block_ns || task->response_bound_ns != bound_ns;
    task->block_ns = block_ns;
    task->response_bound_ns = bound_ns;
    if (changed && task != candidate) send_verdict(*task, false, task->reason);
  }
}

// The ground under the promises has changed: the youngest ones go until the rest holds.
void Arbiter::State::shed(Device& device, const std::string& why) {
  while (!retest(device, nullptr).admitted) {
    const auto youngest =
        std::find_if(device.tasks.rbegin(), device.tasks.rend(),
                     [](const Task* task) { return task->state == TaskState::admitted; });
    if (youngest == device.tasks.rend()) return;
    Task& task = **youngest;
    task.state = TaskState::best_effort;
    task.reason =
        Error{ErrorCode::admission_refused, why + "; its deadlines are no longer promised"};
    task.response_bound_ns = 0;
    send_verdict(task, false, task.reason);
  }
}

}  // namespace rtswap::arbiter
