// The link of a session over a channel that is connected: what grpc_link.h's connect() returns.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "csrc/base/unique_fd.h"
#include "csrc/protocol/link.h"

namespace rtswap::rpc {

// A deadline for gRPC.
inline std::chrono::system_clock::time_point from_now(int64_t limit_ns) {
  return std::chrono::system_clock::now() +
         std::chrono::duration_cast<std::chrono::system_clock::duration>(
             std::chrono::nanoseconds(limit_ns));
}

// `path`: of the daemon's socket. `socket`: a duplicate of the channel's, to break it off.
std::unique_ptr<protocol::Link> make_session_link(std::string path, UniqueFd socket,
                                                  std::shared_ptr<grpc::Channel> channel);

}  // namespace rtswap::rpc
