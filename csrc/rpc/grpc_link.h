// The link to a daemon: protocol::Link over one bidirectional gRPC stream on a Unix socket.
//
// Built into librtswap_grpc.so, the only object of a client process that carries gRPC; it is opened
// (dlopen) when a daemon is asked for and not before, so that a process with an embedded arbiter
// never loads gRPC. The library exports one symbol, kConnectSymbol.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "csrc/base/interrupted.h"
#include "csrc/base/result.h"
#include "csrc/protocol/link.h"

namespace rtswap::rpc {

struct ConnectOptions {
  std::string socket_path;             // the daemon's listening socket
  int64_t timeout_ns = 3'000'000'000;  // for connecting and Identify, each
  Interrupted interrupted = {};        // asked meanwhile
};

// Connects; the caller then sends Hello. `daemon_unavailable` (no socket, nobody listens, no
// permission: each named), `protocol_mismatch` or `interrupted`.
Result<std::unique_ptr<protocol::Link>> connect(const ConnectOptions& options);

// extern "C" entry point of librtswap_grpc.so, same meaning as connect(). Both sides are built
// together and installed together, so C++ types may cross it.
inline constexpr const char* kConnectSymbol = "rtswap_grpc_connect";
using ConnectFunction = void (*)(const ConnectOptions&,
                                 Result<std::unique_ptr<protocol::Link>>& result);

}  // namespace rtswap::rpc
