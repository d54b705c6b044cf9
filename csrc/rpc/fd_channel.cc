#include "csrc/rpc/fd_channel.h"

#include <utility>

#include "csrc/rpc/codec.h"
#include "csrc/rpc/descriptor_connection.h"
#include "csrc/rpc/unix_socket.h"

namespace rtswap::rpc {
namespace {

v1::DescriptorReply refusal(const Error& error) {
  v1::DescriptorReply reply;
  *reply.mutable_error() = encode(error);
  return reply;
}

Status check_count(uint64_t count) {
  if (count >= 1 && count <= kMaxDescriptors) return {};
  return fail(descriptor_garbage("a reply with " + std::to_string(count) + " descriptors"));
}

Status send_fetched(DescriptorConnection& connection, const Result<std::vector<int>>& fds) {
  if (!fds) {
    RTSWAP_TRY(connection.send_frame(refusal(fds.error())));
    return fail(fds.error());
  }
  v1::DescriptorReply reply;
  reply.set_descriptors(static_cast<uint32_t>(fds->size()));
  RTSWAP_TRY(connection.send_frame(reply));
  return connection.send_descriptors(*fds);
}

Result<std::vector<UniqueFd>> receive_fetched(DescriptorConnection& connection,
                                              const v1::DescriptorRequest& request) {
  RTSWAP_TRY(connection.send_frame(request));
  v1::DescriptorReply reply;
  RTSWAP_TRY(connection.receive_frame(reply));
  if (reply.has_error()) return fail(decode(reply.error()));
  RTSWAP_TRY(check_count(reply.descriptors()));
  RTSWAP_TRY(ensure_descriptor_room(reply.descriptors()));
  return connection.receive_descriptors(reply.descriptors());
}

Status serve_offer(DescriptorConnection& connection, DescriptorExchange& exchange,
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
  DescriptorConnection connection(socket, limit_ns, interrupted);
  v1::DescriptorRequest wire;
  wire.set_protocol_version(protocol::kVersion);
  wire.mutable_fetch()->set_session_id(request.session);
  wire.mutable_fetch()->set_device_index(request.device);
  return receive_fetched(connection, wire);
}

Result<UniqueFd> fetch_ring(int socket, protocol::SessionId session, int64_t limit_ns,
                            const Interrupted& interrupted) {
  DescriptorConnection connection(socket, limit_ns, interrupted);
  v1::DescriptorRequest wire;
  wire.set_protocol_version(protocol::kVersion);
  wire.mutable_fetch_ring()->set_session_id(session);
  RTSWAP_ASSIGN(std::vector<UniqueFd> fds, receive_fetched(connection, wire));
  if (fds.size() != 1) return fail(descriptor_garbage("a message ring of several descriptors"));
  return std::move(fds.front());
}

Status offer_descriptors(int socket, const ChunkOffer& offer, const std::vector<int>& fds,
                         int64_t limit_ns, const Interrupted& interrupted) {
  DescriptorConnection connection(socket, limit_ns, interrupted);
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
  DescriptorConnection connection(socket, limit_ns);
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
  const Error error = descriptor_garbage("a request that this version does not know");
  RTSWAP_TRY(connection.send_frame(refusal(error)));
  return fail(error);
}

}  // namespace rtswap::rpc
