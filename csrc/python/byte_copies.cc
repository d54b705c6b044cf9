#include "csrc/python/byte_copies.h"

#include <ATen/Functions.h>
#include <pybind11/pybind11.h>

#include <cstring>

namespace rtswap::python {

at::Tensor bytes_at(void* address, uint64_t bytes, c10::Device device) {
  return at::for_blob(address, {static_cast<int64_t>(bytes)})
      .options(at::TensorOptions().dtype(at::kByte).device(device))
      .target_device(device)
      .make_tensor();
}

void copy_bytes(void* to, c10::Device to_device, void* from, c10::Device from_device,
                uint64_t bytes) {
  const pybind11::gil_scoped_release unlocked;
  if (to_device.is_cpu() && from_device.is_cpu()) {
    std::memcpy(to, from, bytes);
  } else {
    bytes_at(to, bytes, to_device).copy_(bytes_at(from, bytes, from_device));
  }
}

}  // namespace rtswap::python
