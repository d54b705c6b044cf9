// The gRPC face of the daemon. Synchronous: a thread per session, which has no idle stall and needs
// no state machine of its own (docs/protocol.md has the measured figures).
#pragma once

#include <cstdint>
#include <string>

#include "daemon/sessions.h"
#include "rtswap/v1/arbiter.grpc.pb.h"

namespace rtswap::daemon {

class ArbiterService final : public v1::Arbiter::Service {
 public:
  ArbiterService(Sessions& sessions, uint64_t epoch) : sessions_(sessions), epoch_(epoch) {}

  grpc::Status Session(grpc::ServerContext* context, SessionStream::Stream* stream) override;
  grpc::Status Stats(grpc::ServerContext* context, const v1::StatsRequest* request,
                     v1::StatsReply* reply) override;
  grpc::Status Identify(grpc::ServerContext* context, const v1::IdentifyRequest* request,
                        v1::IdentifyReply* reply) override;

 private:
  Sessions& sessions_;
  const uint64_t epoch_;
};

}  // namespace rtswap::daemon
