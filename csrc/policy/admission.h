// Admission: may these tasks be promised their deadlines? And if not, what would have to change.
// Pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "csrc/policy/np_edf.h"
#include "csrc/policy/plan.h"
#include "csrc/policy/task_model.h"

namespace rtswap::policy {

struct AdmissionInput {
  std::vector<TaskModel> promised;     // keep or ask for a promise: period, deadline and cost known
  std::vector<TaskModel> best_effort;  // get memory and leftover time; wcet 0: length not known
  // Which tasks of `promised` may run late, without a deadline, when theirs cannot be met any more.
  std::vector<bool> may_run_late;  // empty: none
  LinkModel link;
  uint32_t bank_chunks = 0;
  size_t candidate = 0;  // index in `promised` of the task that asks, for the advice
};

struct Promise {
  bool reserved = false;
  uint32_t missing_chunks = 0;
  int64_t block_ns = 0;
  int64_t response_ns = 0;
};

struct Decision {
  bool admitted = false;
  bool too_large = false;            // refused because an arena is larger than the whole bank
  std::string reason;                // when refused: one sentence for a person, with what would fit
  std::vector<Promise> promises;     // one per promised task
  std::vector<Promise> best_effort;  // one per best-effort task; response 0
  // Best-effort blocks up to this length are part of the promises; longer ones wait for a gap.
  int64_t best_effort_block_ns = 0;
  double utilisation = 0;
};

// Deterministic; a few ms for 64 tasks, more on refusal (the advice re-runs the test).
Decision admit(const AdmissionInput& input);

// The same test without words: would `admit` accept?
bool passes(const AdmissionInput& input);

}  // namespace rtswap::policy
