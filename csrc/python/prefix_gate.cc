#include "csrc/python/prefix_gate.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <pybind11/stl.h>
#include <torch/library.h>

#include <algorithm>
#include <utility>

#include "csrc/python/bindings.h"
#include "csrc/python/storage_gate.h"
#include "csrc/python/tensor_set.h"

namespace py = pybind11;

namespace rtswap::python {
namespace {

// torch leaves this key to libraries outside of it. It comes before autograd, autocast and vmap, so
// that the operator is seen as the program wrote it.
constexpr auto kKey = c10::DispatchKey::DeferredInit;

}  // namespace

class PrefixGate::State {
 public:
  State(std::vector<MemoryNeed> needs, uint32_t landed_chunks, py::function wait)
      : needs_(std::move(needs)), landed_(landed_chunks), wait_(std::move(wait)) {
    std::sort(needs_.begin(), needs_.end(),
              [](const MemoryNeed& a, const MemoryNeed& b) { return a.begin < b.begin; });
  }

  // What is left is plain memory, which a thread without the GIL may free.
  void end() { wait_ = {}; }

  // How many chunks must have landed for this value's memory to be there.
  uint32_t need(const c10::IValue& value) const {
    if (value.isTensor()) return need(value.toTensor());
    uint32_t most = 0;
    if (value.isTensorList()) {
      for (const at::Tensor& tensor : value.toTensorVector()) most = std::max(most, need(tensor));
    } else if (value.isList()) {  // of optional tensors, for example
      for (const c10::IValue& entry : value.toListRef()) most = std::max(most, need(entry));
    }
    return most;
  }

  void await(uint32_t chunks) {
    if (chunks <= landed_) return;
    py::gil_scoped_acquire locked;
    const py::object wait = wait_;  // which may end this gate
    if (!wait) return;
    landed_ = wait(chunks).cast<uint32_t>();
  }

 private:
  uint32_t need(const at::Tensor& tensor) const {
    if (!tensor.defined() || !tensor.has_storage()) return 0;
    const auto address = reinterpret_cast<uintptr_t>(
        address_of(*tensor.unsafeGetTensorImpl()->unsafe_storage().unsafeGetStorageImpl()));
    const auto after = std::upper_bound(
        needs_.begin(), needs_.end(), address,
        [](uintptr_t place, const MemoryNeed& entry) { return place < entry.begin; });
    if (after == needs_.begin()) return 0;
    const MemoryNeed& entry = *std::prev(after);
    return address < entry.end ? entry.chunks : 0;
  }

  std::vector<MemoryNeed> needs_;
  std::atomic<uint32_t> landed_;
  py::object wait_;  // guarded by the GIL
};

namespace {

using Gates = std::vector<std::shared_ptr<PrefixGate::State>>;

// Of the whole process: usually one, one for each device at most. Which threads pass them is said
// by the key in the state of the thread. Replaced as a whole, with the GIL.
std::atomic<std::shared_ptr<const Gates>> entered = std::make_shared<const Gates>();

void pass(const c10::OperatorHandle& op, c10::DispatchKeySet keys, c10::Stack* stack) {
  const std::shared_ptr<const Gates> gates = entered.load();
  if (gates->empty()) c10::impl::tls_set_dispatch_key_included(kKey, false);
  for (const auto& gate : *gates) {
    uint32_t chunks = 0;
    for (const c10::IValue& value : torch::jit::last(*stack, op.schema().arguments().size())) {
      chunks = std::max(chunks, gate->need(value));
    }
    gate->await(chunks);
  }
  op.redispatchBoxed(keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, kKey), stack);
}

}  // namespace

TORCH_LIBRARY_IMPL(_, DeferredInit, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&pass>());
}

PrefixGate::PrefixGate(std::vector<MemoryNeed> needs, uint32_t landed_chunks, py::function wait)
    : state_(std::make_shared<State>(std::move(needs), landed_chunks, std::move(wait))) {}

PrefixGate::~PrefixGate() { leave(); }

void PrefixGate::enter() {
  Gates gates = *entered.load();
  gates.push_back(state_);
  entered = std::make_shared<const Gates>(std::move(gates));
  c10::impl::tls_set_dispatch_key_included(kKey, true);
}

void PrefixGate::leave() {
  state_->end();
  Gates gates = *entered.load();
  if (std::erase(gates, state_) == 0) return;
  // Other threads notice at their next operator.
  if (gates.empty()) c10::impl::tls_set_dispatch_key_included(kKey, false);
  entered = std::make_shared<const Gates>(std::move(gates));
}

void bind_prefix_gate(py::module_& module) {
  py::class_<PrefixGate>(module, "PrefixGate")
      .def(py::init([](const std::vector<const TensorSet*>& sets, uint32_t landed_chunks,
                       py::function wait) {
             std::vector<MemoryNeed> needs;
             for (const TensorSet* set : sets) set->add_needs(needs);
             return std::make_unique<PrefixGate>(std::move(needs), landed_chunks, std::move(wait));
           }),
           py::arg("sets"), py::arg("landed_chunks"), py::arg("wait"))
      .def("enter", &PrefixGate::enter)
      .def("leave", &PrefixGate::leave);
}

}  // namespace rtswap::python
