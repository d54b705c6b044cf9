#include "csrc/policy/advice.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <regex>

#include "tests/catch.h"

namespace rtswap::policy {
namespace {

using test::contains;

constexpr int64_t kStep_ns = 100'000;

double uniform(std::mt19937& random) { return static_cast<double>(random()) * 0x1.0p-32; }

// The last task asks; it is `hurry` times as frequent as it would be by chance.
AdmissionInput random_set(std::mt19937& random, size_t tasks, double load, double hurry) {
  AdmissionInput input;
  input.link.restore_bytes_per_s = 24'000'000'000;
  input.link.chunk_bytes = 32 << 20;
  input.link.chunk_cost_ns = 20'000;
  input.link.overhead_ns = 200'000;
  input.link.prefetch_chunks = 1;
  uint32_t all = 0;
  uint32_t largest = 0;
  for (size_t i = 0; i < tasks; ++i) {
    const double faster = i + 1 == tasks ? hurry : 1;
    const double count = static_cast<double>(tasks);
    const double period_ns = 1e8 * std::pow(100.0, uniform(random)) * count / 16 / faster;
    TaskModel task;
    task.name = "task" + std::to_string(i);
    task.period_ns = static_cast<int64_t>(period_ns);
    task.deadline_ns = uniform(random) < 0.5
                           ? task.period_ns
                           : static_cast<int64_t>(period_ns * (0.3 + 0.7 * uniform(random)));
    task.wcet_ns = static_cast<int64_t>(period_ns * load / count * (0.5 + uniform(random))) + 1;
    task.arena = i + 1;
    task.arena_chunks = 1 + random() % 60;
    all += task.arena_chunks;
    largest = std::max(largest, task.arena_chunks);
    input.promised.push_back(task);
  }
  input.bank_chunks = std::max(largest, all * 2 / 3);
  input.candidate = tasks - 1;
  return input;
}

// Every set that the words of `change` speak of, by what they change.
std::vector<std::pair<std::string, AdmissionInput>> named_by(const std::string& change,
                                                             const AdmissionInput& input) {
  std::vector<std::pair<std::string, AdmissionInput>> sets;
  const std::regex phrase(
      "a (deadline|period|bank) of (\\d+)(?:\\.(\\d))? (?:ms for \"(\\w+)\"|MiB)");
  for (std::sregex_iterator it(change.begin(), change.end(), phrase), end; it != end; ++it) {
    AdmissionInput changed = input;
    TaskModel& task = changed.promised[input.candidate];
    const std::string what = (*it)[1];
    const int64_t whole = std::stoll((*it)[2]);
    if (what == "bank") {
      changed.bank_chunks = static_cast<uint32_t>((static_cast<uint64_t>(whole) << 20) /
                                                  static_cast<uint64_t>(input.link.chunk_bytes));
    } else {
      REQUIRE((*it)[4] == task.name);
      const int64_t value_ns = (whole * 10 + std::stoll((*it)[3])) * kStep_ns;
      const bool implicit = task.deadline_ns == task.period_ns;
      if (what == "deadline" || implicit) task.deadline_ns = value_ns;
      if (what == "period") task.period_ns = value_ns;
    }
    sets.emplace_back(what, std::move(changed));
  }
  return sets;
}

TEST_CASE("what a refusal advises is accepted") {
  std::mt19937 random(7);
  std::map<std::string, int> given;
  for (int round = 0; round < 1500; ++round) {
    const size_t tasks = 2 + random() % 12;
    const double hurry = std::pow(10.0, 1.5 * uniform(random));
    AdmissionInput input = random_set(random, tasks, 0.3, hurry);
    if (round % 4 == 1) input.promised[0].resident = true;
    if (round % 4 == 2) input.link.restore_bytes_per_s = 0;
    const Decision decision = admit(input);
    if (decision.admitted) continue;
    const bool late = decision.refusal.failure.has_value();
    const auto sets = named_by(decision.refusal.change, input);
    CHECK(sets.empty() == decision.refusal.change.empty());
    for (const auto& [what, changed] : sets) {
      INFO(decision.reason);
      ++given[late ? what : decision.reason.substr(0, 6) == "memory" ? "room" : "link"];
      CHECK(admit(changed).admitted);
    }
  }
  CHECK(given["deadline"] > 10);
  CHECK(given["period"] > 10);
  CHECK(given["bank"] > 10);
  CHECK(given["room"] > 10);
  CHECK(given["link"] > 10);
}

AdmissionInput three_tasks(int64_t period_ns, int64_t wcet_ns) {
  const auto task = [](const char* name, ArenaKey arena, int64_t period, int64_t wcet) {
    TaskModel made;
    made.name = name;
    made.period_ns = made.deadline_ns = period;
    made.wcet_ns = wcet;
    made.arena = arena;
    made.arena_chunks = 12;
    return made;
  };
  AdmissionInput input;
  input.link.restore_bytes_per_s = 1'000'000'000;
  input.link.chunk_bytes = 2 << 20;
  input.link.overhead_ns = 200'000;
  input.promised = {task("a", 1, 100'000'000, 10'000'000), task("b", 2, 500'000'000, 20'000'000),
                    task("c", 3, period_ns, wcet_ns)};
  input.bank_chunks = 32;
  input.candidate = 2;
  return input;
}

TEST_CASE("the period that is advised is one that is needed") {
  // Among them periods whose test at a thousand times their length is long.
  for (const auto& [period_ns, wcet_ns] :
       {std::pair<int64_t, int64_t>{20'000'000, 10'000'000}, {20'000, 1'000}, {1'000, 1'000}}) {
    const AdmissionInput input = three_tasks(period_ns, wcet_ns);
    const Decision decision = admit(input);
    REQUIRE_FALSE(decision.admitted);
    INFO(decision.reason);
    const auto sets = named_by(decision.refusal.change, input);
    REQUIRE_FALSE(sets.empty());
    REQUIRE(sets[0].first == "period");
    AdmissionInput shorter = sets[0].second;
    CHECK(admit(shorter).admitted);
    shorter.promised[2].period_ns = shorter.promised[2].deadline_ns -= kStep_ns;
    CHECK_FALSE(admit(shorter).admitted);
  }
}

TEST_CASE("a large refused set names who misses and who blocks") {
  std::mt19937 random(11);
  int refused = 0;
  for (int round = 0; round < 8; ++round) {
    const AdmissionInput input = random_set(random, 200, 0.85, 1);
    const Decision decision = admit(input);
    if (decision.admitted) continue;
    ++refused;
    const Failure failure = decision.refusal.failure.value();
    const std::string& missing = input.promised[failure.missing_task].name;
    const std::string& blocking = input.promised[failure.blocking_task.value()].name;
    CHECK_THAT(decision.reason, contains("\"" + missing + "\" could miss its deadline"));
    CHECK_THAT(decision.reason, contains("a job of \"" + blocking + "\" may have just begun"));
    CHECK(admit(input).reason == decision.reason);
  }
  CHECK(refused > 4);
}

TEST_CASE("what was not searched to its end is not denied") {
  // All but "eager" load the device so fully that any test of them that passes is long.
  AdmissionInput input;
  for (int64_t i = 0; i < 199; ++i) {
    TaskModel task;
    task.name = "steady" + std::to_string(i);
    task.period_ns = 1'000'000'007 + i * 31'415'927;
    task.deadline_ns = task.period_ns / 10 * 9;
    task.wcet_ns = static_cast<int64_t>(static_cast<double>(task.period_ns) * 0.9999999 / 199);
    task.arena = static_cast<ArenaKey>(i);
    task.arena_chunks = 1;
    input.promised.push_back(task);
  }
  input.promised.push_back(input.promised.front());
  input.promised.back().name = "eager";
  input.promised.back().period_ns = input.promised.back().deadline_ns = 10'000'000;
  input.promised.back().wcet_ns = 1;
  input.bank_chunks = 199;
  input.candidate = 199;
  const Decision decision = admit(input);
  REQUIRE_FALSE(decision.admitted);
  CHECK_THAT(decision.reason, contains("\"eager\" could miss its deadline"));
  CHECK_THAT(decision.reason, contains("a job of \"steady198\" may have just begun"));
  CHECK(decision.refusal.change.empty());
  CHECK_THAT(decision.reason, !contains("no longer period"));
}

TEST_CASE("a set is not said to pass when the work it takes is not to be done") {
  std::mt19937 random(3);
  const AdmissionInput input = random_set(random, 64, 0.1, 1);
  Effort enough{INT64_MAX / 2};
  REQUIRE(passes(input));
  REQUIRE(passes(input, &enough));
  const int64_t needed = INT64_MAX / 2 - enough.left;
  for (const int64_t part : {int64_t{0}, needed / 10, needed / 2, needed - 1}) {
    Effort effort{part};
    CHECK_FALSE(passes(input, &effort));
    CHECK(effort.spent());
    CHECK(effort.left > -64 * 64);  // one step of the planner more
  }
}

TEST_CASE("a decision without words is the decision with words") {
  std::mt19937 random(5);
  for (int round = 0; round < 100; ++round) {
    const AdmissionInput input = random_set(random, 8, 0.3, 3);
    const Decision bare = decide(input);
    const Decision full = admit(input);
    CHECK(bare.admitted == full.admitted);
    CHECK(bare.prefixes == full.prefixes);
    CHECK(bare.reason.empty());
    CHECK(full.reason.empty() == full.admitted);
  }
}

}  // namespace
}  // namespace rtswap::policy
