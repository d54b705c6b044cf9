// One end of a connection of the descriptor socket: frames, and descriptors in batches. What they
// mean is fd_channel.h's.
#pragma once

#include <google/protobuf/message_lite.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "csrc/base/interrupted.h"
#include "csrc/base/result.h"
#include "csrc/base/unique_fd.h"

namespace rtswap::rpc {

// SCM_MAX_FD of the kernel is 253.
inline constexpr size_t kBatchDescriptors = 250;

// `protocol_violation`: what came is not what the protocol says.
Error descriptor_garbage(const std::string& what);

// One deadline for the whole exchange. Works on blocking and non-blocking sockets alike. Every call
// blocks; errors as in fd_channel.h. Threads: one.
class DescriptorConnection {
 public:
  // `socket` stays the caller's.
  DescriptorConnection(int socket, int64_t limit_ns, Interrupted interrupted = {});

  Status send_frame(const google::protobuf::MessageLite& message);
  Status receive_frame(google::protobuf::MessageLite& message);
  // The descriptors stay the caller's.
  Status send_descriptors(std::span<const int> fds);
  Result<std::vector<UniqueFd>> receive_descriptors(size_t count);

 private:
  Status wait_for(short events);
  Status send_bytes(std::span<const char> bytes);
  // Descriptors that come along where none belong are closed.
  Status receive_bytes(std::span<char> bytes);
  Status send_batch(std::span<const int> fds);
  Status receive(std::span<char> bytes, std::vector<UniqueFd>& fds);

  const int socket_;
  const int64_t deadline_ns_;
  const Interrupted interrupted_;
};

}  // namespace rtswap::rpc
