#include "csrc/engine/verifier.h"

#include <cstring>

#include "csrc/base/check.h"

namespace rtswap::engine {

Result<uint64_t> Verifier::repair(const Run& run) {
  RTSWAP_CHECK(run.host != nullptr && run.copy_bytes <= chunk_bytes_,
               "not one chunk with an image");
  if (bounce_ == nullptr) {
    RTSWAP_ASSIGN(bounce_, images_.make(chunk_bytes_));
  }
  RTSWAP_ASSIGN(const driver::StreamHandle stream, stream_.open());
  RTSWAP_TRY(driver_.copy_to_host(bounce_->data(), run.address, run.copy_bytes, stream));
  RTSWAP_ASSIGN(const driver::EventHandle event, stream_.record());
  const Status completed = driver_.synchronize_event(event);
  stream_.give_back(event);
  RTSWAP_TRY(completed);
  if (std::memcmp(bounce_->data(), run.host, run.copy_bytes) == 0) return 0;
  uint64_t changed_bytes = 0;
  for (uint64_t i = 0; i < run.copy_bytes; ++i) {
    if (bounce_->data()[i] != run.host[i]) ++changed_bytes;
  }
  std::memcpy(run.host, bounce_->data(), run.copy_bytes);
  return changed_bytes;
}

}  // namespace rtswap::engine
