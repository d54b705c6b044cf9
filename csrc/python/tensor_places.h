// Where the tensors of a set have to lie, as flat arrays in the order of a walk. A job walks over
// all of them when it is requested, when it starts and when it ends, with little of it in the
// caches: each walk is one call, and what it reads of a tensor is next to each other.
//
// LibTorch only. Threads: with the GIL held.
#pragma once

#include <c10/core/StorageImpl.h>
#include <c10/core/TensorImpl.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace rtswap::python {

class TensorPlaces {
 public:
  // A storage and where it has to point. `counted`: whether writes to it matter. Storages and
  // tensors are kept alive by the caller.
  void add_storage(c10::StorageImpl& storage, const void* address, bool counted);
  // One more tensor over the storage that was added last.
  void add_tensor(const c10::TensorImpl& tensor);

  // Every storage points to its place, and every tensor has its storage.
  bool intact() const;

  void open();
  // Opens all storages and notes versions, in one walk.
  void open_noting_versions();
  // Closes all storages, which must have been closed with a message before, and tells whether
  // version counters count a write since versions were noted.
  bool close();

  // Remembers the version counters of the counted storages.
  void note_versions();
  // Of one storage, numbered in the order of add_storage.
  bool written(size_t index) const;
  // Its tensors have no version counters (inference mode), so that writes cannot be noticed.
  bool uncountable(size_t index) const;

 private:
  struct Place {
    c10::StorageImpl* storage;
    const void* address;
    int64_t version;       // as of note_versions, when counted; -1: it has none
    uint32_t tensors_end;  // after its last one in tensors_
    bool counted;
  };

  uint32_t tensors_begin(size_t index) const {
    return index == 0 ? 0 : places_[index - 1].tensors_end;
  }
  // The sum over the tensors of a storage; empty: one of them has no counter.
  std::optional<int64_t> version(size_t index) const;

  std::vector<Place> places_;
  std::vector<const c10::TensorImpl*> tensors_;
};

}  // namespace rtswap::python
