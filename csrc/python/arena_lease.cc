#include "csrc/python/arena_lease.h"

#include <utility>

namespace rtswap::python {
namespace {

struct Lease {
  std::shared_ptr<void> arena;
  std::string owner;
};
void drop_lease(void* lease) { delete static_cast<Lease*>(lease); }

}  // namespace

c10::DataPtr lease_address(void* address, c10::Device device, std::shared_ptr<void> arena,
                           const std::string& owner) {
  return {address, new Lease{std::move(arena), owner}, &drop_lease, device};
}

const std::string* lease_owner(const c10::DataPtr& pointer) {
  if (pointer.get_deleter() != &drop_lease) return nullptr;
  return &static_cast<const Lease*>(pointer.get_context())->owner;
}

}  // namespace rtswap::python
