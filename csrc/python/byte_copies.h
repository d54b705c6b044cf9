// Bytes between devices and host memory, by torch.
//
// LibTorch only.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace rtswap::python {

// A tensor of bytes over memory that outlives it.
at::Tensor bytes_at(void* address, uint64_t bytes, c10::Device device);

// Copies, on the current stream where a GPU is one of the two. REQUIRES: the GIL, which is released
// meanwhile.
void copy_bytes(void* to, c10::Device to_device, void* from, c10::Device from_device,
                uint64_t bytes);

}  // namespace rtswap::python
