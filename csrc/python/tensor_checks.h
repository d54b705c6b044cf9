// Which tensors cannot be moved into an arena, and why.
//
// LibTorch only. Threads: with the GIL held.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "csrc/engine/engine.h"

namespace rtswap::python {

struct NamedTensor {
  std::string name;
  at::Tensor tensor;
  engine::Kind kind = engine::Kind::read_only;
};

// Type and place. `unsupported` (meta unless `meta_allowed`, sparse, quantised, opaque, lazy
// views), `invalid_argument` (neither on the CPU nor on `device`), as Python exceptions.
void check_type(const NamedTensor& entry, c10::Device device, bool meta_allowed);

// `unsupported` (no memory), `invalid_argument` (memory that torch does not own, or that lies in an
// arena already), as Python exceptions. REQUIRES: check_type passed and numel > 0.
void check_memory(const NamedTensor& entry);

}  // namespace rtswap::python
