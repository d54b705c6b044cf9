#include "csrc/rpc/message_ring.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "rtswap/v1/arbiter.pb.h"
#include "tests/catch.h"

using namespace rtswap;
using rpc::RingReader;
using rpc::RingWriter;

namespace {

RingWriter make_writer(UniqueFd& memory) {
  auto writer = RingWriter::create(memory);
  REQUIRE(writer.has_value());
  return std::move(*writer);
}

RingReader make_reader(UniqueFd memory) {
  auto reader = RingReader::open(std::move(memory));
  REQUIRE(reader.has_value());
  return std::move(*reader);
}

// Whose content follows from its number, so that a mixture of two is seen; long enough to meet one.
v1::ArbiterEnvelope numbered(uint64_t number) {
  v1::ArbiterEnvelope envelope;
  envelope.set_session_id(number);
  envelope.set_epoch(number);
  v1::Grant* const grant = envelope.mutable_grant();
  for (uint64_t i = 0; i < 240 + number % 50; ++i)
    grant->add_chunk_ids(static_cast<uint32_t>(number));
  return envelope;
}

bool whole(const v1::ArbiterEnvelope& envelope) {
  return envelope.SerializeAsString() == numbered(envelope.session_id()).SerializeAsString();
}

}  // namespace

TEST_CASE("a message ring gives each message for its number only") {
  UniqueFd memory;
  RingWriter writer = make_writer(memory);
  const RingReader reader = make_reader(std::move(memory));
  v1::ArbiterEnvelope envelope;
  CHECK_FALSE(reader.read(1, envelope));
  writer.put(1, numbered(1));
  writer.put(2, numbered(2));
  REQUIRE(reader.read(1, envelope));
  CHECK(envelope.session_id() == 1);
  CHECK(whole(envelope));
  REQUIRE(reader.read(2, envelope));
  CHECK(envelope.session_id() == 2);
  CHECK_FALSE(reader.read(3, envelope));
  CHECK_FALSE(reader.read(1 + rpc::kRingMessages, envelope));
}

TEST_CASE("a message ring keeps its latest messages and forgets the others") {
  UniqueFd memory;
  RingWriter writer = make_writer(memory);
  const RingReader reader = make_reader(std::move(memory));
  const uint64_t last = 3 * rpc::kRingMessages + 5;
  for (uint64_t number = 1; number <= last; ++number) writer.put(number, numbered(number));
  v1::ArbiterEnvelope envelope;
  for (uint64_t number = 1; number <= last; ++number) {
    CHECK(reader.read(number, envelope) == (number + rpc::kRingMessages > last));
  }
}

TEST_CASE("a message that is too long for the ring leaves a gap") {
  UniqueFd memory;
  RingWriter writer = make_writer(memory);
  const RingReader reader = make_reader(std::move(memory));
  v1::ArbiterEnvelope longest;
  const auto pad_to = [&](size_t bytes) {
    std::string text;
    do {
      longest.mutable_fault()->mutable_error()->set_message(text);
      text += 'x';
    } while (longest.ByteSizeLong() < bytes);
    REQUIRE(longest.ByteSizeLong() == bytes);
  };
  pad_to(rpc::kMaxRingMessage_bytes);
  writer.put(1, longest);
  v1::ArbiterEnvelope envelope;
  REQUIRE(reader.read(1, envelope));
  CHECK(envelope.SerializeAsString() == longest.SerializeAsString());
  pad_to(rpc::kMaxRingMessage_bytes + 1);
  writer.put(2, longest);
  CHECK_FALSE(reader.read(2, envelope));
  writer.put(3, numbered(3));
  CHECK(reader.read(3, envelope));
}

TEST_CASE("a reader of a message ring never sees half a message") {
  UniqueFd memory;
  RingWriter writer = make_writer(memory);
  const RingReader reader = make_reader(std::move(memory));
  constexpr uint64_t kMessages = 200'000;
  std::atomic<uint64_t> newest{0};
  std::thread writing([&] {
    for (uint64_t number = 1; number <= kMessages; ++number) {
      writer.put(number, numbered(number));
      newest.store(number, std::memory_order_release);
    }
  });
  uint64_t seen = 0;
  bool all_whole = true;
  v1::ArbiterEnvelope envelope;
  // The oldest that the ring still holds: the one that is overwritten next.
  for (uint64_t at = 0; at < kMessages; at = newest.load(std::memory_order_acquire)) {
    const uint64_t number = at < rpc::kRingMessages ? at + 1 : at - rpc::kRingMessages + 1;
    if (!reader.read(number, envelope)) continue;
    ++seen;
    all_whole = all_whole && envelope.session_id() == number && whole(envelope);
  }
  writing.join();
  CHECK(all_whole);
  CHECK(seen > 0);
}

TEST_CASE("a message ring cannot be changed by its reader, and is told from other files") {
  UniqueFd memory;
  const RingWriter writer = make_writer(memory);
  const int ring = memory.get();
  CHECK(::ftruncate(ring, 0) != 0);
  CHECK(::fallocate(ring, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) != 0);
  CHECK(::pwrite(ring, "x", 1, 0) < 0);
  CHECK(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring, 0) == MAP_FAILED);
  UniqueFd other(::memfd_create("other", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  REQUIRE(::ftruncate(other.get(), 4096) == 0);
  const auto refused = RingReader::open(std::move(other));
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().code == ErrorCode::protocol_violation);
}
