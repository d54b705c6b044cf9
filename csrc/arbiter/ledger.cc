#include "csrc/arbiter/ledger.h"

#include <algorithm>
#include <string>

#include "csrc/base/check.h"

namespace rtswap::arbiter {

Ledger::Ledger(uint32_t chunk_count) : owner_(chunk_count, 0) {
  for (uint32_t i = chunk_count; i > 0; --i) free_.push_back(i - 1);
}

uint32_t Ledger::held(Holder holder) const {
  return static_cast<uint32_t>(positions(holder).size());
}

bool Ledger::has_detached(Holder holder) const {
  const auto it = holdings_.find(holder);
  return it != holdings_.end() && !it->second.detached.empty();
}

uint32_t Ledger::owned(Holder holder) const {
  const auto it = holdings_.find(holder);
  if (it == holdings_.end()) return 0;
  size_t count = it->second.positions.size();
  for (const auto& group : it->second.detached) count += group.size();
  return static_cast<uint32_t>(count);
}

const std::vector<ChunkId>& Ledger::positions(Holder holder) const {
  static const std::vector<ChunkId> kNothing;
  const auto it = holdings_.find(holder);
  return it == holdings_.end() ? kNothing : it->second.positions;
}

std::vector<ChunkId> Ledger::grant(Holder holder, uint32_t count) {
  RTSWAP_CHECK(holder != 0 && count <= free_.size(), "grant of " + std::to_string(count) + " of " +
                                                         std::to_string(free_.size()) + " free");
  auto& positions = holdings_[holder].positions;
  std::vector<ChunkId> chunks;
  chunks.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    const ChunkId chunk = free_.back();
    free_.pop_back();
    RTSWAP_CHECK(owner_[chunk] == 0, "chunk " + std::to_string(chunk) + " was not free");
    owner_[chunk] = holder;
    chunks.push_back(chunk);
  }
  owned_ += count;
  positions.insert(positions.end(), chunks.begin(), chunks.end());
  return chunks;
}

void Ledger::free_chunk(Holder holder, ChunkId chunk) {
  RTSWAP_CHECK(owner_[chunk] == holder, "chunk " + std::to_string(chunk) + " is not its holder's");
  owner_[chunk] = 0;
  free_.push_back(chunk);
  --owned_;
}

void Ledger::truncate(Holder holder, uint32_t keep) {
  RTSWAP_CHECK(keep <= held(holder), "truncated to more than is held");
  const auto it = holdings_.find(holder);
  if (it == holdings_.end()) return;
  auto& positions = it->second.positions;
  while (positions.size() > keep) {
    free_chunk(holder, positions.back());
    positions.pop_back();
  }
}

void Ledger::detach(Holder holder, const std::vector<uint32_t>& borders) {
  if (borders.empty()) return;
  Holding& holding = holdings_.at(holder);
  auto& positions = holding.positions;
  for (size_t i = 0; i < borders.size(); ++i) {
    const size_t end = i + 1 < borders.size() ? borders[i + 1] : positions.size();
    RTSWAP_CHECK(borders[i] < end && end <= positions.size(), "nothing to detach");
    holding.detached.emplace_back(positions.begin() + borders[i], positions.begin() + end);
  }
  positions.resize(borders.front());
}

void Ledger::free_detached(Holder holder) {
  RTSWAP_CHECK(has_detached(holder), "nothing is detached");
  Holding& holding = holdings_.at(holder);
  for (const ChunkId chunk : holding.detached.front()) free_chunk(holder, chunk);
  holding.detached.pop_front();
}

bool Ledger::claim(Holder holder, const std::vector<ChunkId>& chunks) {
  RTSWAP_CHECK(owned(holder) == 0, "a claim by a holder that owns chunks");
  for (size_t i = 0; i < chunks.size(); ++i) {
    if (chunks[i] >= owner_.size() || owner_[chunks[i]] != 0) {
      for (size_t j = 0; j < i; ++j) owner_[chunks[j]] = 0;
      return false;
    }
    owner_[chunks[i]] = holder;  // also finds a chunk named twice
  }
  holdings_[holder].positions = chunks;
  owned_ += chunks.size();
  const auto taken = [this](ChunkId chunk) { return owner_[chunk] != 0; };
  free_.erase(std::remove_if(free_.begin(), free_.end(), taken), free_.end());
  return true;
}

void Ledger::release_all(Holder holder) {
  truncate(holder, 0);
  while (has_detached(holder)) free_detached(holder);
  holdings_.erase(holder);
}

void Ledger::check_counts() const {
  RTSWAP_CHECK(owned_ + free_.size() == owner_.size(),
               std::to_string(owned_) + " owned and " + std::to_string(free_.size()) + " free of " +
                   std::to_string(owner_.size()));
}

void Ledger::check() const {
  check_counts();
  std::vector<bool> seen(owner_.size(), false);
  const auto visit = [&](ChunkId chunk, Holder holder) {
    RTSWAP_CHECK(chunk < owner_.size() && !seen[chunk],
                 "chunk " + std::to_string(chunk) + " is in two lists");
    RTSWAP_CHECK(owner_[chunk] == holder,
                 "chunk " + std::to_string(chunk) + " is in a list of another holder");
    seen[chunk] = true;
  };
  for (const ChunkId chunk : free_) visit(chunk, 0);
  for (const auto& [holder, holding] : holdings_) {
    for (const ChunkId chunk : holding.positions) visit(chunk, holder);
    for (const auto& group : holding.detached) {
      for (const ChunkId chunk : group) visit(chunk, holder);
    }
  }
  RTSWAP_CHECK(std::find(seen.begin(), seen.end(), false) == seen.end(), "a chunk is in no list");
}

}  // namespace rtswap::arbiter
