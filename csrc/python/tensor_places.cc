#include "csrc/python/tensor_places.h"

#include "csrc/python/storage_gate.h"

namespace rtswap::python {

void TensorPlaces::add_storage(c10::StorageImpl& storage, const void* address, bool counted) {
  places_.push_back({&storage, address, 0, static_cast<uint32_t>(tensors_.size()), counted});
}

void TensorPlaces::add_tensor(const c10::TensorImpl& tensor) {
  tensors_.push_back(&tensor);
  ++places_.back().tensors_end;
}

bool TensorPlaces::intact() const {
  // Without a branch in the loop: reads of one tensor do not wait for those of the one before.
  bool intact = true;
  uint32_t tensor = 0;
  for (const Place& place : places_) {
    intact &= address_of(*place.storage) == place.address;
    for (; tensor < place.tensors_end; ++tensor) {
      intact &= tensors_[tensor]->unsafe_storage().unsafeGetStorageImpl() == place.storage;
    }
  }
  return intact;
}

void TensorPlaces::open() {
  for (const Place& place : places_) open_storage(*place.storage);
}

void TensorPlaces::open_noting_versions() {
  for (size_t i = 0; i < places_.size(); ++i) {
    Place& place = places_[i];
    open_storage(*place.storage);
    if (place.counted) place.version = version(i).value_or(-1);
  }
}

bool TensorPlaces::close() {
  bool any_written = false;
  for (size_t i = 0; i < places_.size(); ++i) {
    close_storage_again(*places_[i].storage);
    any_written |= written(i);
  }
  return any_written;
}

void TensorPlaces::note_versions() {
  for (size_t i = 0; i < places_.size(); ++i) {
    if (places_[i].counted) places_[i].version = version(i).value_or(-1);
  }
}

bool TensorPlaces::written(size_t index) const {
  if (!places_[index].counted) return false;
  const std::optional<int64_t> now = version(index);
  return now && *now != places_[index].version;
}

bool TensorPlaces::uncountable(size_t index) const { return !version(index); }

std::optional<int64_t> TensorPlaces::version(size_t index) const {
  int64_t sum = 0;
  for (uint32_t i = tensors_begin(index); i < places_[index].tensors_end; ++i) {
    const c10::VariableVersion& counter = tensors_[i]->version_counter();
    if (!counter.enabled()) return std::nullopt;
    sum += static_cast<int64_t>(counter.current_version());
  }
  return sum;
}

}  // namespace rtswap::python
