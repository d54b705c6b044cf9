#include "csrc/rpc/fd_channel.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <utility>

#include "csrc/base/clock.h"
#include "csrc/rpc/codec.h"

namespace rtswap::rpc {
namespace {

constexpr uint32_t kMagic = 0x31465352;  // "RSF1"
constexpr uint32_t kMaxPayloadBytes = 256 << 10;
constexpr char kReceived = 'k';

Error stalled() {
  return {ErrorCode::timed_out,
          "the other end of the descriptor socket stalled; it hangs or is stopped"};
}
Error ended() {
  return {ErrorCode::daemon_unavailable,
          "the descriptor socket was closed before the exchange was complete"};
}
Error garbage(const std::string& what) {
  return {ErrorCode::protocol_violation, "the descriptor socket carries garbage: " + what};
}

// One end of a connection, with one deadline for the whole exchange. Works on blocking and
// non-blocking sockets alike.
class Connection {
 public:
  Connection(int socket, int64_t limit_ns, Interrupted interrupted = {})
      : socket_(socket),
        deadline_ns_(monotonic_now_ns() + limit_ns),
        interrupted_(std::move(interrupted)) {}

  Status send_bytes(std::span<const char> bytes) {
    while (!bytes.empty()) {
      RTSWAP_TRY(wait_for(POLLOUT));
      const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0 && is_transient()) continue;
      if (sent <= 0) return fail(ended());
      bytes = bytes.subspan(static_cast<size_t>(sent));
    }
    return {};
  }

  // Descriptors that come along where none belong are closed.
  Status receive_bytes(std::span<char> bytes) {
    std::vector<UniqueFd> unexpected;
    RTSWAP_TRY(receive(bytes, unexpected));
    if (!unexpected.empty()) return fail(garbage("descriptors where none belong"));
    return {};
  }

  template <class Message>
  Status send_frame(const Message& message) {
    const std::string payload = message.SerializeAsString();
    const std::array<uint32_t, 2> header{kMagic, static_cast<uint32_t>(payload.size())};
    std::string frame(reinterpret_cast<const char*>(header.data()), sizeof(header));
    return send_bytes(frame += payload);
  }

  template <class Message>
  Status receive_frame(Message& message) {
    std::array<uint32_t, 2> header{};
    RTSWAP_TRY(receive_bytes({reinterpret_cast<char*>(header.data()), sizeof(header)}));
    if (header[0] != kMagic) return fail(garbage("a frame does not begin as it must"));
    if (header[1] > kMaxPayloadBytes) {
      return fail(garbage("a frame of " + std::to_string(header[1]) + " bytes"));
    }
    std::string payload(header[1], '\0');
    RTSWAP_TRY(receive_bytes(payload));
    if (!message.ParseFromString(payload)) return fail(garbage("a frame that cannot be parsed"));
    return {};
  }

  Status send_descriptors(std::span<const int> fds) {
    while (!fds.empty()) {
      const size_t count = std::min(fds.size(), kBatchDescriptors);
      RTSWAP_TRY(send_batch(fds.first(count)));
      char received = 0;
      RTSWAP_TRY(receive_bytes({&received, 1}));
      if (received != kReceived) return fail(garbage("a batch was answered wrongly"));
      fds = fds.subspan(count);
    }
    return {};
  }

  Result<std::vector<UniqueFd>> receive_descriptors(size_t count) {
    std::vector<UniqueFd> all;
    all.reserve(count);
    while (all.size() < count) {
      uint32_t announced = 0;
      std::vector<UniqueFd> batch;
      RTSWAP_TRY(receive({reinterpret_cast<char*>(&announced), sizeof(announced)}, batch));
      if (announced == 0 || announced != batch.size() || all.size() + batch.size() > count) {
        return fail(garbage("a batch announces " + std::to_string(announced) +
                            " descriptors and carries " + std::to_string(batch.size())));
      }
      for (UniqueFd& fd : batch) all.push_back(std::move(fd));
      RTSWAP_TRY(send_bytes({&kReceived, 1}));
    }
    return all;
  }

 private:
  static bool is_transient() { return errno == EAGAIN || errno == EINTR; }

  Status wait_for(short events) {
    for (;;) {
      const int64_t left_ns = deadline_ns_ - monotonic_now_ns();
      if (left_ns <= 0) return fail(stalled());
      pollfd entry{socket_, events, 0};
      const int64_t slice_ns = std::min(left_ns, kLookEvery_ns);
      const int ready = ::poll(&entry, 1, static_cast<int>(slice_ns / 1'000'000 + 1));
      if (ready > 0) return {};
      if (ready < 0 && errno != EINTR) return fail(ended());
      RTSWAP_TRY(check(interrupted_));
    }
  }

  Status send_batch(std::span<const int> fds) {
    uint32_t count = static_cast<uint32_t>(fds.size());
    iovec data{&count, sizeof(count)};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kBatchDescriptors)> control{};
    msghdr header{};
    header.msg_iov = &data;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
    for (;;) {
      RTSWAP_TRY(wait_for(POLLOUT));
      const ssize_t sent = ::sendmsg(socket_, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent == static_cast<ssize_t>(sizeof(count))) return {};
      if (sent < 0 && is_transient()) continue;
      if (sent < 0 && errno == ETOOMANYREFS) {
        // Other connections of this user have descriptors in flight; they drain in a moment.
        sleep_until_ns(monotonic_now_ns() + 1'000'000);
        continue;
      }
      return fail(ended());
    }
  }

  Status receive(std::span<char> bytes, std::vector<UniqueFd>& fds) {
    while (!bytes.empty()) {
      RTSWAP_TRY(wait_for(POLLIN));
      iovec data{bytes.data(), bytes.size()};
      alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * (kBatchDescriptors + 3))> control;
      msghdr header{};
      header.msg_iov = &data;
      header.msg_iovlen = 1;
      header.msg_control = control.data();
      header.msg_controllen = control.size();
      const ssize_t received = ::recvmsg(socket_, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
      if (received < 0 && is_transient()) continue;
      if (received < 0) return fail(ended());
      for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr;
           part = CMSG_NXTHDR(&header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
        const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; ++i) {
          int fd = -1;
          std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
          fds.emplace_back(fd);
        }
      }
      if (received == 0) return fail(ended());
      if ((header.msg_flags & MSG_CTRUNC) != 0) {
        return fail(ErrorCode::descriptor_limit,
                    "descriptors were lost on their way in: this process may not open more files");
      }
      bytes = bytes.subspan(static_cast<size_t>(received));
    }
    return {};
  }

  const int socket_;
  const int64_t deadline_ns_;
  const Interrupted interrupted_;
};

v1::DescriptorReply refusal(const Error& error) {
  v1::DescriptorReply reply;
  *reply.mutable_error() = encode(error);
  return reply;
}

Status check_count(uint64_t count) {
  if (count >= 1 && count <= kMaxDescriptors) return {};
  return fail(garbage("a reply with " + std::to_string(count) + " descriptors"));
}

Status send_fetched(Connection& connection, const Result<std::vector<int>>& fds) {
  if (!fds) {
    RTSWAP_TRY(connection.send_frame(refusal(fds.error())));
    return fail(fds.error());
  }
  v1::DescriptorReply reply;
  reply.set_descriptors(static_cast<uint32_t>(fds->size()));
  RTSWAP_TRY(connection.send_frame(reply));
  return connection.send_descriptors(*fds);
}

Result<std::vector<UniqueFd>> receive_fetched(Connection& connection,
                                              const v1::DescriptorRequest& request) {
  RTSWAP_TRY(connection.send_frame(request));
  v1::DescriptorReply reply;
  RTSWAP_TRY(connection.receive_frame(reply));
  if (reply.has_error()) return fail(decode(reply.error()));
  RTSWAP_TRY(check_count(reply.descriptors()));
  RTSWAP_TRY(ensure_descriptor_room(reply.descriptors()));
  return connection.receive_descriptors(reply.descriptors());
}

Status serve_offer(Connection& connection, DescriptorExchange& exchange,
                   const v1::OfferChunks& wire) {
  const ChunkOffer offer{wire.bank_id(), wire.device_uuid(), wire.chunk_bytes(),
                         wire.bank_chunks()};
  const auto receive_and_take = [&]() -> Result<bool> {
    RTSWAP_TRY(check_count(offer.chunk_count));
    RTSWAP_ASSIGN(const bool wanted, exchange.wants(offer));
    if (!wanted) return false;
    RTSWAP_TRY(ensure_descriptor_room(offer.chunk_count));
    v1::DescriptorReply reply;
    reply.set_wanted(true);
    RTSWAP_TRY(connection.send_frame(reply));
    RTSWAP_ASSIGN(auto descriptors, connection.receive_descriptors(offer.chunk_count));
    RTSWAP_TRY(exchange.take(offer, std::move(descriptors)));
    return true;
  };
  const Result<bool> taken = receive_and_take();
  RTSWAP_TRY(connection.send_frame(taken ? v1::DescriptorReply() : refusal(taken.error())));
  if (!taken) return fail(taken.error());
  return {};
}

}  // namespace

Result<std::vector<UniqueFd>> fetch_descriptors(int socket, const ChunkFetch& request,
                                                int64_t limit_ns, const Interrupted& interrupted) {
  Connection connection(socket, limit_ns, interrupted);
  v1::DescriptorRequest wire;
  wire.set_protocol_version(protocol::kVersion);
  wire.mutable_fetch()->set_session_id(request.session);
  wire.mutable_fetch()->set_device_index(request.device);
  return receive_fetched(connection, wire);
}

Result<UniqueFd> fetch_ring(int socket, protocol::SessionId session, int64_t limit_ns,
                            const Interrupted& interrupted) {
  Connection connection(socket, limit_ns, interrupted);
  v1::DescriptorRequest wire;
  wire.set_protocol_version(protocol::kVersion);
  wire.mutable_fetch_ring()->set_session_id(session);
  RTSWAP_ASSIGN(std::vector<UniqueFd> fds, receive_fetched(connection, wire));
  if (fds.size() != 1) return fail(garbage("a message ring of several descriptors"));
  return std::move(fds.front());
}

Status offer_descriptors(int socket, const ChunkOffer& offer, const std::vector<int>& fds,
                         int64_t limit_ns, const Interrupted& interrupted) {
  Connection connection(socket, limit_ns, interrupted);
  v1::DescriptorRequest wire;
  wire.set_protocol_version(protocol::kVersion);
  v1::OfferChunks* out = wire.mutable_offer();
  out->set_bank_id(offer.bank_id);
  out->set_device_uuid(offer.device_uuid);
  out->set_chunk_bytes(offer.chunk_bytes);
  out->set_bank_chunks(offer.chunk_count);
  RTSWAP_TRY(connection.send_frame(wire));
  v1::DescriptorReply reply;
  RTSWAP_TRY(connection.receive_frame(reply));
  if (reply.has_error()) return fail(decode(reply.error()));
  if (!reply.wanted()) return {};
  RTSWAP_TRY(connection.send_descriptors(fds));
  v1::DescriptorReply outcome;
  RTSWAP_TRY(connection.receive_frame(outcome));
  if (outcome.has_error()) return fail(decode(outcome.error()));
  return {};
}

Status serve_descriptors(int socket, DescriptorExchange& exchange, int64_t limit_ns) {
  Connection connection(socket, limit_ns);
  v1::DescriptorRequest request;
  RTSWAP_TRY(connection.receive_frame(request));
  if (request.protocol_version() != protocol::kVersion) {
    const Error error{ErrorCode::protocol_mismatch,
                      "the client speaks version " + std::to_string(request.protocol_version()) +
                          " of the protocol, rtswapd version " +
                          std::to_string(protocol::kVersion) + "; update the older of the two"};
    RTSWAP_TRY(connection.send_frame(refusal(error)));
    return fail(error);
  }
  switch (request.request_case()) {
    case v1::DescriptorRequest::kFetch:
      return send_fetched(connection, exchange.fetch({request.fetch().session_id(),
                                                      request.fetch().device_index()}));
    case v1::DescriptorRequest::kFetchRing:
      return send_fetched(connection,
                          exchange.fetch_ring(request.fetch_ring().session_id()).map([](int fd) {
                            return std::vector<int>{fd};
                          }));
    case v1::DescriptorRequest::kOffer:
      return serve_offer(connection, exchange, request.offer());
    case v1::DescriptorRequest::REQUEST_NOT_SET:
      break;
  }
  const Error error = garbage("a request that this version does not know");
  RTSWAP_TRY(connection.send_frame(refusal(error)));
  return fail(error);
}

}  // namespace rtswap::rpc
