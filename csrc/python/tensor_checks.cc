#include "csrc/python/tensor_checks.h"

#include <pybind11/pybind11.h>
#include <torch/csrc/utils/pybind.h>

#include "csrc/python/arena_lease.h"
#include "csrc/python/errors.h"

namespace rtswap::python {
namespace {

[[noreturn]] void refuse(ErrorCode code, const std::string& name, const std::string& why) {
  raise(Error{code, "'" + name + "' cannot be made swappable: " + why});
}

std::string type_name(const at::Tensor& tensor) {
  const pybind11::object object = pybind11::cast(tensor);
  return pybind11::type::of(object).attr("__name__").cast<std::string>();
}

}  // namespace

void check_type(const NamedTensor& entry, c10::Device device, bool meta_allowed) {
  const at::Tensor& tensor = entry.tensor;
  if (tensor.is_meta() && !meta_allowed) {
    refuse(ErrorCode::unsupported, entry.name,
           "it is on the meta device and has no bytes. Say where they are (weights= of "
           "safetensors files), or give it memory first (module.to_empty and load its weights).");
  }
  if (tensor.is_nested()) {
    refuse(ErrorCode::unsupported, entry.name,
           "it is a nested tensor, whose sizes lie in memory of their own. Keep it out of the "
           "modules, or pad it.");
  }
  if (tensor.layout() != at::kStrided) {
    refuse(ErrorCode::unsupported, entry.name,
           "its layout is opaque to torch's storages (sparse or mkldnn). Only dense strided "
           "tensors have memory that can be moved.");
  }
  if (tensor.is_quantized()) {
    refuse(ErrorCode::unsupported, entry.name,
           "it is a quantised tensor. Use quantisation that keeps plain integer tensors "
           "(torchao), or leave this module out.");
  }
  if (tensor.is_conj() || tensor.is_neg()) {
    refuse(ErrorCode::unsupported, entry.name,
           "it is a lazy conjugate or negative view. Call resolve_conj()/resolve_neg() first.");
  }
  if (!tensor.has_storage()) {
    refuse(ErrorCode::unsupported, entry.name, "its type has no storage of its own.");
  }
  const bool here = tensor.device() == device;
  if (!here && !tensor.device().is_cpu() && !tensor.is_meta()) {
    refuse(ErrorCode::invalid_argument, entry.name,
           "it is on " + tensor.device().str() + ", the task computes on " + device.str() +
               ". Move it there or to the CPU first.");
  }
}

void check_memory(const NamedTensor& entry) {
  c10::StorageImpl& storage = *entry.tensor.storage().unsafeGetStorageImpl();
  c10::DataPtr& pointer = storage._mutable_data_ptr_no_checks();
  if (const std::string* owner = lease_owner(pointer)) {
    refuse(ErrorCode::invalid_argument, entry.name,
           "it already belongs to " + *owner +
               ". Several release patterns on one model: task.share(name=...).");
  }
  if (pointer.get() == nullptr) {
    refuse(ErrorCode::unsupported, entry.name,
           "this " + type_name(entry.tensor) +
               " has no memory of its own. It was freed (resize_(0)), is a fake tensor, or is a "
               "subclass that hides its tensors: one with __tensor_flatten__ can be moved.");
  }
  if (pointer.get_context() == nullptr) {
    refuse(ErrorCode::invalid_argument, entry.name,
           "torch does not own its memory (from_blob without a deleter), so others may keep a "
           "pointer to it. Clone it first.");
  }
}

}  // namespace rtswap::python
