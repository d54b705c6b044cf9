#include "daemon/arbiter_service.h"

#include "csrc/rpc/codec.h"

namespace rtswap::daemon {

grpc::Status ArbiterService::Session(grpc::ServerContext* context, SessionStream::Stream* stream) {
  return sessions_.serve(*context, *stream);
}

grpc::Status ArbiterService::Stats(grpc::ServerContext*, const v1::StatsRequest*,
                                   v1::StatsReply* reply) {
  const auto snapshot = sessions_.snapshot();
  if (!snapshot) {
    return {grpc::StatusCode::UNAVAILABLE,
            "rtswapd waits for the processes that hold the chunks of its earlier life"};
  }
  *reply = rpc::encode(*snapshot);
  return grpc::Status::OK;
}

grpc::Status ArbiterService::Identify(grpc::ServerContext*, const v1::IdentifyRequest*,
                                      v1::IdentifyReply* reply) {
  reply->set_protocol_version(protocol::kVersion);
  reply->set_arbiter_version(RTSWAP_VERSION);
  reply->set_epoch(epoch_);
  reply->set_recovering(!sessions_.is_open());
  return grpc::Status::OK;
}

}  // namespace rtswap::daemon
