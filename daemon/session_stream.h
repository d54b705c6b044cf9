// One client's stream, as a state machine on a gRPC completion queue: one read and at most one
// write under way, a bounded outbox, so that the arbiter never waits for a client, and an end that
// lets the last message arrive.
//
// Threads: send(), name(), finish() and cancel() from any, and none of them blocks. The owner is
// called from the thread that drains the queue, one call at a time.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/async_stream.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>

#include "csrc/base/unique_fd.h"
#include "csrc/protocol/messages.h"
#include "csrc/rpc/message_ring.h"
#include "daemon/completion.h"
#include "rtswap/v1/arbiter.grpc.pb.h"

namespace rtswap::daemon {

class SessionStream : public std::enable_shared_from_this<SessionStream> {
 public:
  using Pointer = std::shared_ptr<SessionStream>;

  class Owner {
   public:
    virtual ~Owner() = default;
    // A client has called; anything but OK ends the call with it, and no other call follows.
    virtual grpc::Status on_opened(const Pointer& stream) = 0;
    virtual void on_message(const Pointer& stream, const v1::ClientEnvelope& envelope) = 0;
    // The stream has had no name for longer than a handshake takes.
    virtual void on_handshake_limit(const Pointer& stream) = 0;
    // The client sends no more. Last call.
    virtual void on_end(const Pointer& stream) = 0;
  };

  // A client that has not read this many messages is broken: its stream is cancelled.
  static constexpr size_t kMaxOutbox = 8192;

  // Serves the method until the server ends: a stream per call, each kept alive by what it has on
  // the queue.
  static void serve(v1::Arbiter::AsyncService& service, grpc::ServerCompletionQueue& queue,
                    Owner& owner, uint64_t epoch, CallCount& calls);

  SessionStream(const SessionStream&) = delete;
  SessionStream& operator=(const SessionStream&) = delete;

  // As gRPC names the connection. Within owner calls only.
  std::string peer() const { return context_.peer(); }
  // A duplicate of the connection's socket: breaking it off ends what waits for room in it.
  void use_socket(std::shared_ptr<const UniqueFd> socket);

  // The session has its number: later messages carry it, and the limit on the handshake is lifted.
  void name(protocol::SessionId session);
  void send(const protocol::ArbiterMessage& message);
  // From now on messages stand in a new ring as well, which is kept as long as the stream. What the
  // client opens.
  Result<UniqueFd> open_ring();
  // Ends the stream after what was sent: the client is given a moment to half-close.
  void finish();
  // Ends it now.
  void cancel();

 private:
  // An operation of this stream on the queue: its tag, and what follows.
  struct Step final : Completion {
    Step(SessionStream& stream, void (SessionStream::*then)(bool)) : stream_(stream), then_(then) {}
    void run(bool ok) override { stream_.complete(then_, ok); }

   private:
    SessionStream& stream_;
    void (SessionStream::*const then_)(bool);
  };

  SessionStream(v1::Arbiter::AsyncService& service, grpc::ServerCompletionQueue& queue,
                Owner& owner, uint64_t epoch, CallCount& calls);

  void complete(void (SessionStream::*then)(bool), bool ok);
  void after_opened(bool ok);
  void after_read(bool ok);
  void after_write(bool ok);
  void after_handshake_limit(bool ok);
  void after_farewell(bool ok);
  void after_last(bool) {}

  // REQUIRE: mutex_ held.
  Completion* begin(Step& step);
  void write_next();
  void end_if_done();
  void cancel_locked();

  v1::Arbiter::AsyncService& service_;
  grpc::ServerCompletionQueue& queue_;
  Owner& owner_;
  const uint64_t epoch_;
  CallCount& calls_;

  Step open_step_{*this, &SessionStream::after_opened};
  Step read_step_{*this, &SessionStream::after_read};
  Step write_step_{*this, &SessionStream::after_write};
  Step handshake_step_{*this, &SessionStream::after_handshake_limit};
  Step farewell_step_{*this, &SessionStream::after_farewell};
  Step finish_step_{*this, &SessionStream::after_last};
  Step done_step_{*this, &SessionStream::after_last};

  grpc::ServerContext context_;
  grpc::ServerAsyncReaderWriter<v1::ArbiterEnvelope, v1::ClientEnvelope> stream_{&context_};
  v1::ClientEnvelope incoming_;  // of the read under way

  std::mutex mutex_;  // guards what follows, and begins every operation
  Pointer self_;      // while operations are on the queue; without any, no other can begin
  int under_way_ = 0;
  grpc::Alarm handshake_limit_;
  grpc::Alarm farewell_;
  std::deque<v1::ArbiterEnvelope> outbox_;
  uint64_t sent_ = 0;  // messages, ever
  std::unique_ptr<rpc::RingWriter> ring_;
  grpc::Status status_;  // that ends the call
  std::shared_ptr<const UniqueFd> socket_;
  protocol::SessionId session_ = 0;
  bool writing_ = false;
  bool finishing_ = false;    // nothing more is taken into the outbox
  bool reader_done_ = false;  // the client sends no more
  bool farewell_set_ = false;
  bool finished_ = false;  // the status is on its way; no operation may begin any more
};

}  // namespace rtswap::daemon
