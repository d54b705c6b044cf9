// "<socket>.state": what a restarted daemon must know. Stopping rtswapd frees no memory that
// clients hold, so the next one has to find out which banks still exist and whom to wait for.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "csrc/base/result.h"
#include "csrc/protocol/messages.h"

namespace rtswap::daemon {

struct SavedDevice {
  std::string uuid;
  std::string bank_id;
  uint64_t chunk_bytes = 0;
  uint32_t chunk_count = 0;
  uint64_t static_limit_bytes = 0;
};

struct SavedClient {
  protocol::SessionId session = 0;
  std::string name;
  pid_t pid = 0;
  uint64_t start_ticks = 0;          // with the pid, names the process until the next boot
  std::vector<std::string> devices;  // UUIDs of the devices whose chunks it has
};

// "camera (pid 812), lidar (pid 815)".
std::string names_of(const std::vector<SavedClient>& clients);

struct SavedState {
  std::string boot_id;
  std::string budget;  // as asked for
  std::vector<SavedDevice> devices;
  std::vector<SavedClient> clients;
  protocol::SessionId last_session = 0;
};

std::string state_path(const std::string& socket_path);
std::string current_boot_id();

// nullopt when there is none, or it is of another boot or cannot be understood (logged): then no
// process can hold a bank that is worth waiting for.
std::optional<SavedState> load_state(const std::string& path);
// Replaces the file at once or not at all.
Status save_state(const std::string& path, const SavedState& state);

// The state of the running daemon and its copy on disk. Thread-safe; update() never waits for the
// disk.
class StateKeeper {
 public:
  StateKeeper(std::string path, SavedState state);
  // Saves what is left; removes the file when no client holds chunks any more.
  ~StateKeeper();
  StateKeeper(const StateKeeper&) = delete;
  StateKeeper& operator=(const StateKeeper&) = delete;

  void update(const std::function<void(SavedState&)>& change);
  // Returns when everything updated so far is on disk (or could not be written, which is logged).
  void flush();

 private:
  void run();

  const std::string path_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::condition_variable saved_;
  SavedState state_;
  uint64_t version_ = 1;
  uint64_t saved_version_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace rtswap::daemon
