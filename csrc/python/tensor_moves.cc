// Moving the tensors of a set into their arena, and out of it.
#include <ATen/Functions.h>
#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "csrc/base/check.h"
#include "csrc/base/units.h"
#include "csrc/python/arena_lease.h"
#include "csrc/python/byte_copies.h"
#include "csrc/python/storage_gate.h"
#include "csrc/python/tensor_set.h"

namespace rtswap::python {
namespace {

using engine::Kind;

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

}  // namespace

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
