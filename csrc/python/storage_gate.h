// Closing and opening one torch storage. A closed storage keeps its memory and its pointer; every
// access to the pointer through torch raises a RuntimeError with the given message instead, old
// views and tied tensors included, because the mark is on the StorageImpl that they share.
//
// Threads without the GIL may be on their way through a storage while it is opened or closed, so
// these touch flags alone: not the pointer, and the message, which a refused thread is reading,
// only when it is a new one.
//
// LibTorch only.
#pragma once

#include <c10/core/StorageImpl.h>

#include <string>

namespace rtswap::python {

// The flags are private, and torch's own calls to set them also replace the message. An explicit
// template instantiation may name private members, which is the one legal way to reach them.
template <class Tag, bool c10::StorageImpl::*kMember>
struct Expose {
  friend constexpr bool c10::StorageImpl::*exposed(Tag) { return kMember; }
};
struct Refused {
  friend constexpr bool c10::StorageImpl::*exposed(Refused);
};
struct Checked {  // whether mutable access looks at the other flags
  friend constexpr bool c10::StorageImpl::*exposed(Checked);
};
template struct Expose<Refused, &c10::StorageImpl::throw_on_immutable_data_ptr_>;
template struct Expose<Checked, &c10::StorageImpl::has_mutable_data_ptr_check_>;

// REQUIRES: close_storage was called for it before; its message is used again. Idempotent.
inline void close_storage_again(c10::StorageImpl& storage) {
  storage.*exposed(Checked{}) = true;
  storage.*exposed(Refused{}) = true;
}

// Idempotent.
inline void close_storage(c10::StorageImpl& storage, const std::string& message) {
  if (storage.get_extra_meta().custom_data_ptr_error_msg_ != message) {
    // Despite its name this releases nothing.
    storage.release_data_and_set_meta_custom_data_ptr_error_msg_(message);
    return;
  }
  close_storage_again(storage);
}

// Idempotent. What is checked at mutable access without being refused costs a nanosecond.
inline void open_storage(c10::StorageImpl& storage) { storage.*exposed(Refused{}) = false; }

// The pointer, whether the storage is open or not.
inline void* address_of(c10::StorageImpl& storage) {
  return storage._mutable_data_ptr_no_checks().get();
}

}  // namespace rtswap::python
