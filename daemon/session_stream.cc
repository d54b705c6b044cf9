#include "daemon/session_stream.h"

#include <pthread.h>
#include <sys/socket.h>

#include <chrono>

#include "csrc/rpc/codec.h"
#include "daemon/log.h"
#include "rtswap/v1/arbiter.grpc.pb.h"  // how messages are serialized

namespace rtswap::daemon {
namespace {

constexpr std::chrono::seconds kHandshake{10};  // for Hello
constexpr std::chrono::seconds kFarewell{1};    // for the client's half-close

}  // namespace

SessionStream::SessionStream(grpc::ServerContext& context, Stream& stream, int socket,
                             uint64_t epoch)
    : epoch_(epoch), socket_(socket), context_(&context), stream_(stream), writer_([this] {
        write_messages();
      }) {}

SessionStream::~SessionStream() = default;

bool SessionStream::read(v1::ClientEnvelope& envelope) { return stream_.Read(&envelope); }

void SessionStream::name(protocol::SessionId session) {
  const std::lock_guard lock(mutex_);
  session_ = session;
  changed_.notify_all();
}

void SessionStream::send(protocol::ArbiterMessage message) {
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
  outbox_.push_back(std::move(message));
  changed_.notify_all();
}

void SessionStream::finish() {
  const std::lock_guard lock(mutex_);
  finishing_ = true;
  changed_.notify_all();
}

void SessionStream::cancel() {
  const std::lock_guard lock(mutex_);
  cancel_locked();
}

void SessionStream::cancel_locked() {
  if (context_ == nullptr) return;
  context_->TryCancel();
  // A write whose bytes wait for room in the socket ends with the connection only.
  ::shutdown(socket_, SHUT_RDWR);
}

void SessionStream::join() {
  {
    std::unique_lock lock(mutex_);
    reader_done_ = true;
    changed_.notify_all();
    // A client that half-closed but does not read would hold the writer for ever.
    if (!changed_.wait_for(lock, kFarewell, [&] { return writer_done_; })) cancel_locked();
  }
  writer_.join();
  const std::lock_guard lock(mutex_);
  context_ = nullptr;
}

void SessionStream::write_messages() {
  pthread_setname_np(pthread_self(), "session-write");
  const auto handshake_ends = std::chrono::steady_clock::now() + kHandshake;
  std::unique_lock lock(mutex_);
  const auto something_to_do = [&] { return !outbox_.empty() || finishing_ || reader_done_; };
  for (;;) {
    if (session_ != 0) {
      changed_.wait(lock, something_to_do);
    } else if (!changed_.wait_until(lock, handshake_ends,
                                    [&] { return something_to_do() || session_ != 0; })) {
      cancel_locked();  // connected, and never said Hello
      finishing_ = true;
    }
    if (outbox_.empty()) {
      if (finishing_ || reader_done_) break;
      continue;
    }
    const protocol::ArbiterMessage message = std::move(outbox_.front());
    outbox_.pop_front();
    const protocol::SessionId session = session_;
    lock.unlock();
    v1::ArbiterEnvelope envelope = rpc::encode(message);
    envelope.set_session_id(session);
    envelope.set_epoch(epoch_);
    const bool written = stream_.Write(envelope);
    lock.lock();
    if (!written) {
      outbox_.clear();
      finishing_ = true;
    }
  }
  if (!changed_.wait_for(lock, kFarewell, [&] { return reader_done_; })) cancel_locked();
  writer_done_ = true;
  changed_.notify_all();
}

}  // namespace rtswap::daemon
