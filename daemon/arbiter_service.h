// The gRPC face of the daemon: every call on one completion queue, drained by one thread.
// docs/adr/0007 says why.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "daemon/completion.h"
#include "daemon/sessions.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace rtswap::daemon {

class ArbiterService {
 public:
  ArbiterService(Sessions& sessions, uint64_t epoch) : sessions_(sessions), epoch_(epoch) {}
  ~ArbiterService();  // stop()s
  ArbiterService(const ArbiterService&) = delete;
  ArbiterService& operator=(const ArbiterService&) = delete;

  // Starts to take calls. Called once.
  void start();
  // Takes a connected socket; any thread.
  void adopt(UniqueFd socket);
  // What the health service says; any thread.
  void set_serving(bool serving) noexcept { serving_ = serving; }
  // Cancels what is under way and joins. Idempotent. REQUIRES: nobody calls adopt() any more.
  void stop();

 private:
  void serve_sessions();
  void serve_unary_calls();
  void drain();
  grpc::Status stats(v1::StatsReply& reply);
  grpc::Status identify(v1::IdentifyReply& reply) const;
  grpc::Status health(const grpc::health::v1::HealthCheckRequest& request,
                      grpc::health::v1::HealthCheckResponse& reply) const;

  Sessions& sessions_;
  const uint64_t epoch_;
  std::atomic<bool> serving_ = false;
  v1::Arbiter::AsyncService arbiter_;
  grpc::health::v1::Health::AsyncService health_;
  CallCount calls_;
  std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  std::unique_ptr<grpc::Server> server_;  // before the queue it uses
  std::thread thread_;
};

}  // namespace rtswap::daemon
