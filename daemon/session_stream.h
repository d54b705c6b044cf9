// One client's stream: a bounded outbox with a writer thread, so that the arbiter never waits for a
// client, and an end that lets the last message arrive.
//
// Threads: send(), finish() and cancel() from any; read() and join() from the thread of the gRPC
// handler, whose context and stream this borrows until join() returns.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/sync_stream.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>

#include "csrc/protocol/messages.h"
#include "rtswap/v1/arbiter.pb.h"

namespace rtswap::daemon {

class SessionStream {
 public:
  using Stream = grpc::ServerReaderWriter<v1::ArbiterEnvelope, v1::ClientEnvelope>;

  // A client that has not read this many messages is broken: its stream is cancelled.
  static constexpr size_t kMaxOutbox = 8192;

  // `socket` carries the stream and outlives this.
  SessionStream(grpc::ServerContext& context, Stream& stream, int socket, uint64_t epoch);
  ~SessionStream();  // REQUIRES: join() has returned
  SessionStream(const SessionStream&) = delete;
  SessionStream& operator=(const SessionStream&) = delete;

  // Blocks; false at the end of the stream.
  bool read(v1::ClientEnvelope& envelope);
  // The session has its number: later messages carry it, and the limit on the handshake is lifted.
  void name(protocol::SessionId session);

  void send(protocol::ArbiterMessage message);
  // Ends the stream after what was sent: the client is given a moment to half-close.
  void finish();
  // Ends it now.
  void cancel();
  // The handler is done reading: writes what is left and ends the writer.
  void join();

 private:
  void write_messages();
  void cancel_locked();

  const uint64_t epoch_;
  const int socket_;
  std::mutex mutex_;
  std::condition_variable changed_;
  grpc::ServerContext* context_;  // nullptr after join()
  Stream& stream_;
  std::deque<protocol::ArbiterMessage> outbox_;
  protocol::SessionId session_ = 0;
  bool finishing_ = false;
  bool reader_done_ = false;
  bool writer_done_ = false;
  std::thread writer_;
};

}  // namespace rtswap::daemon
