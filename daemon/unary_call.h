// One call of a unary method, answered at once by the thread that drains the completion queue.
// While one is answered the next is already waited for.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/async_unary_call.h>

#include <functional>
#include <utility>

#include "daemon/completion.h"

namespace rtswap::daemon {

template <class Request, class Reply>
class UnaryCall final : public Completion {
 public:
  using Responder = grpc::ServerAsyncResponseWriter<Reply>;
  // Asks gRPC for the next call of the method, with `tag`.
  using Wait = std::function<void(grpc::ServerContext&, Request&, Responder&, void* tag)>;
  // Every other call waits meanwhile.
  using Answer = std::function<grpc::Status(const Request&, Reply&)>;

  // Serves the method until the server ends.
  static void serve(CallCount& calls, Wait wait, Answer answer) {
    calls.add();
    auto* const call = new UnaryCall(calls, std::move(wait), std::move(answer));
    call->wait_(call->context_, call->request_, call->responder_, static_cast<Completion*>(call));
  }

  void run(bool ok) override {
    if (answered_ || !ok) {  // !ok: the server ends and no call came
      calls_.remove();
      delete this;
      return;
    }
    answered_ = true;
    serve(calls_, wait_, answer_);
    Reply reply;
    const grpc::Status status = answer_(request_, reply);
    if (status.ok()) {
      responder_.Finish(reply, status, static_cast<Completion*>(this));
    } else {
      responder_.FinishWithError(status, static_cast<Completion*>(this));
    }
  }

 private:
  UnaryCall(CallCount& calls, Wait wait, Answer answer)
      : calls_(calls), wait_(std::move(wait)), answer_(std::move(answer)) {}

  CallCount& calls_;
  const Wait wait_;
  const Answer answer_;
  grpc::ServerContext context_;
  Request request_;
  Responder responder_{&context_};
  bool answered_ = false;
};

}  // namespace rtswap::daemon
