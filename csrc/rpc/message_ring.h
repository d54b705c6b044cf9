// The latest messages of one stream, in memory that the daemon shares with the client: whoever is
// looking for an answer finds it there before the stream has brought it, without a thread being
// woken. A shortcut, and no transport: every message travels in the stream as well, and one that is
// too long for the ring, or was overwritten, only there.
//
// Messages are numbered from 1 in the order of their stream; both ends count, nothing is sent for
// it. One writer, any number of readers; neither ever waits for the other. The memory is sealed: it
// has a fixed size, and only the writer writes, so neither end can make the other fault.
#pragma once

#include <google/protobuf/message_lite.h>

#include <cstdint>

#include "csrc/base/result.h"
#include "csrc/base/unique_fd.h"

namespace rtswap::rpc {

// Longer ones, the grants of some hundred chunks, take longer to carry out than to read.
inline constexpr size_t kMaxRingMessage_bytes = 1008;
inline constexpr size_t kRingMessages = 16;

class RingSlots;  // the mapping

class RingWriter {
 public:
  // Keeps no descriptor. `memory`: set to what a reader opens. `descriptor_limit`, or
  // `out_of_memory`.
  static Result<RingWriter> create(UniqueFd& memory);
  RingWriter(RingWriter&& other) noexcept;
  RingWriter& operator=(RingWriter&&) = delete;
  ~RingWriter();

  // One call at a time, with rising numbers.
  void put(uint64_t number, const google::protobuf::MessageLite& message);

 private:
  explicit RingWriter(RingSlots* slots) : slots_(slots) {}

  RingSlots* slots_;
};

class RingReader {
 public:
  // `protocol_violation` when it is not the memory of a ring.
  static Result<RingReader> open(UniqueFd memory);
  RingReader(RingReader&& other) noexcept;
  RingReader& operator=(RingReader&&) = delete;
  ~RingReader();

  // Whether the message of that number is there, and then `message` is it. Any thread.
  bool read(uint64_t number, google::protobuf::MessageLite& message) const;

 private:
  explicit RingReader(const RingSlots* slots) : slots_(slots) {}

  const RingSlots* slots_;
};

}  // namespace rtswap::rpc
