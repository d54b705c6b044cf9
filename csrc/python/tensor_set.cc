#include "csrc/python/tensor_set.h"

#include <ATen/Functions.h>
#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "csrc/base/check.h"
#include "csrc/base/units.h"
#include "csrc/python/arena_lease.h"
#include "csrc/python/storage_gate.h"

namespace py = pybind11;

namespace rtswap::python {
namespace {

using engine::Kind;

// torch aligns its own allocations to 512 bytes on CUDA; kernels choose vector widths by it.
constexpr uint64_t kAlignmentBytes = 512;

size_t kind_index(Kind kind) { return static_cast<size_t>(kind); }

// A tensor of bytes over memory that outlives it.
at::Tensor bytes_at(void* address, uint64_t bytes, c10::Device device) {
  return at::for_blob(address, {static_cast<int64_t>(bytes)})
      .options(at::TensorOptions().dtype(at::kByte).device(device))
      .target_device(device)
      .make_tensor();
}

void copy_bytes(void* to, c10::Device to_device, void* from, c10::Device from_device,
                uint64_t bytes) {
  py::gil_scoped_release unlocked;
  if (to_device.is_cpu() && from_device.is_cpu()) {
    std::memcpy(to, from, bytes);
  } else {
    bytes_at(to, bytes, to_device).copy_(bytes_at(from, bytes, from_device));
  }
}

// Memory of torch's CPU allocator that gives its pages back before it is freed, whenever that is:
// malloc keeps those of tensors below its threshold for later, together as much as a second model.
// malloc_trim() would look through all of them with the locks that other threads allocate under.
struct LastUse {
  c10::DataPtr memory;
  uint64_t bytes;

  ~LastUse() {
    const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    const uint64_t begin = round_up(reinterpret_cast<uint64_t>(memory.get()), page);
    const uint64_t end = (reinterpret_cast<uint64_t>(memory.get()) + bytes) / page * page;
    if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
  }
};

c10::DataPtr given_back_when_freed(c10::DataPtr memory, uint64_t bytes) {
  if (memory.get_deleter() != c10::GetDefaultCPUAllocator()->raw_deleter()) return memory;
  void* const data = memory.get();
  const c10::Device device = memory.device();
  auto* const use = new LastUse{std::move(memory), bytes};
  return {data, use, [](void* context) { delete static_cast<LastUse*>(context); }, device};
}

// The same tensor (type, sizes, strides) over another storage.
at::Tensor over(const c10::Storage& storage, const at::Tensor& like, int64_t offset_elements) {
  const auto options = like.options().device(storage.device());
  auto tensor = at::detail::make_tensor<c10::TensorImpl>(
      c10::Storage(storage), c10::DispatchKeySet(options.computeDispatchKey()), like.dtype());
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(),
                                                      offset_elements);
  return tensor;
}

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

void TensorSet::commit(std::shared_ptr<void> arena) {
  RTSWAP_CHECK(!committed_, owner_);
  for (Extent& extent : extents_) {
    RTSWAP_CHECK(extent.address != nullptr, owner_);
    if (stays(extent)) {
      move_in_place(extent, arena);
    } else {
      move_to_new_storage(extent, arena);
    }
    places_.add_storage(*extent.home.unsafeGetStorageImpl(), extent.address,
                        extent.kind == Kind::read_only);
    for (const size_t member : extent.members) {
      places_.add_tensor(*tensors_[member].tensor.unsafeGetTensorImpl());
    }
  }
  by_chunks_.resize(extents_.size());
  std::iota(by_chunks_.begin(), by_chunks_.end(), size_t{0});
  std::stable_sort(by_chunks_.begin(), by_chunks_.end(),
                   [this](size_t a, size_t b) { return extents_[a].chunks < extents_[b].chunks; });
  committed_ = true;
}

// The StorageImpl stays, so every alias moves with it, known to us or not.
void TensorSet::move_in_place(Extent& extent, std::shared_ptr<void> arena) {
  extent.home = extent.source;
  c10::StorageImpl& storage = *extent.home.unsafeGetStorageImpl();
  c10::DataPtr before =
      storage.set_data_ptr(lease_address(extent.address, device_, std::move(arena), owner_));
  given_back_when_freed(std::move(before), extent.bytes).clear();
  storage.set_resizable(false);
  extent.source = {};
}

// The tensors of the set get a storage of their own; identity is kept.
void TensorSet::move_to_new_storage(Extent& extent, std::shared_ptr<void> arena) {
  extent.home = c10::Storage(c10::make_intrusive<c10::StorageImpl>(
      c10::StorageImpl::use_byte_size_t(), extent.bytes,
      lease_address(extent.address, device_, std::move(arena), owner_), /*allocator=*/nullptr,
      /*resizable=*/false));
  point_members_at(extent, extent.home, -static_cast<int64_t>(extent.begin_bytes));
  // Others may have it, too: what is torch's own object of a storage is not told from theirs.
  c10::StorageImpl& source = *extent.source.unsafeGetStorageImpl();
  c10::DataPtr& memory = source._mutable_data_ptr_no_checks();
  memory = given_back_when_freed(std::move(memory), extent.source.nbytes());
  extent.source = {};
}

void TensorSet::point_members_at(Extent& extent, const c10::Storage& storage, int64_t shift_bytes) {
  for (const size_t member : extent.members) {
    at::Tensor& tensor = tensors_[member].tensor;
    const int64_t offset =
        tensor.storage_offset() + shift_bytes / static_cast<int64_t>(tensor.itemsize());
    const at::Tensor moved = over(storage, tensor, offset);
    if (tensor.is_meta()) {
      // What set_data does, without its rule that a meta tensor stays one.
      tensor.unsafeGetTensorImpl()->shallow_copy_from(moved.getIntrusivePtr());
    } else {
      tensor.set_data(moved);
    }
  }
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

void TensorSet::release() {
  if (!committed_) return;
  for (Extent& extent : extents_) release_one(extent);
  committed_ = false;
  by_chunks_.clear();
  places_ = {};
  extents_.clear();
  watches_ = {};
  tensors_.clear();
}

void TensorSet::release_one(Extent& extent) {
  c10::StorageImpl& home = *extent.home.unsafeGetStorageImpl();
  if (address_of(home) != extent.address) {  // escaped: its memory is not ours
    open_storage(home);
    return;
  }
  const auto options = at::TensorOptions().dtype(at::kByte).device(extent.origin);
  const at::Tensor fresh = at::empty({static_cast<int64_t>(extent.bytes)}, options);
  c10::StorageImpl& memory = *fresh.storage().unsafeGetStorageImpl();
  if (extent.host != nullptr) {
    copy_bytes(address_of(memory), extent.origin, extent.host, c10::Device(c10::kCPU),
               extent.bytes);
  }
  if (extent.origin == device_) {
    open_storage(home);
    home.set_data_ptr(std::move(memory._mutable_data_ptr_no_checks()));
    if (extent.resizable && home.allocator() != nullptr) home.set_resizable(true);
    return;
  }
  // Back to the CPU. Views made on the GPU meanwhile keep the closed storage.
  std::erase_if(extent.members, [&](size_t member) {
    return tensors_[member].tensor.storage().unsafeGetStorageImpl() != &home;
  });
  point_members_at(extent, fresh.storage(), 0);
  close_storage(home, owner_ + " was closed: this tensor was made from its model on the GPU and " +
                          "its memory is gone. Take it from the model again.");
}

}  // namespace rtswap::python
