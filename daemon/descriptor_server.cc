#include "daemon/descriptor_server.h"

#include <pthread.h>
#include <sys/socket.h>

#include <system_error>

#include "csrc/rpc/fd_channel.h"
#include "daemon/log.h"

namespace rtswap::daemon {
namespace {

constexpr int64_t kExchangeLimit_ns = 20'000'000'000;
// More at once than any set of clients needs; the rest is closed and may try again.
constexpr size_t kMaxConnections = 64;

class Exchange final : public rpc::DescriptorExchange {
 public:
  Exchange(Banks& banks, Sessions& sessions, const std::function<std::string(size_t)>& wanted_bank,
           pid_t pid)
      : banks_(banks), sessions_(sessions), wanted_bank_(wanted_bank), pid_(pid) {}

  Result<std::vector<int>> fetch(const rpc::ChunkFetch& request) override {
    if (request.device >= banks_.device_count()) {
      return fail(ErrorCode::unknown_device,
                  "there is no device " + std::to_string(request.device) + "; rtswapd manages " +
                      std::to_string(banks_.device_count()));
    }
    RTSWAP_TRY(sessions_.note_fetch(request.session, pid_,
                                    banks_.device(request.device).driver->info().uuid));
    return banks_.descriptors(request.device);
  }

  Result<int> fetch_ring(protocol::SessionId session) override {
    RTSWAP_ASSIGN(ring_, sessions_.open_ring(session, pid_));
    return ring_.get();
  }

  Result<bool> wants(const rpc::ChunkOffer& offer) override {
    const size_t index = banks_.find(offer.device_uuid);
    if (index == banks_.device_count()) return false;  // not managed any more
    if (banks_.has_bank(index) || wanted_bank_(index) != offer.bank_id) return false;
    const PlannedDevice& device = banks_.device(index);
    if (offer.chunk_bytes != device.chunk_bytes || offer.chunk_count != device.chunk_count) {
      return fail(ErrorCode::protocol_violation, "the chunks offered are not those of the bank");
    }
    return true;
  }

  Status take(const rpc::ChunkOffer& offer, std::vector<UniqueFd> descriptors) override {
    return banks_.adopt(banks_.find(offer.device_uuid), offer.bank_id, std::move(descriptors));
  }

 private:
  Banks& banks_;
  Sessions& sessions_;
  const std::function<std::string(size_t)>& wanted_bank_;
  const pid_t pid_;
  UniqueFd ring_;  // until it has been passed on
};

}  // namespace

DescriptorServer::DescriptorServer(Banks& banks, Sessions& sessions,
                                   std::function<std::string(size_t)> wanted_bank)
    : banks_(banks), sessions_(sessions), wanted_bank_(std::move(wanted_bank)) {}

DescriptorServer::~DescriptorServer() {
  {
    const std::lock_guard lock(mutex_);
    for (Connection& connection : connections_) ::shutdown(connection.socket.get(), SHUT_RDWR);
  }
  reap(/*all=*/true);
}

void DescriptorServer::accept(UniqueFd socket, Peer peer) {
  reap(/*all=*/false);
  const std::lock_guard lock(mutex_);
  if (connections_.size() >= kMaxConnections) {
    spdlog::warn("too many processes fetch descriptors at once; process {} must try again",
                 peer.pid);
    return;
  }
  Connection& connection = connections_.emplace_back();
  connection.socket = std::move(socket);
  try {
    connection.thread =
        std::thread([this, &connection, pid = peer.pid] { serve(connection, pid); });
  } catch (const std::system_error& error) {
    spdlog::error("no thread for the descriptors of process {}: {}; raise the limit on processes",
                  peer.pid, error.what());
    connections_.pop_back();
  }
}

void DescriptorServer::serve(Connection& connection, int64_t pid) {
  pthread_setname_np(pthread_self(), "descriptors");
  Exchange exchange(banks_, sessions_, wanted_bank_, pid);
  const Status served =
      rpc::serve_descriptors(connection.socket.get(), exchange, kExchangeLimit_ns);
  if (!served) {
    spdlog::warn("process {} on the descriptor socket: {}", pid, served.error().message);
  }
  const std::lock_guard lock(mutex_);
  ::shutdown(connection.socket.get(), SHUT_RDWR);  // the peer sees the end now, not when reaped
  connection.done = true;
}

void DescriptorServer::reap(bool all) {
  std::list<Connection> ended;
  {
    const std::lock_guard lock(mutex_);
    for (auto it = connections_.begin(); it != connections_.end();) {
      const auto next = std::next(it);
      if (all || it->done) ended.splice(ended.end(), connections_, it);
      it = next;
    }
  }
  for (Connection& connection : ended) connection.thread.join();
}

}  // namespace rtswap::daemon
