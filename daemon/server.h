// The daemon put together: lock, banks, sockets, gRPC server, arbiter.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "csrc/arbiter/loop.h"
#include "daemon/banks.h"
#include "daemon/config.h"
#include "daemon/descriptor_server.h"
#include "daemon/listener.h"
#include "daemon/recovery.h"
#include "daemon/sessions.h"
#include "daemon/state_file.h"
#include "daemon/trace_file.h"

namespace rtswap::daemon {

class ArbiterService;

class Server {
 public:
  // Returns when clients can connect. After a restart with clients that still hold chunks that is
  // before the arbiter is there: poll ready().
  // `on_failure` is called once if the daemon cannot go on; its caller stops and exits.
  static Result<std::unique_ptr<Server>> start(const Config& config,
                                               std::function<void(const std::string&)> on_failure);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Does what is due: takes recovery further and keeps the health service true. Called by one
  // thread, about ten times a second while not ready(), then no more.
  Status advance();
  bool ready() const noexcept { return ready_; }
  // "rtswapd ready: socket=... budget=... chunks=..."
  std::string ready_line() const;

 private:
  Server(const Config& config, std::function<void(const std::string&)> on_failure);
  Status set_up();
  Status plan_devices();
  Status make_banks();
  Status listen();
  Status open_arbiter(size_t survivors);
  std::string wanted_bank(size_t device) const;
  void say_whom_we_wait_for();

  const Config config_;
  const std::function<void(const std::string&)> on_failure_;
  const uint64_t epoch_;
  UniqueFd lock_;
  std::unique_ptr<TraceFile> trace_;
  std::optional<SavedState> earlier_;  // set while its survivors matter
  std::vector<Survivor> survivors_;    // moved to sessions_
  std::map<std::string, arbiter::TaskOverride> overrides_;
  std::unique_ptr<Banks> banks_;
  std::unique_ptr<StateKeeper> state_;
  std::unique_ptr<Sessions> sessions_;
  std::unique_ptr<arbiter::Loop> loop_;
  std::unique_ptr<ArbiterService> service_;
  std::unique_ptr<DescriptorServer> descriptors_;
  std::unique_ptr<Listener> descriptor_listener_;
  std::unique_ptr<Listener> listener_;
  int64_t next_waiting_line_ns_ = 0;
  bool ready_ = false;
};

}  // namespace rtswap::daemon
