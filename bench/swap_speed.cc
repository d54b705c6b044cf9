// What the engine adds to a copy: restoring and evicting one arena, each beside one raw copy of the
// same bytes between the same pinned image and mapped chunks, in turn. And what the guard adds to
// that (csrc/engine/guard.h): a second engine on the same bank takes turns with the first.
//
//   bench_swap_speed [cuda | simulated]
//
// Without an argument: a GPU where there is one. Prints one JSON object; medians of kRepeats. On
// the simulated device the figures say how its link is kept busy, nothing about a GPU; its
// evictions pay for page tables of the host (csrc/driver/simulated.h).
#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <vector>

#include "csrc/bank/bank.h"
#include "csrc/base/clock.h"
#include "csrc/base/units.h"
#include "csrc/driver/cuda.h"
#include "csrc/driver/simulated.h"
#include "csrc/engine/engine.h"
#include "csrc/engine/guard.h"

namespace {

using namespace rtswap;

constexpr int kRepeats = 15;
constexpr engine::ArenaId kArena = 1;

template <class T>
T must(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "%s\n", result.error().message.c_str());
    std::exit(1);
  }
  return std::move(result).value();
}

void must(const Status& status) {
  if (status) return;
  std::fprintf(stderr, "%s\n", status.error().message.c_str());
  std::exit(1);
}

// Lets the measuring thread wait until the engine has reached a number of chunks.
class Waiter final : public engine::EngineListener {
 public:
  void on_restored(engine::ArenaId, uint32_t landed) override { set(landed); }
  void on_evicted(engine::ArenaId, uint32_t resident, uint64_t) override { set(resident); }
  void on_restore_failed(engine::ArenaId, uint32_t, const Error& error) override {
    must(Status(fail(error)));
  }
  void on_evict_failed(engine::ArenaId, uint32_t, const Error& error) override {
    must(Status(fail(error)));
  }

  void wait_until(uint32_t resident) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return resident_ == resident; });
  }

 private:
  void set(uint32_t resident) {
    const std::lock_guard lock(mutex_);
    resident_ = resident;
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  uint32_t resident_ = 0;
};

template <class Work>
double measure_ms(Work work) {
  const int64_t begin_ns = monotonic_now_ns();
  work();
  return static_cast<double>(monotonic_now_ns() - begin_ns) / 1e6;
}

void print(const char* name, std::vector<double> values_ms) {
  std::sort(values_ms.begin(), values_ms.end());
  std::printf(", \"%s_ms\": {\"min\": %.3f, \"median\": %.3f, \"max\": %.3f}", name,
              values_ms.front(), values_ms[values_ms.size() / 2], values_ms.back());
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Case {
  uint64_t bytes = 0;
  uint64_t chunk_bytes = 0;
  engine::Kind kind = engine::Kind::read_only;
};

// An engine with one arena of the case.
class Side {
 public:
  Side(driver::Driver& driver, const bank::Bank& bank, const Case& test, const engine::Guard* guard)
      : engine_(driver, bank, waiter_, {.guard = guard}), all_(bank.chunk_count()) {
    must(engine_.open_arena(kArena, "bench"));
    image_ms_ =
        measure_ms([&] { segment_ = must(engine_.add_segment(kArena, test.kind, test.bytes)); });
    std::memset(segment_.host, 0x5A, test.bytes);  // copies of zeros may be faster than others
    std::iota(all_.begin(), all_.end(), 0);
  }
  ~Side() { must(engine_.close_arena(kArena)); }

  double restore() {
    return measure_ms([&] {
      engine_.restore(kArena, 0, all_);
      waiter_.wait_until(static_cast<uint32_t>(all_.size()));
    });
  }
  double evict() {
    engine_.mark_used(kArena);
    return measure_ms([&] {
      engine_.evict(kArena, 0);
      waiter_.wait_until(0);
    });
  }

  const engine::Segment& segment() const { return segment_; }
  double image_ms() const { return image_ms_; }
  engine::ArenaStats stats() const { return must(engine_.stats(kArena)); }

 private:
  Waiter waiter_;
  engine::Engine engine_;
  std::vector<uint32_t> all_;
  engine::Segment segment_;
  double image_ms_ = 0;
};

// Restores and evicts one arena of the case without and with a guard, and copies its bytes raw in
// between.
void run(driver::Driver& driver, const Case& test, const char* separator) {
  const auto chunks = static_cast<uint32_t>(div_up(test.bytes, test.chunk_bytes));
  const auto bank = must(bank::Bank::create(driver, test.chunk_bytes, chunks, {}));
  const auto guard = must(engine::Guard::make(driver, test.chunk_bytes));
  Side plain(driver, *bank, test, nullptr);
  Side guarded(driver, *bank, test, guard.get());
  const engine::Segment& segment = plain.segment();

  const driver::StreamHandle stream = must(driver.create_stream());
  const driver::EventHandle event = must(driver.create_event());
  const auto finish = [&] {
    must(driver.record_event(event, stream));
    must(driver.synchronize_event(event));
  };

  std::vector<double> restore_ms, raw_in_ms, raw_out_ms, evict_ms, guarded_restore_ms,
      guarded_evict_ms;
  for (int i = -2; i < kRepeats; ++i) {
    const double restored = plain.restore();
    const double raw_in = measure_ms([&] {
      must(driver.copy_to_device(segment.address, segment.host, test.bytes, stream));
      finish();
    });
    const double raw_out = measure_ms([&] {
      must(driver.copy_to_host(segment.host, segment.address, test.bytes, stream));
      finish();
    });
    const double evicted = plain.evict();
    const double guarded_restored = guarded.restore();
    const double guarded_evicted = guarded.evict();
    if (i < 0) continue;  // warm-up
    restore_ms.push_back(restored);
    raw_in_ms.push_back(raw_in);
    raw_out_ms.push_back(raw_out);
    evict_ms.push_back(evicted);
    guarded_restore_ms.push_back(guarded_restored);
    guarded_evict_ms.push_back(guarded_evicted);
  }
  must(driver.destroy_event(event));
  must(driver.destroy_stream(stream));

  const bool writes_back = test.kind == engine::Kind::mutable_state;
  const double gigabytes = static_cast<double>(test.bytes) / 1e9;
  std::printf("%s\n  {\"bytes\": %llu, \"chunk_bytes\": %llu, \"kind\": \"%s\"", separator,
              static_cast<unsigned long long>(test.bytes),
              static_cast<unsigned long long>(test.chunk_bytes),
              writes_back ? "mutable" : "read_only");
  print("restore", restore_ms);
  print("raw_in", raw_in_ms);
  print("evict", evict_ms);
  if (writes_back) print("raw_out", raw_out_ms);
  print("guarded_restore", guarded_restore_ms);
  print("guarded_evict", guarded_evict_ms);
  std::printf(", \"restore_ratio\": %.4f", median(raw_in_ms) / median(restore_ms));
  if (writes_back) std::printf(", \"evict_ratio\": %.4f", median(raw_out_ms) / median(evict_ms));
  if (!writes_back) std::printf(", \"evict_ms_per_gb\": %.3f", median(evict_ms) / gigabytes);
  const double guard_ms =
      median(guarded_restore_ms) + median(guarded_evict_ms) - median(restore_ms) - median(evict_ms);
  std::printf(", \"guard_us_per_chunk\": %.3f, \"guard_failures\": %llu", 1e3 * guard_ms / chunks,
              static_cast<unsigned long long>(guarded.stats().guard_failures));
  std::printf(", \"image_gib_per_s\": %.2f, \"host_bytes_ratio\": %.4f}",
              static_cast<double>(test.bytes) / (1ull << 30) / (plain.image_ms() / 1e3),
              static_cast<double>(plain.stats().host_bytes) / static_cast<double>(test.bytes));
}

}  // namespace

int main(int argc, char** argv) {
  const std::string wanted = argc > 1 ? argv[1] : "";
  std::unique_ptr<driver::Driver> device;
  if (wanted != "simulated") {
    auto gpu = driver::make_cuda_driver("", true);
    if (gpu) {
      device = std::move(gpu).value();
    } else if (wanted == "cuda") {
      must(Status(fail(gpu.error())));
    }
  }
  const bool simulated = device == nullptr;
  if (simulated) {
    device = must(driver::make_simulated_driver({.name = "bench", .total_bytes = 256_MiB},
                                                driver::make_wall_clock_link(0)));
  }
  must(device->attach_thread());

  // 230 MB: the weights of a ResNet-152.
  const std::vector<uint64_t> sizes = simulated ? std::vector<uint64_t>{24'000'000, 96'000'000}
                                                : std::vector<uint64_t>{230'000'000, 4'400'000'000};
  const char* separator = "";
  std::printf("{\"device\": \"%s\", \"swap_speed\": [", device->info().name.c_str());
  for (const uint64_t bytes : sizes) {
    for (const uint64_t chunk_bytes : {2_MiB, 8_MiB, 32_MiB}) {
      for (const auto kind : {engine::Kind::read_only, engine::Kind::mutable_state}) {
        run(*device, {bytes, chunk_bytes, kind}, separator);
        separator = ",";
      }
    }
  }
  std::printf("\n]}\n");
  return 0;
}
