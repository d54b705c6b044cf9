// Opens librtswap_grpc.so, so that only a process that talks to a daemon carries gRPC.
#pragma once

#include <memory>
#include <string>

#include "csrc/base/result.h"
#include "csrc/rpc/grpc_link.h"

namespace rtswap::client {

// The library stays loaded for the life of the process: gRPC has threads of its own.
// `daemon_unavailable` when the library is missing, cannot be loaded or is not ours.
Result<rpc::ConnectFunction> load_grpc_link(const std::string& library);

// Connects by that function. Errors: those of rpc::connect(). Blocks.
Result<std::unique_ptr<protocol::Link>> connect_by(rpc::ConnectFunction connect,
                                                   const rpc::ConnectOptions& options);

}  // namespace rtswap::client
