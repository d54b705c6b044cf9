#include "daemon/server.h"

#include "csrc/bank/descriptors.h"
#include "csrc/base/clock.h"
#include "csrc/policy/task_model.h"
#include "csrc/rpc/unix_socket.h"
#include "daemon/arbiter_service.h"
#include "daemon/log.h"
#include "daemon/socket_lock.h"
#include "daemon/socket_place.h"
#include "daemon/tasks_file.h"

namespace rtswap::daemon {
namespace {

constexpr int64_t kWaitingLineEvery_ns = 10'000'000'000;

}  // namespace

Result<std::unique_ptr<Server>> Server::start(const Config& config,
                                              std::function<void(const std::string&)> on_failure) {
  std::unique_ptr<Server> server(new Server(config, std::move(on_failure)));
  RTSWAP_TRY(server->set_up());
  return server;
}

Server::Server(const Config& config, std::function<void(const std::string&)> on_failure)
    : config_(config),
      on_failure_(std::move(on_failure)),
      epoch_(static_cast<uint64_t>(realtime_now_ns())) {}

Status Server::set_up() {
  const SocketAccess access{config_.group};
  if (!config_.tasks_path.empty()) {
    RTSWAP_ASSIGN(overrides_, read_tasks_file(config_.tasks_path));
    // A name that is spelt differently from the client's would apply to nobody, in silence.
    for (const auto& [name, settings] : overrides_) {
      spdlog::info("{} has settings for tasks named \"{}\"", config_.tasks_path, name);
    }
  }
  RTSWAP_TRY(check_place(config_.socket_path, access));
  RTSWAP_TRY(prepare_folder(config_.socket_path, access));
  RTSWAP_ASSIGN(lock_, lock_socket(config_.socket_path));
  if (!config_.trace_path.empty()) {
    RTSWAP_ASSIGN(trace_, TraceFile::create(config_.trace_path));
  }
  RTSWAP_TRY(plan_devices());

  SavedState state;
  if (earlier_) state = *earlier_;
  const protocol::SessionId last_session = state.last_session;
  if (!earlier_) {
    state.boot_id = current_boot_id();
    state.budget = config_.budget ? budget_text(*config_.budget) : "";
    RTSWAP_TRY(make_banks());
  }
  state_ = std::make_unique<StateKeeper>(state_path(config_.socket_path), std::move(state));
  sessions_ = std::make_unique<Sessions>(
      Sessions::Options{epoch_, last_session, trace_.get(), on_failure_}, *state_);
  RTSWAP_TRY(sessions_->await(std::move(survivors_)));
  service_ = std::make_unique<ArbiterService>(*sessions_, epoch_);
  service_->start();
  RTSWAP_TRY(listen());
  return advance();
}

Status Server::plan_devices() {
  RTSWAP_ASSIGN(auto devices, open_devices(config_));
  for (PlannedDevice& device : devices) RTSWAP_TRY(lock_device(device));
  earlier_ = load_state(state_path(config_.socket_path));
  if (earlier_) survivors_ = find_survivors(*earlier_);
  if (survivors_.empty()) {
    earlier_.reset();
    for (PlannedDevice& device : devices) RTSWAP_TRY(size_bank(config_, device));
  } else {
    for (const std::string& line : forget_unmanaged(devices, survivors_)) spdlog::warn("{}", line);
    std::vector<SavedClient> clients;
    for (const Survivor& survivor : survivors_) clients.push_back(survivor.client);
    earlier_->clients = clients;
    RTSWAP_TRY(plan_recovery(config_, *earlier_, clients, devices));
  }
  uint64_t descriptors = 0;
  for (const PlannedDevice& device : devices) {
    const driver::DeviceInfo& info = device.driver->info();
    descriptors += bank::descriptors_of_bank(info, device.chunk_count);
    spdlog::info("{} ({}): bank of {} in {} chunks of {}; {} of {} are free", info.uuid, info.name,
                 size_text(device.budget_bytes), device.chunk_count, size_text(device.chunk_bytes),
                 size_text(device.memory.free_bytes), size_text(device.memory.total_bytes));
  }
  RTSWAP_TRY(rpc::ensure_descriptor_room(descriptors));
  banks_ = std::make_unique<Banks>(std::move(devices));
  return {};
}

Status Server::make_banks() {
  for (size_t i = 0; i < banks_->device_count(); ++i) {
    if (!banks_->has_bank(i)) RTSWAP_TRY(banks_->create(i));
  }
  return {};
}

Status Server::listen() {
  const SocketAccess access{config_.group};
  descriptors_ = std::make_unique<DescriptorServer>(
      *banks_, *sessions_, [this](size_t device) { return wanted_bank(device); });
  RTSWAP_ASSIGN(descriptor_listener_,
                Listener::create(rpc::descriptor_socket_path(config_.socket_path), access,
                                 [this](UniqueFd socket, Peer peer) {
                                   descriptors_->accept(std::move(socket), std::move(peer));
                                 }));
  RTSWAP_ASSIGN(listener_,
                Listener::create(config_.socket_path, access, [this](UniqueFd socket, Peer peer) {
                  sessions_->admit("fd:" + std::to_string(socket.get()), std::move(peer));
                  service_->adopt(std::move(socket));
                }));
  return {};
}

std::string Server::wanted_bank(size_t device) const {
  if (!earlier_) return "";
  return surviving_bank(*earlier_, sessions_->survivors(),
                        banks_->device(device).driver->info().uuid);
}

Status Server::advance() {
  if (ready_) return {};
  if (!loop_) {
    for (size_t i = 0; i < banks_->device_count(); ++i) {
      if (banks_->has_bank(i)) continue;
      if (!wanted_bank(i).empty()) {
        say_whom_we_wait_for();
        return {};
      }
      RTSWAP_TRY(banks_->create(i));  // whoever held the old one is dead
    }
    RTSWAP_TRY(open_arbiter(sessions_->survivors().size()));
  }
  if (sessions_->survivors().empty() && !loop_->snapshot().recovering) {
    service_->set_serving(true);
    ready_ = true;
  } else {
    say_whom_we_wait_for();
  }
  return {};
}

Status Server::open_arbiter(size_t survivors) {
  arbiter::Config config;
  config.version = RTSWAP_VERSION;
  config.epoch = epoch_;
  config.devices = banks_->describe();
  config.discipline = config_.discipline;
  config.round_trip_ns = policy::kDaemonRoundTrip_ns;
  config.overrides = overrides_;
  config.wait_for_tasks = config_.wait_for_tasks;
  config.sessions_to_recover = static_cast<uint32_t>(survivors);
  std::vector<SavedDevice> saved;
  for (const arbiter::DeviceConfig& device : config.devices) {
    const protocol::DeviceDescription& it = device.description;
    saved.push_back(
        {it.uuid, it.bank_id, it.chunk_bytes, it.chunk_count, device.static_limit_bytes});
  }
  state_->update([&](SavedState& state) { state.devices = saved; });
  state_->flush();
  loop_ = std::make_unique<arbiter::Loop>(std::move(config), *sessions_);
  sessions_->open(*loop_, survivors);
  return {};
}

void Server::say_whom_we_wait_for() {
  const int64_t now_ns = monotonic_now_ns();
  if (now_ns < next_waiting_line_ns_) return;
  next_waiting_line_ns_ = now_ns + kWaitingLineEvery_ns;
  spdlog::warn(
      "recovering: nothing is granted until these processes of the earlier rtswapd have "
      "come back or ended: {}",
      names_of(sessions_->survivors()));
}

std::string Server::ready_line() const {
  uint64_t budget_bytes = 0;
  uint64_t chunks = 0;
  for (size_t i = 0; i < banks_->device_count(); ++i) {
    budget_bytes += banks_->device(i).budget_bytes;
    chunks += banks_->device(i).chunk_count;
  }
  return fmt::format("rtswapd ready: socket={} budget={} chunks={}", config_.socket_path,
                     budget_bytes, chunks);
}

// From the outside in: no new clients, no streams, then the arbiter, then what they all used.
Server::~Server() {
  listener_.reset();
  descriptor_listener_.reset();
  if (sessions_) sessions_->close();
  if (service_) service_->stop();
  descriptors_.reset();
  loop_.reset();
  sessions_.reset();
  state_.reset();
}

}  // namespace rtswap::daemon
