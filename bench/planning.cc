// How long planning and admission take: random sets of 16, 64 and 200 models on an 80 GB-class bank
// at 1.5 times its size, light and heavy.
//
//   bench_planning
//
// Prints one JSON object; times in milliseconds.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "csrc/policy/admission.h"
#include "csrc/policy/plan.h"

namespace {

using namespace rtswap::policy;

constexpr int kRounds = 100;

double uniform(std::mt19937& random) { return static_cast<double>(random()) * 0x1.0p-32; }

AdmissionInput random_input(std::mt19937& random, int tasks, double load) {
  AdmissionInput input;
  input.link.restore_bytes_per_s = 24'000'000'000;
  input.link.chunk_bytes = 32 << 20;
  input.link.chunk_cost_ns = 20'000;
  input.link.overhead_ns = 200'000;
  input.link.prefetch_chunks = 1;
  uint32_t all = 0;
  uint32_t largest = 0;
  for (int i = 0; i < tasks; ++i) {
    TaskModel task;
    task.name = "task";
    // Periods from 100 ms to 10 s for 16 tasks, longer where more share the device.
    const double period_ns = 100e6 * std::pow(100.0, uniform(random)) * tasks / 16;
    task.period_ns = static_cast<int64_t>(period_ns);
    task.deadline_ns = static_cast<int64_t>(period_ns * (0.6 + 0.4 * uniform(random)));
    task.wcet_ns = static_cast<int64_t>(period_ns * load / tasks * (0.5 + uniform(random))) + 1;
    task.arena = static_cast<ArenaKey>(i + 1);
    task.arena_chunks = 1 + random() % 60;
    all += task.arena_chunks;
    largest = std::max(largest, task.arena_chunks);
    input.promised.push_back(task);
  }
  input.bank_chunks = std::max(largest, all * 2 / 3);
  input.candidate = input.promised.size() - 1;
  return input;
}

struct Times {
  int admitted = 0;
  std::vector<double> plan_ms, test_ms, refuse_ms;
};

template <class Work>
double milliseconds(Work work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin)
      .count();
}

void print(const char* name, std::vector<double> values) {
  std::sort(values.begin(), values.end());
  if (values.empty()) return;
  std::printf(", \"%s_median\": %.3f, \"%s_max\": %.3f", name, values[values.size() / 2], name,
              values.back());
}

}  // namespace

int main() {
  std::mt19937 random(1);
  const char* separator = "{\"planning\": [";
  for (const int tasks : {16, 64, 200}) {
    for (const double load : {0.1, 0.3, 0.6}) {
      Times times;
      for (int round = 0; round < kRounds; ++round) {
        const AdmissionInput input = random_input(random, tasks, load);
        Plan plan;
        times.plan_ms.push_back(milliseconds([&] { plan = make_plan(input); }));
        Decision decision;
        times.test_ms.push_back(
            milliseconds([&] { decision = test(input, plan.prefixes, plan.prefixes); }));
        times.admitted += decision.admitted;
        if (decision.admitted) continue;
        times.refuse_ms.push_back(milliseconds([&] { decision = admit(input); }));
      }
      std::printf("%s\n  {\"tasks\": %d, \"load\": %.1f, \"sets\": %d, \"admitted\": %d", separator,
                  tasks, load, kRounds, times.admitted);
      print("plan_ms", times.plan_ms);
      print("test_ms", times.test_ms);
      print("refuse_with_advice_ms", times.refuse_ms);
      std::printf("}");
      separator = ",";
    }
  }
  std::printf("\n]}\n");
  return 0;
}
