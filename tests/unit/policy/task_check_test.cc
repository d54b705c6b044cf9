#include "csrc/policy/task_check.h"

#include <string>
#include <vector>

#include "tests/catch.h"

namespace rtswap::policy {
namespace {

// Makes sense, with layers.
TaskModel task() {
  TaskModel result;
  result.period_ns = result.deadline_ns = 1'000;
  result.wcet_ns = 100;
  result.layers = {{2, 40}, {2, 10}, {5, 50}};
  result.arena_chunks = 5;
  result.mutable_chunks = 1;
  return result;
}

bool has(const TaskModel& task, const std::string& words) {
  return mistake_in(task).find(words) != std::string::npos;
}

TEST_CASE("tasks that make sense have no mistake") {
  CHECK(mistake_in(task()).empty());
  TaskModel best_effort = task();
  best_effort.period_ns = best_effort.deadline_ns = 0;
  CHECK(mistake_in(best_effort).empty());
  TaskModel unknown_cost = task();
  unknown_cost.wcet_ns = 0;
  unknown_cost.layers.clear();
  CHECK(mistake_in(unknown_cost).empty());
  TaskModel all_needed_at_once = task();
  all_needed_at_once.layers = {{5, 100}};
  CHECK(mistake_in(all_needed_at_once).empty());
}

TEST_CASE("mistakes in period, deadline and cost") {
  for (int64_t TaskModel::*const field :
       {&TaskModel::period_ns, &TaskModel::deadline_ns, &TaskModel::wcet_ns}) {
    TaskModel negative = task();
    negative.*field = -1;
    CHECK(has(negative, "must not be negative"));
  }
  TaskModel endless = task();
  endless.period_ns = INT64_MAX;
  CHECK(has(endless, "shorter than a year"));
  TaskModel no_deadline = task();
  no_deadline.deadline_ns = 0;
  CHECK(has(no_deadline, "deadline must be more than 0"));
  TaskModel late = task();
  late.deadline_ns = 1'001;
  CHECK(has(late, "must not be later than the period"));
}

TEST_CASE("mistakes in the arena") {
  TaskModel empty = task();
  empty.arena_chunks = 0;
  CHECK(has(empty, "empty"));
  TaskModel too_mutable = task();
  too_mutable.mutable_chunks = 6;
  CHECK(has(too_mutable, "mutable"));
}

TEST_CASE("mistakes in layers") {
  const auto with = [](std::vector<Layer> layers) {
    TaskModel result = task();
    result.layers = std::move(layers);
    return result;
  };
  CHECK(has(with({{3, 50}, {2, 50}}), "none less than the one before"));
  CHECK(has(with({{0, 100}}), "1 to all 5"));
  CHECK(has(with({{6, 100}}), "1 to all 5"));
  CHECK(has(with({{2, 0}, {5, 100}}), "must be positive"));
  CHECK(has(with({{2, -1}, {5, 101}}), "must be positive"));
  CHECK(has(with({{2, 60}, {5, 50}}), "together that of the job"));
  CHECK(has(with({{2, INT64_MAX}, {5, INT64_MAX}}), "together that of the job"));
  CHECK(has(with({{2, 60}, {5, 39}}), "99 ns together and the job for 100"));
  std::vector<Layer> many(257, {1, 1});
  CHECK(has(with(many), "at most 256"));
}

}  // namespace
}  // namespace rtswap::policy
