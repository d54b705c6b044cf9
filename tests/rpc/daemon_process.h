// A real rtswapd in a folder of its own, with a simulated device, and a client that speaks the
// protocol over the real link.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "csrc/protocol/link.h"
#include "csrc/rpc/grpc_link.h"

namespace rtswap::test {

// Generous: only a hang takes this long.
inline constexpr int64_t kPatience_ns = 30'000'000'000;

// A folder that goes with its contents.
class Folder {
 public:
  Folder();
  ~Folder();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class Daemon {
 public:
  // Starts rtswapd on `socket()` with one simulated device of 8 chunks of 2 MiB, unless `arguments`
  // say otherwise.
  explicit Daemon(const Folder& folder,
                  std::vector<std::string> arguments = {"--simulate", "16MiB"});
  ~Daemon();  // kills it

  std::string socket() const { return folder_ + "/d.sock"; }
  pid_t pid() const { return pid_; }
  // Until the readiness line, or false when it ended before.
  bool wait_ready();
  void kill();      // SIGKILL, and reaps it
  void stop();      // SIGSTOP; returns when no thread of it runs any more
  int terminate();  // SIGTERM; its exit status
  int wait_exit();  // its exit status
  std::string log() const;

 private:
  std::string folder_;
  std::string log_path_;
  pid_t pid_ = -1;
};

// The receiving end of a link, for tests that wait for messages.
class Client final : public protocol::LinkReceiver {
 public:
  // Connects and starts; REQUIREs success.
  explicit Client(const std::string& socket);
  ~Client() override;

  protocol::Link& link() { return *link_; }
  void send(protocol::ClientMessage message);
  // The next message of this kind, skipping others; nullopt after kPatience_ns or a lost link.
  template <class Message>
  std::optional<Message> receive() {
    for (;;) {
      auto message = next();
      if (!message) return {};
      if (auto* wanted = std::get_if<Message>(&*message)) return std::move(*wanted);
    }
  }
  protocol::Welcome hello(protocol::SessionId resumed = 0,
                          std::vector<protocol::HeldArena> held = {});
  // An arena of `chunks`, wholly granted and reported as restored; a job holds the device.
  std::vector<protocol::ChunkId> run_job(protocol::ArenaId arena, uint32_t chunks,
                                         protocol::JobId job);
  std::optional<Error> wait_lost();
  int lost_calls() const;
  // Messages of this kind that have come, in their order, and on which thread.
  template <class Message>
  std::vector<std::pair<Message, std::thread::id>> all() const {
    const std::lock_guard lock(mutex_);
    std::vector<std::pair<Message, std::thread::id>> result;
    for (const auto& [message, thread] : all_) {
      if (const auto* wanted = std::get_if<Message>(&message)) result.emplace_back(*wanted, thread);
    }
    return result;
  }

  void on_message(protocol::ArbiterMessage message) override;
  void on_lost(const Error& error) override;

 private:
  std::optional<protocol::ArbiterMessage> next();

  std::unique_ptr<protocol::Link> link_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<protocol::ArbiterMessage> messages_;
  std::vector<std::pair<protocol::ArbiterMessage, std::thread::id>> all_;
  std::optional<Error> lost_;
  int lost_calls_ = 0;
};

// Waits until `condition` holds; false after kPatience_ns.
bool eventually(const std::function<bool()>& condition);

// A client in a process of its own (this executable, run again), to be killed.
class ChildClient {
 public:
  // `mode`: see "child client" in daemon_faults_test.cc.
  ChildClient(const std::string& socket, const std::string& mode);
  ~ChildClient();  // kills it

  pid_t pid() const { return pid_; }
  // Until it has written this word.
  bool wait_for(const std::string& word);
  void kill();  // SIGKILL, and reaps it

 private:
  pid_t pid_ = -1;
  UniqueFd output_;
  std::string text_;
};

}  // namespace rtswap::test
