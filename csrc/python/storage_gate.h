// Closing and opening one torch storage. A closed storage keeps its memory and its pointer; every
// access to the pointer through torch raises a RuntimeError with the given message instead, old
// views and tied tensors included, because the mark is on the StorageImpl that they share.
//
// LibTorch only.
#pragma once

#include <c10/core/StorageImpl.h>

#include <string>
#include <utility>

namespace rtswap::python {

// torch 2.13 has a way to open a storage again; before that the flag is private. An explicit
// template instantiation may name private members, which is the one legal way to reach it.
template <class Tag, typename Tag::Member kMember>
struct Expose {
  friend constexpr typename Tag::Member exposed(Tag) { return kMember; }
};
struct ThrowFlag {
  using Member = bool c10::StorageImpl::*;
  friend constexpr Member exposed(ThrowFlag);
};
template struct Expose<ThrowFlag, &c10::StorageImpl::throw_on_immutable_data_ptr_>;

template <class Impl>
concept CanBeCleared = requires(Impl& storage) {
  storage.clear_data_ptr_access_error_msg_();
};

// Despite its name torch's call releases nothing. Idempotent; the last message wins.
inline void close_storage(c10::StorageImpl& storage, const std::string& message) {
  storage.release_data_and_set_meta_custom_data_ptr_error_msg_(message);
}

// Idempotent. A template, so that the branch for the other torch is never compiled.
template <class Impl = c10::StorageImpl>
void open_storage(Impl& storage) {
  if constexpr (CanBeCleared<Impl>) {
    storage.clear_data_ptr_access_error_msg_();
  } else {
    storage.*exposed(ThrowFlag{}) = false;
    // Setting the pointer to what it is refreshes the flag that torch caches for speed.
    c10::DataPtr same = std::move(storage._mutable_data_ptr_no_checks());
    storage.set_data_ptr_noswap(std::move(same));
  }
}

// The pointer, whether the storage is open or not.
inline void* address_of(c10::StorageImpl& storage) {
  return storage._mutable_data_ptr_no_checks().get();
}

}  // namespace rtswap::python
