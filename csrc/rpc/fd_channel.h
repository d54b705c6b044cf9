// The descriptor socket, "<socket>.fds": chunks of a bank and message rings as file descriptors,
// which gRPC cannot carry. Chunks in both directions; one exchange per connection.
//
// Frames: u32 magic, u32 payload length (both native byte order: the peers share a kernel), payload
// = a message of arbiter.proto. Descriptors follow as batches of at most kBatchDescriptors: a u32
// count that carries as many descriptors (SCM_RIGHTS). The receiver answers every batch with one
// byte, so that no more than one batch is ever in flight: the kernel counts descriptors in flight
// against the sender's descriptor limit.
//
// Every call blocks, on a deadline of its own. Errors: `timed_out` when the peer stalls,
// `interrupted` when the caller says so (csrc/base/interrupted.h),
// `daemon_unavailable` when the connection ends early, `protocol_violation` for anything that is
// not the above, `descriptor_limit` when this process may not open enough files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "csrc/base/interrupted.h"
#include "csrc/base/result.h"
#include "csrc/base/unique_fd.h"
#include "csrc/protocol/messages.h"

namespace rtswap::rpc {

// More chunks than this would not fit any descriptor limit in use.
inline constexpr uint32_t kMaxDescriptors = 1 << 18;

struct ChunkFetch {
  protocol::SessionId session = 0;
  uint32_t device = 0;
};
struct ChunkOffer {
  std::string bank_id;
  std::string device_uuid;
  uint64_t chunk_bytes = 0;
  uint32_t chunk_count = 0;
};

// --- client -------------------------------------------------------------------------------------

Result<std::vector<UniqueFd>> fetch_descriptors(int socket, const ChunkFetch& request,
                                                int64_t limit_ns,
                                                const Interrupted& interrupted = {});
Result<UniqueFd> fetch_ring(int socket, protocol::SessionId session, int64_t limit_ns,
                            const Interrupted& interrupted = {});
// Sends copies of `fds` when the arbiter wants them. REQUIRES: fds.size() == offer.chunk_count.
Status offer_descriptors(int socket, const ChunkOffer& offer, const std::vector<int>& fds,
                         int64_t limit_ns, const Interrupted& interrupted = {});

// --- arbiter ------------------------------------------------------------------------------------

// What the arbiter answers on one connection. An error travels to the client.
class DescriptorExchange {
 public:
  virtual ~DescriptorExchange() = default;
  // The descriptors of the chunks; they stay the arbiter's and valid until serving has ended.
  virtual Result<std::vector<int>> fetch(const ChunkFetch& request) = 0;
  // Likewise the descriptor of a new message ring of the session.
  virtual Result<int> fetch_ring(protocol::SessionId session) = 0;
  virtual Result<bool> wants(const ChunkOffer& offer) = 0;
  virtual Status take(const ChunkOffer& offer, std::vector<UniqueFd> descriptors) = 0;
};

// Serves the one exchange of a connection. The error is for the log; the client has its own.
Status serve_descriptors(int socket, DescriptorExchange& exchange, int64_t limit_ns);

}  // namespace rtswap::rpc
