#include "csrc/rpc/message_ring.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

namespace rtswap::rpc {

namespace {

using Word = std::atomic<uint64_t>;
static_assert(Word::is_always_lock_free && sizeof(Word) == 8);  // shared between processes

constexpr size_t kWords = kMaxRingMessage_bytes / sizeof(Word);

// A sequence lock whose sequence is the number of the message: 0 while it is written. Words are
// stored with release and loaded with acquire, so that a reader who saw one of a later message also
// sees that the number has changed.
struct Slot {
  Word number;
  Word bytes;
  std::array<Word, kWords> words;
};

}  // namespace

class RingSlots {
 public:
  Slot& of(uint64_t number) { return slots_[number % kRingMessages]; }
  const Slot& of(uint64_t number) const { return slots_[number % kRingMessages]; }

 private:
  std::array<Slot, kRingMessages> slots_;
};

namespace {

Result<void*> map(int memory, int protection) {
  void* const address = mmap(nullptr, sizeof(RingSlots), protection, MAP_SHARED, memory, 0);
  if (address != MAP_FAILED) return address;
  return fail(ErrorCode::out_of_memory,
              std::string("the memory of a message ring cannot be mapped: ") + strerror(errno));
}

void unmap(const RingSlots* slots) {
  if (slots != nullptr) munmap(const_cast<RingSlots*>(slots), sizeof(RingSlots));
}

}  // namespace

Result<RingWriter> RingWriter::create(UniqueFd& memory) {
  memory.reset(memfd_create("rtswap-messages", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory) {
    return fail(ErrorCode::descriptor_limit,
                std::string("no memory for a message ring: ") + strerror(errno));
  }
  const auto no_memory = [] {
    return fail(ErrorCode::out_of_memory,
                std::string("no memory for a message ring: ") + strerror(errno));
  };
  if (ftruncate(memory.get(), sizeof(RingSlots)) != 0) return no_memory();
  RTSWAP_ASSIGN(void* const address, map(memory.get(), PROT_READ | PROT_WRITE));
  RingWriter ring(new (address) RingSlots());
  // Who gets the descriptor cannot take away size or pages: this process would fault, or die, at
  // its next message.
  constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
  if (fcntl(memory.get(), F_ADD_SEALS, kSeals) != 0) return no_memory();
  return ring;
}

RingWriter::RingWriter(RingWriter&& other) noexcept
    : slots_(std::exchange(other.slots_, nullptr)) {}

RingWriter::~RingWriter() { unmap(slots_); }

void RingWriter::put(uint64_t number, const google::protobuf::MessageLite& message) {
  const size_t bytes = message.ByteSizeLong();
  if (bytes > kMaxRingMessage_bytes) return;
  std::array<uint64_t, kWords> words{};  // the end of the last word is shared, too
  message.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(words.data()));
  Slot& slot = slots_->of(number);
  slot.number.store(0, std::memory_order_relaxed);
  slot.bytes.store(bytes, std::memory_order_release);
  for (size_t i = 0; i * sizeof(Word) < bytes; ++i) {
    slot.words[i].store(words[i], std::memory_order_release);
  }
  slot.number.store(number, std::memory_order_release);
}

Result<RingReader> RingReader::open(UniqueFd memory) {
  struct stat info {};
  const int seals = fcntl(memory.get(), F_GET_SEALS);
  if (fstat(memory.get(), &info) != 0 || seals < 0 || (seals & F_SEAL_SHRINK) == 0 ||
      info.st_size != static_cast<off_t>(sizeof(RingSlots))) {
    return fail(ErrorCode::protocol_violation, "what rtswapd passed on is not a message ring");
  }
  RTSWAP_ASSIGN(const void* const address, map(memory.get(), PROT_READ));
  return RingReader(static_cast<const RingSlots*>(address));
}

RingReader::RingReader(RingReader&& other) noexcept
    : slots_(std::exchange(other.slots_, nullptr)) {}

RingReader::~RingReader() { unmap(slots_); }

bool RingReader::read(uint64_t number, google::protobuf::MessageLite& message) const {
  const Slot& slot = slots_->of(number);
  if (slot.number.load(std::memory_order_acquire) != number) return false;
  const uint64_t bytes = slot.bytes.load(std::memory_order_acquire);
  if (bytes > kMaxRingMessage_bytes) return false;
  std::array<uint64_t, kWords> words;
  for (size_t i = 0; i * sizeof(Word) < bytes; ++i) {
    words[i] = slot.words[i].load(std::memory_order_acquire);
  }
  if (slot.number.load(std::memory_order_relaxed) != number) return false;
  return message.ParseFromArray(words.data(), static_cast<int>(bytes));
}

}  // namespace rtswap::rpc
