#include "csrc/rpc/grpc_link.h"

#include <fcntl.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/grpcpp.h>

#include <utility>

#include "csrc/rpc/session_link.h"
#include "csrc/rpc/unix_socket.h"
#include "rtswap/v1/arbiter.grpc.pb.h"

namespace rtswap::rpc {
namespace {

// The call that the queue knows by `context` has ended, at the latest when it is cancelled.
Status await_call(grpc::CompletionQueue& queue, grpc::ClientContext& context,
                  const Interrupted& interrupted) {
  void* done = nullptr;
  bool ok = false;
  Status status;
  while (queue.AsyncNext(&done, &ok, from_now(kLookEvery_ns)) == grpc::CompletionQueue::TIMEOUT) {
    if (!status) continue;
    status = check(interrupted);
    if (!status) context.TryCancel();
  }
  return status;
}

Status identify(v1::Arbiter::Stub& stub, const ConnectOptions& options) {
  grpc::ClientContext context;
  context.set_deadline(from_now(options.timeout_ns));
  v1::IdentifyRequest request;
  request.set_protocol_version(protocol::kVersion);
  v1::IdentifyReply reply;
  grpc::Status status;
  grpc::CompletionQueue queue;
  const auto call = stub.AsyncIdentify(&context, request, &queue);
  call->Finish(&reply, &status, &context);
  RTSWAP_TRY(await_call(queue, context, options.interrupted));
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    return fail(ErrorCode::daemon_unavailable, "rtswapd at " + options.socket_path +
                                                   " accepts connections but does not answer; it "
                                                   "hangs or is stopped");
  }
  if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
    return fail(ErrorCode::protocol_mismatch,
                options.socket_path + " is served by something that is not a rtswapd of version " +
                    std::to_string(protocol::kVersion) + " of the protocol");
  }
  if (!status.ok()) {
    return fail(ErrorCode::daemon_unavailable,
                "rtswapd at " + options.socket_path + " closed the connection (" +
                    status.error_message() + "); its log says why: it may serve another user");
  }
  if (reply.protocol_version() != protocol::kVersion) {
    return fail(ErrorCode::protocol_mismatch,
                "rtswapd " + reply.arbiter_version() + " at " + options.socket_path +
                    " speaks version " + std::to_string(reply.protocol_version()) +
                    " of the protocol, this library version " + std::to_string(protocol::kVersion) +
                    "; update the older of the two");
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<protocol::Link>> connect(const ConnectOptions& options) {
  RTSWAP_ASSIGN(UniqueFd socket,
                connect_unix(options.socket_path, options.timeout_ns, options.interrupted));
  UniqueFd duplicate(::fcntl(socket.get(), F_DUPFD_CLOEXEC, 0));
  if (!duplicate) {
    return fail(ErrorCode::descriptor_limit, "this process may not open more files");
  }
  // gRPC gets a connected socket: errors are ours to word, and it never reconnects by itself, which
  // would hide that a session is gone.
  std::shared_ptr<grpc::Channel> channel =
      grpc::CreateInsecureChannelFromFd("rtswapd", socket.release());
  const auto stub = v1::Arbiter::NewStub(channel);
  RTSWAP_TRY(identify(*stub, options));
  return make_session_link(options.socket_path, std::move(duplicate), std::move(channel));
}

}  // namespace rtswap::rpc
