#include "daemon/state_file.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "csrc/base/unique_fd.h"
#include "daemon/log.h"

namespace rtswap::daemon {
namespace {

constexpr int kFormat = 1;

}  // namespace

// Outside the unnamed namespace: nlohmann finds them by argument-dependent lookup.
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SavedDevice, uuid, bank_id, chunk_bytes, chunk_count,
                                   static_limit_bytes)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SavedClient, session, name, pid, start_ticks, devices)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SavedState, boot_id, budget, devices, clients, last_session)

std::string names_of(const std::vector<SavedClient>& clients) {
  std::string names;
  for (const SavedClient& client : clients) {
    names +=
        (names.empty() ? "" : ", ") + client.name + " (pid " + std::to_string(client.pid) + ")";
  }
  return names;
}

std::string state_path(const std::string& socket_path) { return socket_path + ".state"; }

std::string current_boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

std::optional<SavedState> load_state(const std::string& path) {
  std::ifstream file(path);
  if (!file) return {};
  try {
    const nlohmann::json root = nlohmann::json::parse(file);
    if (root.at("format").get<int>() != kFormat) return {};
    SavedState state = root.at("state").get<SavedState>();
    if (state.boot_id != current_boot_id()) return {};
    return state;
  } catch (const nlohmann::json::exception& error) {
    spdlog::warn("ignoring {}, which is not a state file: {}", path, error.what());
    return {};
  }
}

Status save_state(const std::string& path, const SavedState& state) {
  const std::string text = nlohmann::json{{"format", kFormat}, {"state", state}}.dump(
      1, ' ', false, nlohmann::json::error_handler_t::replace);
  const std::string temporary = path + ".new";
  const UniqueFd fd(
      ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd || ::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      std::rename(temporary.c_str(), path.c_str()) != 0) {
    return fail(ErrorCode::internal, "cannot write " + path + ": " + std::strerror(errno) +
                                         "; a restarted rtswapd would not know its clients");
  }
  return {};
}

StateKeeper::StateKeeper(std::string path, SavedState state)
    : path_(std::move(path)), state_(std::move(state)), thread_([this] { run(); }) {}

StateKeeper::~StateKeeper() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
  const bool held = std::any_of(state_.clients.begin(), state_.clients.end(),
                                [](const SavedClient& client) { return !client.devices.empty(); });
  if (!held) ::unlink(path_.c_str());
}

void StateKeeper::update(const std::function<void(SavedState&)>& change) {
  const std::lock_guard lock(mutex_);
  change(state_);
  ++version_;
  changed_.notify_one();
}

void StateKeeper::flush() {
  std::unique_lock lock(mutex_);
  const uint64_t wanted = version_;
  saved_.wait(lock, [&] { return saved_version_ >= wanted; });
}

void StateKeeper::run() {
  pthread_setname_np(pthread_self(), "state");
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stopping_ || saved_version_ != version_; });
    if (saved_version_ == version_) return;
    const SavedState state = state_;
    const uint64_t version = version_;
    lock.unlock();
    if (const Status status = save_state(path_, state); !status) {
      spdlog::error("{}", status.error().message);
    }
    lock.lock();
    saved_version_ = version;
    saved_.notify_all();
  }
}

}  // namespace rtswap::daemon
