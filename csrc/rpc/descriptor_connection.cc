#include "csrc/rpc/descriptor_connection.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "csrc/base/clock.h"

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

bool is_transient() { return errno == EAGAIN || errno == EINTR; }

}  // namespace

Error descriptor_garbage(const std::string& what) {
  return {ErrorCode::protocol_violation, "the descriptor socket carries garbage: " + what};
}

DescriptorConnection::DescriptorConnection(int socket, int64_t limit_ns, Interrupted interrupted)
    : socket_(socket),
      deadline_ns_(monotonic_now_ns() + limit_ns),
      interrupted_(std::move(interrupted)) {}

Status DescriptorConnection::send_frame(const google::protobuf::MessageLite& message) {
  const std::string payload = message.SerializeAsString();
  const std::array<uint32_t, 2> header{kMagic, static_cast<uint32_t>(payload.size())};
  std::string frame(reinterpret_cast<const char*>(header.data()), sizeof(header));
  return send_bytes(frame += payload);
}

Status DescriptorConnection::receive_frame(google::protobuf::MessageLite& message) {
  std::array<uint32_t, 2> header{};
  RTSWAP_TRY(receive_bytes({reinterpret_cast<char*>(header.data()), sizeof(header)}));
  if (header[0] != kMagic) return fail(descriptor_garbage("a frame does not begin as it must"));
  if (header[1] > kMaxPayloadBytes) {
    return fail(descriptor_garbage("a frame of " + std::to_string(header[1]) + " bytes"));
  }
  std::string payload(header[1], '\0');
  RTSWAP_TRY(receive_bytes(payload));
  if (!message.ParseFromString(payload))
    return fail(descriptor_garbage("a frame that cannot be parsed"));
  return {};
}

Status DescriptorConnection::send_descriptors(std::span<const int> fds) {
  while (!fds.empty()) {
    const size_t count = std::min(fds.size(), kBatchDescriptors);
    RTSWAP_TRY(send_batch(fds.first(count)));
    char received = 0;
    RTSWAP_TRY(receive_bytes({&received, 1}));
    if (received != kReceived) return fail(descriptor_garbage("a batch was answered wrongly"));
    fds = fds.subspan(count);
  }
  return {};
}

Result<std::vector<UniqueFd>> DescriptorConnection::receive_descriptors(size_t count) {
  std::vector<UniqueFd> all;
  all.reserve(count);
  while (all.size() < count) {
    uint32_t announced = 0;
    std::vector<UniqueFd> batch;
    RTSWAP_TRY(receive({reinterpret_cast<char*>(&announced), sizeof(announced)}, batch));
    if (announced == 0 || announced != batch.size() || all.size() + batch.size() > count) {
      return fail(descriptor_garbage("a batch announces " + std::to_string(announced) +
                                     " descriptors and carries " + std::to_string(batch.size())));
    }
    for (UniqueFd& fd : batch) all.push_back(std::move(fd));
    RTSWAP_TRY(send_bytes({&kReceived, 1}));
  }
  return all;
}

Status DescriptorConnection::wait_for(short events) {
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

Status DescriptorConnection::send_bytes(std::span<const char> bytes) {
  while (!bytes.empty()) {
    RTSWAP_TRY(wait_for(POLLOUT));
    const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && is_transient()) continue;
    if (sent <= 0) return fail(ended());
    bytes = bytes.subspan(static_cast<size_t>(sent));
  }
  return {};
}

Status DescriptorConnection::receive_bytes(std::span<char> bytes) {
  std::vector<UniqueFd> unexpected;
  RTSWAP_TRY(receive(bytes, unexpected));
  if (!unexpected.empty()) return fail(descriptor_garbage("descriptors where none belong"));
  return {};
}

Status DescriptorConnection::send_batch(std::span<const int> fds) {
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

Status DescriptorConnection::receive(std::span<char> bytes, std::vector<UniqueFd>& fds) {
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

}  // namespace rtswap::rpc
