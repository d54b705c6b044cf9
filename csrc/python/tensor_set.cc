#include "csrc/python/tensor_set.h"

#include <algorithm>
#include <utility>

#include "csrc/base/check.h"
#include "csrc/base/units.h"
#include "csrc/python/byte_copies.h"
#include "csrc/python/storage_gate.h"

namespace rtswap::python {
namespace {

using engine::Kind;

// torch aligns its own allocations to 512 bytes on CUDA; kernels choose vector widths by it.
constexpr uint64_t kAlignmentBytes = 512;

size_t kind_index(Kind kind) { return static_cast<size_t>(kind); }

// Byte range [first, second) of its storage that a tensor can touch. REQUIRES: numel > 0.
std::pair<uint64_t, uint64_t> reach(const at::Tensor& tensor) {
  int64_t last = tensor.storage_offset();
  for (int64_t dim = 0; dim < tensor.dim(); ++dim) {
    last += (tensor.size(dim) - 1) * tensor.stride(dim);
  }
  const auto item = static_cast<uint64_t>(tensor.itemsize());
  return {static_cast<uint64_t>(tensor.storage_offset()) * item,
          static_cast<uint64_t>(last + 1) * item};
}

}  // namespace

TensorSet::TensorSet(std::vector<NamedTensor> tensors, c10::Device device, std::string owner,
                     bool meta_allowed)
    : tensors_(std::move(tensors)),
      device_(device),
      owner_(std::move(owner)),
      meta_allowed_(meta_allowed) {
  for (size_t index = 0; index < tensors_.size(); ++index) add(index);
  choose_parts();
  pack();
}

void TensorSet::add(size_t index) {
  const NamedTensor& entry = tensors_[index];
  check_type(entry, device_, meta_allowed_);
  if (entry.tensor.numel() == 0) return;
  if (!entry.tensor.is_meta()) check_memory(entry);
  const c10::Storage& storage = entry.tensor.storage();
  const auto [found, is_new] =
      by_storage_.try_emplace(storage.unsafeGetStorageImpl(), extents_.size());
  if (is_new) {
    extents_.emplace_back(storage);
    extents_.back().kind = entry.kind;
  }
  Extent& extent = extents_[found->second];
  extent.members.push_back(index);
  // Memory that one view writes to must be written back whole; only agreement keeps it scratch.
  if (extent.kind != entry.kind) extent.kind = Kind::mutable_state;
}

// A small weight that is a view of a large checkpoint tensor must not drag all of it along.
void TensorSet::choose_parts() {
  for (Extent& extent : extents_) {
    uint64_t first = UINT64_MAX;
    uint64_t last = 0;
    for (const size_t member : extent.members) {
      const auto [begin, end] = reach(tensors_[member].tensor);
      first = std::min(first, begin);
      last = std::max(last, end);
    }
    const uint64_t whole = extent.source.nbytes();
    extent.resizable = extent.source.resizable();
    extent.partial = whole > 2 * (last - first);
    extent.begin_bytes = extent.partial ? first / kAlignmentBytes * kAlignmentBytes : 0;
    extent.bytes = extent.partial ? last - extent.begin_bytes : whole;
  }
}

void TensorSet::pack() {
  for (Extent& extent : extents_) {
    uint64_t& used = bytes_[kind_index(extent.kind)];
    extent.offset_bytes = used;
    used += round_up(extent.bytes, kAlignmentBytes);
  }
}

uint64_t TensorSet::bytes(Kind kind) const { return bytes_[kind_index(kind)]; }

// Another device cannot be entered by a new pointer (dispatch keys), nor can a part of a storage.
bool TensorSet::stays(const Extent& extent) const {
  return extent.origin == device_ && !extent.partial && !extent.empty;
}

std::vector<std::string> TensorSet::left_behind() const {
  std::vector<std::string> names;
  for (const Extent& extent : extents_) {
    if (stays(extent)) continue;
    std::vector<const c10::TensorImpl*> known;
    for (const size_t member : extent.members) {
      known.push_back(tensors_[member].tensor.unsafeGetTensorImpl());
    }
    std::sort(known.begin(), known.end());
    known.erase(std::unique(known.begin(), known.end()), known.end());
    // One reference is this set's own; one may belong to the Python object of the storage.
    const c10::StorageImpl& storage = *extent.source.unsafeGetStorageImpl();
    const size_t own = 1 + (storage.pyobj_slot()->load_pyobj() != nullptr ? 1 : 0);
    if (extent.source.use_count() > known.size() + own) {
      names.push_back(tensors_[extent.members.front()].name);
    }
  }
  return names;
}

void TensorSet::fill(Kind kind, const engine::Segment& segment) {
  RTSWAP_CHECK(segment.bytes >= bytes(kind), owner_);
  for (Extent& extent : extents_) {
    if (extent.kind != kind) continue;
    extent.address = reinterpret_cast<void*>(segment.address + extent.offset_bytes);
    const uint64_t last_byte = extent.offset_bytes + std::max<uint64_t>(extent.bytes, 1) - 1;
    extent.chunks =
        segment.first_position + static_cast<uint32_t>(last_byte / segment.chunk_bytes) + 1;
    if (segment.host == nullptr) continue;  // scratch
    extent.host = segment.host + extent.offset_bytes;
    if (extent.empty) continue;
    auto* from = static_cast<std::byte*>(address_of(*extent.source.unsafeGetStorageImpl()));
    copy_bytes(extent.host, c10::Device(c10::kCPU), from + extent.begin_bytes, extent.origin,
               extent.bytes);
  }
}

std::span<std::byte> TensorSet::image_of(const at::Tensor& tensor) const {
  if (tensor.numel() == 0) return {};
  const auto found = by_storage_.find(tensor.storage().unsafeGetStorageImpl());
  RTSWAP_CHECK(found != by_storage_.end() && tensor.is_contiguous() && !committed_, owner_);
  const Extent& extent = extents_[found->second];
  if (extent.host == nullptr) return {};
  const auto [begin, end] = reach(tensor);
  return {extent.host + (begin - extent.begin_bytes), end - begin};
}

bool TensorSet::holds(const at::Tensor& tensor) const {
  if (tensor.numel() == 0) return true;
  if (!tensor.has_storage()) return false;
  const c10::StorageImpl* storage = tensor.storage().unsafeGetStorageImpl();
  return std::any_of(extents_.begin(), extents_.end(), [&](const Extent& extent) {
    return extent.home.unsafeGetStorageImpl() == storage;
  });
}

std::vector<std::string> TensorSet::escaped() const {
  std::vector<std::string> names = watches_.replaced();
  for (const Extent& extent : extents_) {
    c10::StorageImpl* home = extent.home.unsafeGetStorageImpl();
    const bool moved = address_of(*home) != extent.address;
    for (const size_t member : extent.members) {
      const NamedTensor& entry = tensors_[member];
      const c10::TensorImpl* impl = entry.tensor.unsafeGetTensorImpl();
      if (!moved && impl->unsafe_storage().unsafeGetStorageImpl() == home) continue;
      if (std::find(names.begin(), names.end(), entry.name) == names.end()) {
        names.push_back(entry.name);
      }
    }
  }
  return names;
}

void TensorSet::close(const std::string& message) {
  for (Extent& extent : extents_) close_storage(*extent.home.unsafeGetStorageImpl(), message);
}

void TensorSet::close_beyond(uint32_t landed_chunks, const std::string& message) {
  opened_ = 0;
  open_up_to(landed_chunks);
  for (size_t i = opened_; i < by_chunks_.size(); ++i) {
    close_storage(*extents_[by_chunks_[i]].home.unsafeGetStorageImpl(), message);
  }
}

void TensorSet::open_up_to(uint32_t landed_chunks) {
  for (; opened_ < by_chunks_.size(); ++opened_) {
    Extent& extent = extents_[by_chunks_[opened_]];
    if (extent.chunks > landed_chunks) return;
    open_storage(*extent.home.unsafeGetStorageImpl());
  }
}

std::vector<std::string> TensorSet::beyond(uint32_t landed_chunks) const {
  std::vector<std::string> names;
  for (const Extent& extent : extents_) {
    if (extent.chunks <= landed_chunks) continue;
    for (const size_t member : extent.members) names.push_back(tensors_[member].name);
  }
  return names;
}

void TensorSet::add_needs(std::vector<MemoryNeed>& needs) const {
  for (const Extent& extent : extents_) {
    const auto begin = reinterpret_cast<uintptr_t>(extent.address);
    needs.push_back({begin, begin + extent.bytes, extent.chunks});
  }
}

std::vector<std::string> TensorSet::changed() const {
  std::vector<std::string> names;
  for (size_t i = 0; i < extents_.size(); ++i) {
    if (places_.written(i)) names.push_back(tensors_[extents_[i].members.front()].name);
  }
  return names;
}

uint64_t TensorSet::save_changed(bool uncounted) {
  uint64_t saved = 0;
  for (size_t i = 0; i < extents_.size(); ++i) {
    const Extent& extent = extents_[i];
    if (extent.kind != Kind::read_only) continue;
    if (!places_.written(i) && !(uncounted && places_.uncountable(i))) continue;
    copy_bytes(extent.host, c10::Device(c10::kCPU), extent.address, device_, extent.bytes);
    saved += extent.bytes;
  }
  return saved;
}

std::vector<at::Tensor> TensorSet::copy_mutable() const {
  std::vector<at::Tensor> copies;
  for (const Extent& extent : extents_) {
    if (extent.kind != Kind::mutable_state) continue;
    copies.push_back(bytes_at(extent.address, extent.bytes, device_).clone());
  }
  return copies;
}

void TensorSet::assign_mutable(const std::vector<at::Tensor>& bytes) {
  size_t next = 0;
  for (const Extent& extent : extents_) {
    if (extent.kind != Kind::mutable_state) continue;
    bytes_at(extent.address, extent.bytes, device_).copy_(bytes.at(next++));
  }
}

}  // namespace rtswap::python
