#include "csrc/bank/bank.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "csrc/bank/descriptors.h"
#include "csrc/base/check.h"
#include "csrc/base/units.h"

namespace rtswap::bank {
namespace {

using namespace rtswap::literals;

constexpr uint64_t kChunksOfDefault = 128;
constexpr uint64_t kSmallestDefault_bytes = 2_MiB;
constexpr uint64_t kLargestDefault_bytes = 32_MiB;

Result<std::string> random_id() {
  std::array<unsigned char, 16> bytes{};
  size_t filled = 0;
  while (filled < bytes.size()) {
    const ssize_t got = getrandom(bytes.data() + filled, bytes.size() - filled, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return fail(ErrorCode::unsupported,
                  std::string("the kernel gives no random bytes for the id of a bank: ") +
                      std::strerror(errno));
    }
    filled += static_cast<size_t>(got);
  }
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

Status check_shape(const driver::Driver& driver, uint64_t chunk_bytes, uint64_t chunk_count) {
  const uint64_t granularity_bytes = driver.info().granularity_bytes;
  if (chunk_bytes == 0 || chunk_bytes % granularity_bytes != 0) {
    return fail(ErrorCode::invalid_argument,
                "a chunk of " + std::to_string(chunk_bytes) + " bytes is not possible: use a " +
                    "multiple of " + std::to_string(granularity_bytes) + " bytes, the granularity" +
                    " of " + driver.info().name);
  }
  if (chunk_count == 0) {
    return fail(ErrorCode::invalid_argument,
                "a bank needs at least one chunk; the budget is smaller than a chunk of " +
                    std::to_string(chunk_bytes) + " bytes");
  }
  return {};
}

Error with_context(Error error, uint64_t done, uint64_t total, uint64_t chunk_bytes,
                   const char* what) {
  error.message = "chunk " + std::to_string(done + 1) + " of " + std::to_string(total) + " (" +
                  std::to_string(chunk_bytes) + " bytes each) could not be " + what + ": " +
                  error.message;
  return error;
}

}  // namespace

uint64_t default_chunk_bytes(uint64_t budget_bytes) noexcept {
  const uint64_t even_bytes = budget_bytes / kChunksOfDefault;
  return std::clamp(std::bit_floor(even_bytes), kSmallestDefault_bytes, kLargestDefault_bytes);
}

Bank::Bank(driver::Driver& driver, std::string id, uint64_t chunk_bytes)
    : driver_(driver), id_(std::move(id)), chunk_bytes_(chunk_bytes) {}

Bank::~Bank() {
  // A handle that the driver does not take back ends with the process; there is nobody to tell.
  for (const driver::ChunkHandle handle : handles_) (void)driver_.release_chunk(handle);
}

Result<std::unique_ptr<Bank>> Bank::create(driver::Driver& driver, uint64_t chunk_bytes,
                                           uint32_t chunk_count, const Progress& progress) {
  RTSWAP_TRY(check_shape(driver, chunk_bytes, chunk_count));
  RTSWAP_TRY(
      make_room_for_descriptors(chunk_count, descriptors_of_bank(driver.info(), chunk_count)));
  RTSWAP_ASSIGN(std::string id, random_id());
  // On an early return the destructor gives back what was made so far.
  std::unique_ptr<Bank> bank(new Bank(driver, std::move(id), chunk_bytes));
  bank->handles_.reserve(chunk_count);
  bank->descriptors_.reserve(chunk_count);
  for (uint32_t i = 0; i < chunk_count; ++i) {
    const auto context = [&](Error error, const char* what) {
      return fail(with_context(std::move(error), i, chunk_count, chunk_bytes, what));
    };
    auto chunk = driver.create_chunk(chunk_bytes);
    if (!chunk) return context(std::move(chunk).error(), "created");
    bank->handles_.push_back(*chunk);
    auto descriptor = driver.export_chunk(*chunk).transform(move_up);
    if (!descriptor) return context(std::move(descriptor).error(), "exported");
    bank->descriptors_.push_back(*std::move(descriptor));
    if (progress) progress(i + 1, chunk_count);
  }
  return bank;
}

Result<std::unique_ptr<Bank>> Bank::import(driver::Driver& driver, std::string id,
                                           uint64_t chunk_bytes,
                                           std::vector<UniqueFd> descriptors) {
  const auto chunk_count = static_cast<uint32_t>(descriptors.size());
  RTSWAP_TRY(check_shape(driver, chunk_bytes, descriptors.size()));
  // Those that came are open already: one more each, for the move or for a simulated chunk.
  RTSWAP_TRY(make_room_for_descriptors(chunk_count, chunk_count));
  std::unique_ptr<Bank> bank(new Bank(driver, std::move(id), chunk_bytes));
  bank->handles_.reserve(chunk_count);
  bank->descriptors_.reserve(chunk_count);
  for (uint32_t i = 0; i < chunk_count; ++i) {
    const auto context = [&](Error error) {
      return fail(with_context(std::move(error), i, chunk_count, chunk_bytes, "imported"));
    };
    UniqueFd descriptor = move_up(std::move(descriptors[i]));
    auto chunk = driver.import_chunk(descriptor.get(), chunk_bytes);
    if (!chunk) return context(std::move(chunk).error());
    bank->handles_.push_back(*chunk);
    bank->descriptors_.push_back(std::move(descriptor));
  }
  return bank;
}

driver::ChunkHandle Bank::handle(uint32_t chunk) const {
  RTSWAP_CHECK(chunk < handles_.size(), "chunk " + std::to_string(chunk));
  return handles_[chunk];
}

int Bank::descriptor(uint32_t chunk) const {
  RTSWAP_CHECK(chunk < descriptors_.size(), "chunk " + std::to_string(chunk));
  return descriptors_[chunk].get();
}

std::vector<int> Bank::descriptors() const {
  std::vector<int> result;
  result.reserve(descriptors_.size());
  for (const UniqueFd& descriptor : descriptors_) result.push_back(descriptor.get());
  return result;
}

}  // namespace rtswap::bank
