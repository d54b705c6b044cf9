#include "daemon/session_stream.h"

#include <sys/socket.h>

#include <chrono>
#include <utility>

#include "csrc/rpc/codec.h"
#include "daemon/log.h"

namespace rtswap::daemon {
namespace {

// For Hello, and for a recovering arbiter to come up. A client gives up after 10 s, and is told why
// before.
constexpr std::chrono::seconds kHandshake{5};
// For the client's half-close, and for a last write to get through.
constexpr std::chrono::seconds kFarewell{1};

}  // namespace

void SessionStream::serve(v1::Arbiter::AsyncService& service, grpc::ServerCompletionQueue& queue,
                          Owner& owner, uint64_t epoch, CallCount& calls) {
  calls.add();
  const Pointer stream(new SessionStream(service, queue, owner, epoch, calls));
  const std::lock_guard lock(stream->mutex_);
  stream->self_ = stream;
  stream->context_.AsyncNotifyWhenDone(static_cast<Completion*>(&stream->done_step_));
  service.RequestSession(&stream->context_, &stream->stream_, &queue, &queue,
                         stream->begin(stream->open_step_));
}

SessionStream::SessionStream(v1::Arbiter::AsyncService& service, grpc::ServerCompletionQueue& queue,
                             Owner& owner, uint64_t epoch, CallCount& calls)
    : service_(service), queue_(queue), owner_(owner), epoch_(epoch), calls_(calls) {}

void SessionStream::complete(void (SessionStream::*then)(bool), bool ok) {
  (this->*then)(ok);
  Pointer last;
  {
    const std::lock_guard lock(mutex_);
    if (--under_way_ == 0) last = std::move(self_);
  }
  if (last) calls_.remove();
}

Completion* SessionStream::begin(Step& step) {
  ++under_way_;
  return &step;  // gRPC keeps it as void*: a Completion, not a Step
}

void SessionStream::after_opened(bool ok) {
  if (!ok) return;  // the server ends; no client came, and the done tag will not either
  {
    const std::lock_guard lock(mutex_);
    ++under_way_;  // the done tag
  }
  serve(service_, queue_, owner_, epoch_, calls_);
  grpc::Status status = owner_.on_opened(shared_from_this());
  const std::lock_guard lock(mutex_);
  if (!status.ok()) {
    status_ = std::move(status);
    finishing_ = true;
    reader_done_ = true;
    end_if_done();
    return;
  }
  handshake_limit_.Set(&queue_, std::chrono::system_clock::now() + kHandshake,
                       begin(handshake_step_));
  stream_.Read(&incoming_, begin(read_step_));
}

void SessionStream::after_read(bool ok) {
  if (ok) {
    owner_.on_message(shared_from_this(), incoming_);
    const std::lock_guard lock(mutex_);
    stream_.Read(&incoming_, begin(read_step_));
    return;
  }
  owner_.on_end(shared_from_this());
  const std::lock_guard lock(mutex_);
  reader_done_ = true;
  end_if_done();
}

void SessionStream::use_socket(std::shared_ptr<const UniqueFd> socket) {
  const std::lock_guard lock(mutex_);
  socket_ = std::move(socket);
}

void SessionStream::name(protocol::SessionId session) {
  const std::lock_guard lock(mutex_);
  session_ = session;
  handshake_limit_.Cancel();
}

void SessionStream::after_handshake_limit(bool ok) {
  {
    const std::lock_guard lock(mutex_);
    if (!ok || session_ != 0 || finishing_ || reader_done_) return;
  }
  owner_.on_handshake_limit(shared_from_this());
}

void SessionStream::send(const protocol::ArbiterMessage& message) {
  const std::lock_guard lock(mutex_);
  if (finishing_ || reader_done_) return;
  if (outbox_.size() >= kMaxOutbox) {
    spdlog::warn("session {} does not read its messages ({} wait); its stream is ended", session_,
                 outbox_.size());
    finishing_ = true;
    outbox_.clear();
    cancel_locked();
    return;
  }
  v1::ArbiterEnvelope envelope = rpc::encode(message);
  envelope.set_session_id(session_);
  envelope.set_epoch(epoch_);
  ++sent_;
  if (ring_) ring_->put(sent_, envelope);
  outbox_.push_back(std::move(envelope));
  if (!writing_) write_next();
}

Result<UniqueFd> SessionStream::open_ring() {
  UniqueFd memory;
  RTSWAP_ASSIGN(rpc::RingWriter created, rpc::RingWriter::create(memory));
  auto ring = std::make_unique<rpc::RingWriter>(std::move(created));
  {
    const std::lock_guard lock(mutex_);
    ring_.swap(ring);
  }
  return memory;  // one that was there before is unmapped without the lock
}

void SessionStream::write_next() {
  const v1::ArbiterEnvelope envelope = std::move(outbox_.front());
  outbox_.pop_front();
  writing_ = true;
  stream_.Write(envelope, begin(write_step_));
}

void SessionStream::after_write(bool ok) {
  const std::lock_guard lock(mutex_);
  writing_ = false;
  if (!ok) {
    outbox_.clear();
    finishing_ = true;
  }
  if (outbox_.empty()) {
    end_if_done();
  } else {
    write_next();
  }
}

void SessionStream::finish() {
  const std::lock_guard lock(mutex_);
  finishing_ = true;
  end_if_done();
}

// The call may end when neither side has anything to say: gRPC allows Finish with no write under
// way, and what the client still sends would be lost.
void SessionStream::end_if_done() {
  if (finished_) return;
  if (reader_done_ && !writing_) {
    finished_ = true;
    handshake_limit_.Cancel();
    farewell_.Cancel();
    stream_.Finish(status_, begin(finish_step_));
  } else if (!farewell_set_ && (reader_done_ || finishing_)) {
    // A client that does not half-close, or does not read, would hold the stream for ever.
    farewell_set_ = true;
    farewell_.Set(&queue_, std::chrono::system_clock::now() + kFarewell, begin(farewell_step_));
  }
}

void SessionStream::after_farewell(bool ok) {
  const std::lock_guard lock(mutex_);
  if (ok && !finished_) cancel_locked();
}

void SessionStream::cancel() {
  const std::lock_guard lock(mutex_);
  cancel_locked();
}

void SessionStream::cancel_locked() {
  if (finished_) return;
  context_.TryCancel();
  // A write whose bytes wait for room in the socket ends with the connection only.
  if (socket_) ::shutdown(socket_->get(), SHUT_RDWR);
}

}  // namespace rtswap::daemon
