#include "csrc/client/grpc_loader.h"

#include <dlfcn.h>

namespace rtswap::client {

Result<rpc::ConnectFunction> load_grpc_link(const std::string& library) {
  constexpr const char* kAdvice =
      "; an arbiter inside this process needs no such library, a daemon does: install rtswap with "
      "it "
      "(build with -DRTSWAP_WITH_GRPC=ON)";
  if (library.empty()) {
    return fail(
        ErrorCode::daemon_unavailable,
        std::string("a daemon was asked for, and no librtswap_grpc.so was named") + kAdvice);
  }
  // RTLD_LOCAL: the names of its gRPC and protobuf must not meet those of others in the process.
  void* const handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (handle == nullptr) {
    return fail(ErrorCode::daemon_unavailable,
                std::string("the library that talks to a daemon cannot be loaded (") + dlerror() +
                    ")" + kAdvice);
  }
  void* const symbol = dlsym(handle, rpc::kConnectSymbol);
  if (symbol == nullptr) {
    return fail(ErrorCode::daemon_unavailable, library + " has no function " + rpc::kConnectSymbol +
                                                   ": it is not the library of this version of "
                                                   "rtswap" +
                                                   kAdvice);
  }
  return reinterpret_cast<rpc::ConnectFunction>(symbol);
}

Result<std::unique_ptr<protocol::Link>> connect_by(rpc::ConnectFunction connect,
                                                   const rpc::ConnectOptions& options) {
  Result<std::unique_ptr<protocol::Link>> link =
      fail(ErrorCode::internal, "the library that talks to a daemon returned nothing");
  connect(options, link);
  return link;
}

}  // namespace rtswap::client
