#include "csrc/rpc/session_link.h"

#include <pthread.h>
#include <sys/socket.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "csrc/rpc/codec.h"
#include "csrc/rpc/fd_channel.h"
#include "csrc/rpc/message_ring.h"
#include "csrc/rpc/unix_socket.h"
#include "rtswap/v1/arbiter.grpc.pb.h"

namespace rtswap::rpc {
namespace {

using protocol::ArbiterMessage;
using protocol::ClientMessage;
using protocol::LinkReceiver;
using protocol::SessionId;

// A daemon that does not read this many messages is not coming back to them.
constexpr size_t kMaxOutbox = 4096;
constexpr int64_t kDescriptorLimit_ns = 30'000'000'000;
// How long a closing link waits for its last messages (Goodbye) to be written and answered.
constexpr std::chrono::milliseconds kFarewell{500};

Error lost_error(const std::string& path, const grpc::Status& status) {
  const std::string why = status.ok() ? "it ended the session" : status.error_message();
  return {ErrorCode::daemon_unavailable, "the link to rtswapd at " + path + " was lost: " + why};
}

// A state machine on a completion queue that one thread drains: one read and at most one write
// under way. A write is begun by whoever sends and finds none under way, so that a request leaves
// without waiting for another thread to wake up; it only hands bytes to the socket and never
// blocks.
class SessionLink final : public protocol::Link {
 public:
  // `socket`: a duplicate of the channel's.
  SessionLink(std::string path, UniqueFd socket, std::shared_ptr<grpc::Channel> channel)
      : path_(std::move(path)),
        socket_(std::move(socket)),
        channel_(std::move(channel)),
        stub_(v1::Arbiter::NewStub(channel_)) {}

  ~SessionLink() override {
    if (!thread_.joinable()) return;
    {
      std::unique_lock lock(mutex_);
      wanted_end_ = true;
      half_close();
      // One that never answered has nothing to be told.
      if (session_ != 0) ended_changed_.wait_for(lock, kFarewell, [&] { return ended_; });
      if (!ended_) break_off();
    }
    thread_.join();
  }

  Status start(LinkReceiver& receiver) override {
    receiver_ = &receiver;
    stream_ = stub_->PrepareAsyncSession(&context_, &queue_);
    thread_ = std::thread([this] { drain(); });  // first: a call that has started must be drained
    stream_->StartCall(tag(Step::start));
    return {};
  }

  Status send(ClientMessage message) override {
    const std::lock_guard lock(mutex_);
    if (reader_done_ || half_close_ || cause_) {
      return fail(ErrorCode::daemon_unavailable, "the link to rtswapd at " + path_ + " was lost");
    }
    if (outbox_.size() >= kMaxOutbox) {
      end_because({ErrorCode::daemon_unavailable,
                   "rtswapd at " + path_ + " does not read what it is sent (" +
                       std::to_string(outbox_.size()) + " messages wait); it hangs or is stopped"});
      return fail(*cause_);
    }
    outbox_.push_back({std::move(message), session_, epoch_});
    write_next();
    return {};
  }

  Status open_shortcut(SessionId session, const Interrupted& interrupted) override {
    RTSWAP_ASSIGN(const UniqueFd socket,
                  connect_unix(descriptor_socket_path(path_), kDescriptorLimit_ns, interrupted));
    RTSWAP_ASSIGN(UniqueFd memory,
                  fetch_ring(socket.get(), session, kDescriptorLimit_ns, interrupted));
    RTSWAP_ASSIGN(RingReader ring, RingReader::open(std::move(memory)));
    const std::lock_guard turn(delivery_);
    ring_.emplace(std::move(ring));
    return {};
  }

  void poll() override {
    const std::unique_lock turn(delivery_, std::try_to_lock);
    if (!turn || !ring_ || over_) return;
    while (ring_->read(delivered_ + 1, early_)) {
      ++delivered_;
      deliver(early_);
    }
  }

  Result<protocol::Snapshot> snapshot(int64_t limit_ns) override {
    grpc::ClientContext context;
    context.set_deadline(from_now(limit_ns));
    v1::StatsReply reply;
    const grpc::Status status = stub_->Stats(&context, v1::StatsRequest(), &reply);
    if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
      return fail(ErrorCode::timed_out, "rtswapd at " + path_ + " did not answer in time");
    }
    if (!status.ok()) return fail(lost_error(path_, status));
    return decode(reply);
  }

  Result<std::vector<UniqueFd>> fetch_chunks(SessionId session, uint32_t device,
                                             const Interrupted& interrupted) override {
    RTSWAP_ASSIGN(const UniqueFd socket,
                  connect_unix(descriptor_socket_path(path_), kDescriptorLimit_ns, interrupted));
    return fetch_descriptors(socket.get(), {session, device}, kDescriptorLimit_ns, interrupted);
  }

  Status offer_chunks(const std::string& bank_id, const std::string& device_uuid,
                      uint64_t chunk_bytes, const std::vector<int>& fds,
                      const Interrupted& interrupted) override {
    RTSWAP_ASSIGN(const UniqueFd socket,
                  connect_unix(descriptor_socket_path(path_), kDescriptorLimit_ns, interrupted));
    return offer_descriptors(socket.get(),
                             {bank_id, device_uuid, chunk_bytes, static_cast<uint32_t>(fds.size())},
                             fds, kDescriptorLimit_ns, interrupted);
  }

 private:
  // The operations on the queue; each is under way at most once.
  enum class Step : uintptr_t { start = 1, read, write, half_close, finish };

  struct Outgoing {
    ClientMessage message;
    SessionId session;
    uint64_t epoch;
  };

  static void* tag(Step step) { return reinterpret_cast<void*>(step); }

  void drain() {
    pthread_setname_np(pthread_self(), "rtswap-link");
    void* done = nullptr;
    bool ok = false;
    while (queue_.Next(&done, &ok)) {
      switch (static_cast<Step>(reinterpret_cast<uintptr_t>(done))) {
        case Step::start:
          after_start(ok);
          break;
        case Step::read:
          after_read(ok);
          break;
        case Step::write:
        case Step::half_close:
          after_write(ok);
          break;
        case Step::finish:
          report_end();
          queue_.Shutdown();
          break;
      }
    }
  }

  void after_start(bool ok) {
    const std::lock_guard lock(mutex_);
    if (!ok) {
      reader_done_ = true;
      finish_if_done();
      return;
    }
    started_ = true;
    stream_->Read(&incoming_, tag(Step::read));
    write_next();
  }

  void after_read(bool ok) {
    if (ok) {
      const std::lock_guard turn(delivery_);
      if (++read_ > delivered_) {  // else poll() has seen it before
        ++delivered_;
        deliver(incoming_);
      }
    }
    const std::lock_guard lock(mutex_);
    if (ok) {
      stream_->Read(&incoming_, tag(Step::read));
      return;
    }
    reader_done_ = true;
    // The stream is over; a write that a full connection holds would keep it.
    if (writing_) break_off();
    finish_if_done();
  }

  // REQUIRES: delivery_ held.
  void deliver(const v1::ArbiterEnvelope& envelope) {
    {
      const std::lock_guard lock(mutex_);
      if (cause_) return;  // what follows a message that could not be read is nobody's
    }
    auto message = decode(envelope);
    if (!message) {
      const std::lock_guard lock(mutex_);
      end_because(message.error());
      return;
    }
    if (!belongs_here(envelope, *message)) return;
    const bool last = std::holds_alternative<protocol::Fault>(*message);
    receiver_->on_message(std::move(*message));
    if (last) {
      const std::lock_guard lock(mutex_);
      outbox_.clear();
      half_close();
    }
  }

  // Late messages of another session or life are nobody's. Welcome says which one this is.
  bool belongs_here(const v1::ArbiterEnvelope& envelope, const ArbiterMessage& message) {
    const std::lock_guard lock(mutex_);
    if (const auto* welcome = std::get_if<protocol::Welcome>(&message)) {
      session_ = welcome->session;
      epoch_ = welcome->epoch;
      return true;
    }
    return session_ == 0 || (envelope.session_id() == session_ && envelope.epoch() == epoch_);
  }

  void after_write(bool) {  // a write that failed is the reader's to notice, and to report
    const std::lock_guard lock(mutex_);
    writing_ = false;
    write_next();
    finish_if_done();
  }

  // --- REQUIRE: mutex_ held ---

  void write_next() {
    if (!started_ || writing_ || reader_done_ || half_closed_) return;
    if (outbox_.empty()) {
      if (!half_close_) return;
      half_closed_ = writing_ = true;
      stream_->WritesDone(tag(Step::half_close));
      return;
    }
    const Outgoing& next = outbox_.front();
    v1::ClientEnvelope envelope = encode(next.message);
    envelope.set_session_id(next.session);
    envelope.set_epoch(next.epoch);
    outbox_.pop_front();
    writing_ = true;
    stream_->Write(envelope, tag(Step::write));
  }

  // Nothing more is sent after what waits.
  void half_close() {
    half_close_ = true;
    write_next();
  }

  void finish_if_done() {
    if (!reader_done_ || writing_ || finishing_) return;
    finishing_ = true;
    stream_->Finish(&status_, tag(Step::finish));
  }

  // The reader notices the cancelled call and reports `cause`.
  void end_because(Error cause) {
    if (!cause_) cause_ = std::move(cause);
    break_off();
  }

  // Cancelling the call ends a read, but not a write whose bytes wait for room in the socket: that
  // takes the end of the connection.
  void break_off() {
    context_.TryCancel();
    ::shutdown(socket_.get(), SHUT_RDWR);
  }

  // --- mutex_ not held ---

  void report_end() {
    Error error;
    bool wanted = false;
    {
      const std::lock_guard lock(mutex_);
      if (!cause_) cause_ = lost_error(path_, status_);
      error = *cause_;
      wanted = wanted_end_;
    }
    {
      const std::lock_guard turn(delivery_);
      over_ = true;
      if (!wanted) receiver_->on_lost(error);
    }
    const std::lock_guard lock(mutex_);
    ended_ = true;
    ended_changed_.notify_all();
  }

  const std::string path_;
  const UniqueFd socket_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::Arbiter::Stub> stub_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::ClientAsyncReaderWriter<v1::ClientEnvelope, v1::ArbiterEnvelope>> stream_;
  LinkReceiver* receiver_ = nullptr;
  v1::ArbiterEnvelope incoming_;  // of the read under way
  grpc::Status status_;           // of the finished call
  std::thread thread_;

  // Of whoever calls the receiver; taken before mutex_, and guards what follows.
  std::mutex delivery_;
  uint64_t read_ = 0;       // messages of the stream
  uint64_t delivered_ = 0;  // in order, each once
  std::optional<RingReader> ring_;
  v1::ArbiterEnvelope early_;  // of the ring
  bool over_ = false;          // the receiver is called no more

  std::mutex mutex_;  // guards what follows, and begins every operation
  std::condition_variable ended_changed_;
  std::deque<Outgoing> outbox_;
  SessionId session_ = 0;  // 0 until Welcome
  uint64_t epoch_ = 0;
  std::optional<Error> cause_;  // why the link ends, once it does
  bool started_ = false;
  bool writing_ = false;      // a write or the half-close is under way
  bool half_close_ = false;   // to be done once the outbox is empty
  bool half_closed_ = false;  // begun
  bool reader_done_ = false;  // the daemon sends no more
  bool finishing_ = false;
  bool wanted_end_ = false;  // the owner destroys the link
  bool ended_ = false;
};

}  // namespace

std::unique_ptr<protocol::Link> make_session_link(std::string path, UniqueFd socket,
                                                  std::shared_ptr<grpc::Channel> channel) {
  return std::make_unique<SessionLink>(std::move(path), std::move(socket), std::move(channel));
}

}  // namespace rtswap::rpc
