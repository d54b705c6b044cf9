// How long planning and admission take: random sets of 16, 64 and 200 models on an 80 GB-class bank
// at 1.5 times its size, light and heavy, with direct tasks only and where tasks may be staged; and
// how long the advice of a refusal takes on top.
//
//   bench_planning
//
// Prints one JSON object; processor times in milliseconds.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <random>
#include <vector>

#include "csrc/policy/admission.h"
#include "csrc/policy/advice.h"
#include "csrc/policy/plan.h"

namespace {

using namespace rtswap::policy;

constexpr int kRounds = 100;

double uniform(std::mt19937& random) { return static_cast<double>(random()) * 0x1.0p-32; }

AdmissionInput random_input(std::mt19937& random, int tasks, double load, bool staging) {
  AdmissionInput input;
  input.staging = staging;
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
  int staged = 0;  // of these, with staged tasks
  std::vector<double> plan_ms, test_ms, refuse_ms, advice_ms;
  int advised = 0;  // refusals that name a change
};

template <class Work>
double milliseconds(Work work) {
  const auto now_ms = [] {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
  };
  const double begin_ms = now_ms();
  work();
  return now_ms() - begin_ms;
}

void print(const char* name, std::vector<double> values) {
  std::sort(values.begin(), values.end());
  if (values.empty()) return;
  std::printf(", \"%s_median\": %.3f, \"%s_max\": %.3f", name, values[values.size() / 2], name,
              values.back());
}

Times measure(std::mt19937& random, int tasks, double load, bool staging) {
  Times times;
  for (int round = 0; round < kRounds; ++round) {
    const AdmissionInput input = random_input(random, tasks, load, staging);
    Plan plan;
    times.plan_ms.push_back(milliseconds([&] { plan = make_plan(input); }));
    Decision decision;
    times.test_ms.push_back(
        milliseconds([&] { decision = test(input, plan.prefixes, plan.prefixes, plan.staged); }));
    times.admitted += decision.admitted;
    times.staged += !plan.staged.empty();
    if (decision.admitted) continue;
    times.refuse_ms.push_back(milliseconds([&] { decision = decide(input); }));
    times.advice_ms.push_back(milliseconds([&] { explain(input, decision); }));
    times.advised += !decision.refusal.change.empty();
  }
  return times;
}

}  // namespace

int main() {
  const char* separator = "{\"planning\": [";
  for (const bool staging : {false, true}) {
    std::mt19937 random(1);
    for (const int tasks : {16, 64, 200}) {
      for (const double load : {0.1, 0.3, 0.6, 0.9}) {
        const Times times = measure(random, tasks, load, staging);
        std::printf(
            "%s\n  {\"staging\": %s, \"tasks\": %d, \"load\": %.1f, \"sets\": %d, "
            "\"admitted\": %d, \"staged\": %d, \"advised\": %d",
            separator, staging ? "true" : "false", tasks, load, kRounds, times.admitted,
            times.staged, times.advised);
        print("plan_ms", times.plan_ms);
        print("test_ms", times.test_ms);
        print("refuse_ms", times.refuse_ms);
        print("advice_ms", times.advice_ms);
        std::printf("}");
        separator = ",";
      }
    }
  }
  std::printf("\n]}\n");
  return 0;
}
