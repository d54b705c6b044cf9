#include "daemon/arbiter_service.h"

#include <grpcpp/server_posix.h>
#include <pthread.h>

#include <chrono>

#include "csrc/rpc/codec.h"
#include "daemon/unary_call.h"

namespace rtswap::daemon {
namespace {

// For what is under way when the daemon stops.
constexpr std::chrono::milliseconds kShutdown{200};

}  // namespace

ArbiterService::~ArbiterService() { stop(); }

void ArbiterService::start() {
  grpc::ServerBuilder builder;
  builder.RegisterService(&arbiter_);
  builder.RegisterService(&health_);
  queue_ = builder.AddCompletionQueue();
  server_ = builder.BuildAndStart();
  serve_sessions();
  serve_unary_calls();
  thread_ = std::thread([this] { drain(); });
}

void ArbiterService::adopt(UniqueFd socket) {
  grpc::AddInsecureChannelFromFd(server_.get(), socket.release());
}

void ArbiterService::serve_sessions() {
  SessionStream::serve(arbiter_, *queue_, sessions_, epoch_, calls_);
}

void ArbiterService::serve_unary_calls() {
  grpc::ServerCompletionQueue* const queue = queue_.get();
  using Stats = UnaryCall<v1::StatsRequest, v1::StatsReply>;
  Stats::serve(
      calls_,
      [=, this](auto& context, auto& request, auto& responder, void* tag) {
        arbiter_.RequestStats(&context, &request, &responder, queue, queue, tag);
      },
      [this](const v1::StatsRequest&, v1::StatsReply& reply) { return stats(reply); });
  using Identify = UnaryCall<v1::IdentifyRequest, v1::IdentifyReply>;
  Identify::serve(
      calls_,
      [=, this](auto& context, auto& request, auto& responder, void* tag) {
        arbiter_.RequestIdentify(&context, &request, &responder, queue, queue, tag);
      },
      [this](const v1::IdentifyRequest&, v1::IdentifyReply& reply) { return identify(reply); });
  using Check =
      UnaryCall<grpc::health::v1::HealthCheckRequest, grpc::health::v1::HealthCheckResponse>;
  Check::serve(
      calls_,
      [=, this](auto& context, auto& request, auto& responder, void* tag) {
        health_.RequestCheck(&context, &request, &responder, queue, queue, tag);
      },
      [this](const auto& request, auto& reply) { return health(request, reply); });
}

void ArbiterService::drain() {
  pthread_setname_np(pthread_self(), "sessions");
  void* tag = nullptr;
  bool ok = false;
  while (queue_->Next(&tag, &ok)) static_cast<Completion*>(tag)->run(ok);
}

void ArbiterService::stop() {
  if (!thread_.joinable()) return;
  serving_ = false;
  server_->Shutdown(std::chrono::system_clock::now() + kShutdown);
  calls_.wait_for_none();
  queue_->Shutdown();
  thread_.join();
}

grpc::Status ArbiterService::stats(v1::StatsReply& reply) {
  const auto snapshot = sessions_.snapshot();
  if (!snapshot) {
    return {grpc::StatusCode::UNAVAILABLE,
            "rtswapd waits for the processes that hold the chunks of its earlier life"};
  }
  reply = rpc::encode(*snapshot);
  return grpc::Status::OK;
}

grpc::Status ArbiterService::identify(v1::IdentifyReply& reply) const {
  reply.set_protocol_version(protocol::kVersion);
  reply.set_arbiter_version(RTSWAP_VERSION);
  reply.set_epoch(epoch_);
  reply.set_recovering(!sessions_.is_open());
  return grpc::Status::OK;
}

grpc::Status ArbiterService::health(const grpc::health::v1::HealthCheckRequest& request,
                                    grpc::health::v1::HealthCheckResponse& reply) const {
  if (!request.service().empty() && request.service() != v1::Arbiter::service_full_name()) {
    return {grpc::StatusCode::NOT_FOUND, "rtswapd has no service " + request.service()};
  }
  using Response = grpc::health::v1::HealthCheckResponse;
  reply.set_status(serving_ ? Response::SERVING : Response::NOT_SERVING);
  return grpc::Status::OK;
}

}  // namespace rtswap::daemon
