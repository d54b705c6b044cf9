// The only exported symbol of librtswap_grpc.so.
#include "csrc/rpc/grpc_link.h"

extern "C" __attribute__((visibility("default"))) void rtswap_grpc_connect(
    const rtswap::rpc::ConnectOptions& options,
    rtswap::Result<std::unique_ptr<rtswap::protocol::Link>>& result) {
  static_assert(std::is_same_v<decltype(&rtswap_grpc_connect), rtswap::rpc::ConnectFunction>);
  result = rtswap::rpc::connect(options);
}
