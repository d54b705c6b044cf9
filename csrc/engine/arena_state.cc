#include "csrc/engine/arena_state.h"

#include <algorithm>
#include <string>

#include "csrc/base/check.h"
#include "csrc/base/units.h"

namespace rtswap::engine {
namespace {

// The positions of [first, end) whose flag is `value`.
std::vector<Range> ranges_of(const std::vector<bool>& flags, bool value, uint32_t first,
                             uint32_t end) {
  std::vector<Range> ranges;
  for (uint32_t position = first; position < end; ++position) {
    if (flags[position] != value) continue;
    if (!ranges.empty() && ranges.back().end() == position) {
      ++ranges.back().count;
    } else {
      ranges.push_back({position, 1});
    }
  }
  return ranges;
}

}  // namespace

Segment ArenaState::append(Kind kind, uint64_t bytes, driver::Address address, std::byte* host) {
  RTSWAP_CHECK(bytes > 0 && can_hold(bytes), std::to_string(bytes) + " bytes");
  const Segment segment{
      .address = address,
      .host = host,
      .bytes = bytes,
      .first_position = total(),
      .chunks = static_cast<uint32_t>(div_up(bytes, chunk_bytes_)),
      .chunk_bytes = chunk_bytes_,
      .kind = kind,
  };
  segments_.push_back(segment);
  used_.resize(used_.size() + segment.chunks, false);
  kept_.resize(used_.size(), false);
  guarded_.resize(used_.size(), false);
  if (host != nullptr) stats_.host_bytes += bytes;
  return segment;
}

void ArenaState::truncate(uint32_t first) {
  RTSWAP_CHECK(mapped() <= first && first <= total(),
               "mapped beyond position " + std::to_string(first));
  RTSWAP_CHECK(guarded({first, total() - first}).empty(),
               "guarded beyond position " + std::to_string(first));
  while (!segments_.empty() && segments_.back().first_position >= first) {
    if (segments_.back().host != nullptr) stats_.host_bytes -= segments_.back().bytes;
    used_.resize(segments_.back().first_position);
    segments_.pop_back();
  }
  RTSWAP_CHECK(total() == first, "no segment begins at position " + std::to_string(first));
  kept_.resize(first);
  guarded_.resize(first);
  once_mapped_ = std::min(once_mapped_, first);
}

bool ArenaState::can_hold(uint64_t more_bytes) const noexcept {
  // Not div_up, which overflows for sizes near the end of 64 bits.
  const uint64_t more_chunks = more_bytes / chunk_bytes_ + (more_bytes % chunk_bytes_ != 0 ? 1 : 0);
  return more_chunks <= UINT32_MAX - used_.size();
}

std::vector<uint32_t> ArenaState::resident_chunks() const {
  return {chunks_.begin(), chunks_.begin() + landed_};
}

void ArenaState::mapped_more(std::span<const uint32_t> chunks) {
  RTSWAP_CHECK(chunks.size() <= total() - mapped(), "mapped beyond the end of the arena");
  RTSWAP_CHECK(guarded({mapped(), static_cast<uint32_t>(chunks.size())}).empty(),
               "mapped over a guard at position " + std::to_string(mapped()));
  chunks_.insert(chunks_.end(), chunks.begin(), chunks.end());
  once_mapped_ = std::max(once_mapped_, mapped());
}

void ArenaState::landed_more(const Run& run) {
  RTSWAP_CHECK(run.positions.first == landed_ && run.positions.end() <= mapped(),
               "landed out of order at position " + std::to_string(run.positions.first));
  landed_ = run.positions.end();
  stats_.restored_bytes += run.copy_bytes;
}

void ArenaState::unmapped(const Run& run) {
  RTSWAP_CHECK(run.positions.end() == mapped(),
               "unmapped out of order at position " + std::to_string(run.positions.first));
  chunks_.resize(run.positions.first);
  if (run.positions.first >= landed_) return;
  landed_ = run.positions.first;
  std::fill_n(used_.begin() + run.positions.first, run.positions.count, false);
  stats_.evicted_bytes += run.copy_bytes;
}

std::vector<Range> ArenaState::positions_of(size_t segment,
                                            std::span<const ByteRange> bytes) const {
  const Segment& whole = segments_[segment];
  std::vector<Range> positions;
  for (const ByteRange& range : bytes) {
    const uint64_t offset_bytes = range.address - whole.address;
    RTSWAP_CHECK(offset_bytes <= whole.bytes && range.bytes <= whole.bytes - offset_bytes,
                 "bytes beyond their segment");
    const auto first = static_cast<uint32_t>(offset_bytes / chunk_bytes_);
    const auto end = static_cast<uint32_t>(div_up(offset_bytes + range.bytes, chunk_bytes_));
    positions.push_back({whole.first_position + first, end - first});
  }
  return positions;
}

bool ArenaState::can_keep(size_t segment, std::span<const ByteRange> bytes) const {
  for (const Range& range : positions_of(segment, bytes)) {
    for (uint32_t position = std::max(range.first, landed_); position < range.end(); ++position) {
      if (!kept_[position]) return false;
    }
  }
  return true;
}

void ArenaState::keep(size_t segment, std::span<const ByteRange> bytes) {
  const Segment& whole = segments_[segment];
  RTSWAP_CHECK(whole.kind == Kind::scratch && (bytes.empty() || whole.host != nullptr),
               "not a scratch segment with an image");
  RTSWAP_CHECK(can_keep(segment, bytes), "kept what is not there");
  const auto before = std::vector<bool>(kept_.begin() + whole.first_position,
                                        kept_.begin() + whole.first_position + whole.chunks);
  std::fill_n(kept_.begin() + whole.first_position, whole.chunks, false);
  for (const Range& range : positions_of(segment, bytes)) {
    std::fill_n(kept_.begin() + range.first, range.count, true);
  }
  for (uint32_t i = 0; i < whole.chunks; ++i) {
    const uint32_t position = whole.first_position + i;
    // What was kept before and has left since was saved then.
    used_[position] = kept_[position] && (used_[position] || !before[i]);
  }
}

void ArenaState::set_image(size_t segment, std::byte* host) {
  RTSWAP_CHECK(segments_[segment].host == nullptr, "an image of a segment that has one");
  segments_[segment].host = host;
  stats_.host_bytes += segments_[segment].bytes;
}

void ArenaState::mark_used() {
  for (const Segment& segment : segments_) {
    const auto end = segment.first_position + segment.chunks;
    for (uint32_t position = segment.first_position; position < end; ++position) {
      if (segment.kind == Kind::mutable_state || kept_[position]) used_[position] = true;
    }
  }
}

std::vector<Range> ArenaState::unsaved(uint32_t first) const {
  return ranges_of(used_, true, first, landed_);
}

std::vector<Range> ArenaState::exposed() const {
  return ranges_of(guarded_, false, mapped(), once_mapped_);
}

std::vector<Range> ArenaState::guarded(Range range) const {
  return ranges_of(guarded_, true, range.first, range.end());
}

void ArenaState::set_guarded(Range range, bool guarded) {
  RTSWAP_CHECK(mapped() <= range.first && range.end() <= total(),
               "a guard at position " + std::to_string(range.first));
  std::fill_n(guarded_.begin() + range.first, range.count, guarded);
}

ArenaStats ArenaState::stats() const {
  ArenaStats result = stats_;
  result.chunks = total();
  result.resident_chunks = landed_;
  result.kept_chunks = static_cast<uint32_t>(std::count(kept_.begin(), kept_.end(), true));
  result.guarded_chunks = static_cast<uint32_t>(std::count(guarded_.begin(), guarded_.end(), true));
  return result;
}

}  // namespace rtswap::engine
