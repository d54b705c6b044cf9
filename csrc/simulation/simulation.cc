#include "csrc/simulation/simulation.h"

#include <algorithm>
#include <memory>

#include "csrc/base/check.h"
#include "csrc/simulation/client.h"
#include "csrc/simulation/world.h"

namespace rtswap::simulation {
namespace {

// After the last release, waiting work may finish for this long.
constexpr int64_t kDrain_ns = 60'000'000'000;
constexpr int64_t kReportAgain_ns = 10'000'000;

arbiter::Config arbiter_config(const SimConfig& config) {
  arbiter::DeviceConfig device;
  device.description.name = "simulated device";
  device.description.simulated = true;
  device.description.chunk_bytes = config.chunk_bytes;
  device.description.chunk_count = config.chunk_count;
  device.chunk_cost_ns = config.chunk_cost_ns;
  device.assumed_restore_bytes_per_s = config.bytes_per_s;
  arbiter::Config result;
  result.version = "simulation";
  result.epoch = 1;
  for (uint32_t i = 0; i < config.devices; ++i) {
    device.description.uuid = device_uuid(i);
    result.devices.push_back(device);
  }
  result.discipline = config.discipline;
  result.round_trip_ns = config.round_trip_ns;
  result.hang_timeout_ns = config.hang_timeout_ns;
  return result;
}

class Simulation {
 public:
  Simulation(const SimConfig& config, const std::vector<SimTask>& tasks)
      : world_(config, [this](const arbiter::Event& event) { step(event); }),
        arbiter_(arbiter_config(config)) {
    int64_t pid = 1000;
    for (const SimTask& task : tasks) {
      clients_.push_back(std::make_unique<Client>(world_, task, pid++));
    }
  }

  SimReport run() {
    for (auto& client : clients_) {
      world_.timeline.at(client->join_ns(), [&client] { client->start(); });
    }
    schedule_faults();
    if (world_.config.slower_ns > 0) {
      world_.timeline.at(world_.config.slower_ns, [this] { slow_down(); });
    }
    const int64_t end_ns = world_.config.horizon_ns + kDrain_ns;
    try {
      while (world_.timeline.now_ns() < end_ns && world_.timeline.run_next()) {
      }
    } catch (const InvariantViolation& violation) {
      report_.violations.push_back(violation.what());
    }
    for (const std::string& violation : world_.checker.violations()) {
      report_.violations.push_back(violation);
    }
    for (const auto& client : clients_) report_.tasks.push_back(client->report());
    report_.ended_ns = world_.timeline.now_ns();
    const protocol::Snapshot end = arbiter_.snapshot();
    for (const auto& device : end.devices) report_.suspensions += device.suspensions;
    for (const auto& task : end.tasks) {
      report_.loading += task.state == protocol::TaskState::loading;
    }
    return std::move(report_);
  }

 private:
  void step(const arbiter::Event& event) {
    ++report_.steps;
    if (std::holds_alternative<arbiter::TimerFired>(event)) timer_ns_ = protocol::kNoDeadline_ns;
    for (const arbiter::Effect& effect : arbiter_.step(world_.timeline.now_ns(), event)) {
      std::visit([this](const auto& typed) { carry_out(typed); }, effect);
    }
    if (world_.config.check_every_step) arbiter_.check();
    note_end_of_shedding();
  }

  // It goes on at once until it is over.
  void note_end_of_shedding() {
    if (!slower_reported_ || timer_ns_ <= world_.timeline.now_ns()) return;
    slower_reported_ = false;
    report_.after_slower = arbiter_.snapshot();
  }

  void carry_out(const arbiter::Send& send) {
    if (const auto* grant = std::get_if<protocol::Grant>(&send.message)) {
      world_.checker.granted(send.session, *grant);
    } else if (const auto* revoke = std::get_if<protocol::Revoke>(&send.message)) {
      world_.checker.revoked(send.session, *revoke);
    }
    for (auto& client : clients_) {
      const auto* verdict = std::get_if<protocol::Verdict>(&send.message);
      if (verdict != nullptr && client->owns(send.session)) client->note_promise(*verdict);
      if (client->owns(send.session)) client->receive(send.session, send.message);
    }
  }

  void carry_out(const arbiter::CloseSession& close) {
    world_.timeline.at(world_.timeline.now_ns() + world_.latency_ns(), [this, close] {
      for (auto& client : clients_) client->closed(close.session);
    });
  }

  void carry_out(const arbiter::SetTimer& timer) {
    const uint64_t generation = ++timer_generation_;
    timer_ns_ = timer.at_ns;
    if (timer.at_ns == protocol::kNoDeadline_ns) return;
    const int64_t at_once_ns = world_.timeline.now_ns() + world_.config.step_ns;
    const bool at_once = timer.at_ns <= world_.timeline.now_ns();
    world_.timeline.at(std::max(timer.at_ns, at_once_ns), [this, generation, at_once] {
      if (generation != timer_generation_) return;
      report_.steps_at_once += at_once;
      step(arbiter::TimerFired{});
    });
  }

  void carry_out(const arbiter::Trace& trace) {
    if (world_.config.keep_trace) report_.trace.push_back(trace);
  }

  template <class Apply>
  void schedule_faults(double per_second, uint64_t& counter, Apply apply) {
    const int64_t from_ns = world_.config.first_release_ns;
    const int64_t to_ns =
        world_.config.faults_end_ns != 0 ? world_.config.faults_end_ns : world_.config.horizon_ns;
    const auto seconds = static_cast<double>(to_ns - from_ns) * 1e-9;
    const auto count = static_cast<int64_t>(per_second * seconds + world_.random.unit());
    for (int64_t i = 0; i < count; ++i) {
      const int64_t at_ns = world_.random.between(from_ns, to_ns);
      const auto who =
          static_cast<size_t>(world_.random.between(0, static_cast<int64_t>(clients_.size()) - 1));
      world_.timeline.at(at_ns, [this, who, apply, &counter] {
        ++counter;
        apply(*clients_[who]);
      });
    }
  }

  // Reported by the first client that can.
  void slow_down() {
    world_.bytes_per_s = world_.config.slower_bytes_per_s;
    const auto healthy = std::find_if(clients_.begin(), clients_.end(),
                                      [](const auto& client) { return client->healthy(); });
    if (healthy == clients_.end()) {
      world_.timeline.at(world_.timeline.now_ns() + kReportAgain_ns, [this] { slow_down(); });
      return;
    }
    report_.before_slower = arbiter_.snapshot();
    for (uint32_t device = 0; device < world_.config.devices; ++device) {
      protocol::DeviceReport facts;
      facts.device = device;
      facts.restore_bytes_per_s = facts.evict_bytes_per_s = world_.bytes_per_s;
      step(arbiter::FromClient{(*healthy)->session(), facts});
    }
    slower_reported_ = true;
    note_end_of_shedding();
  }

  void schedule_faults() {
    const SimFaults& faults = world_.config.faults;
    schedule_faults(faults.crashes, report_.crashes, [](Client& client) { client.crash(); });
    schedule_faults(faults.disconnects, report_.disconnects,
                    [](Client& client) { client.disconnect(); });
    schedule_faults(faults.hangs, report_.hangs,
                    [&faults](Client& client) { client.hang(faults.hang_ns); });
    schedule_faults(faults.lies, report_.lies, [](Client& client) { client.lie(); });
    schedule_faults(faults.restore_failures, report_.restore_failures,
                    [](Client& client) { client.fail_next_restore(); });
  }

  World world_;
  arbiter::Arbiter arbiter_;
  std::vector<std::unique_ptr<Client>> clients_;
  SimReport report_;
  uint64_t timer_generation_ = 0;
  int64_t timer_ns_ = protocol::kNoDeadline_ns;
  bool slower_reported_ = false;  // and who keeps a promise is being found out
};

}  // namespace

SimReport run(const SimConfig& config, const std::vector<SimTask>& tasks) {
  return Simulation(config, tasks).run();
}

}  // namespace rtswap::simulation
