// What a torch storage over an arena owns: the arena itself, and whose it is, for messages.
//
// LibTorch only.
#pragma once

#include <c10/core/Allocator.h>

#include <memory>
#include <string>

namespace rtswap::python {

// A pointer for a storage that keeps `arena` (may be null) alive.
c10::DataPtr lease_address(void* address, c10::Device device, std::shared_ptr<void> arena,
                           const std::string& owner);

// Whose arena the pointer lies in; nullptr: in none.
const std::string* lease_owner(const c10::DataPtr& pointer);

}  // namespace rtswap::python
