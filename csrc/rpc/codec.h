// Between the session protocol as C++ values and its wire form. Pure and total: every value
// encodes, and whatever a peer sent decodes to a value or to `protocol_violation` with a sentence
// that names the field. Meaning (known ids, sensible times) is the arbiter's to judge, not the
// codec's.
#pragma once

#include "csrc/base/result.h"
#include "csrc/protocol/messages.h"
#include "csrc/protocol/snapshot.h"
#include "rtswap/v1/arbiter.pb.h"

namespace rtswap::rpc {

// Limits on what one message may carry: far above anything sensible, and small enough that a lying
// peer cannot make the other side hold much.
inline constexpr int kMaxTextBytes = 64 << 10;
inline constexpr int kMaxListLength = 1 << 20;

// The envelope's session and epoch are the caller's to fill in and to check.
v1::ClientEnvelope encode(const protocol::ClientMessage& message);
v1::ArbiterEnvelope encode(const protocol::ArbiterMessage& message);
v1::StatsReply encode(const protocol::Snapshot& snapshot);
v1::Error encode(const Error& error);

Result<protocol::ClientMessage> decode(const v1::ClientEnvelope& envelope);
Result<protocol::ArbiterMessage> decode(const v1::ArbiterEnvelope& envelope);
Result<protocol::Snapshot> decode(const v1::StatsReply& reply);
Error decode(const v1::Error& error);

}  // namespace rtswap::rpc
