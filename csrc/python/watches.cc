#include "csrc/python/watches.h"

#include <algorithm>

namespace py = pybind11;

namespace rtswap::python {
namespace {

// nullptr: the key is gone.
const PyObject* value_now(const Watch& watch) {
  const PyObject* now = PyDict_GetItemWithError(watch.holder.ptr(), watch.key.ptr());
  if (now == nullptr && PyErr_Occurred() != nullptr) throw py::error_already_set();
  return now;
}

bool is_absent(const PyObject* value) { return value == nullptr || value == Py_None; }

}  // namespace

Watches::Watches(std::vector<Watch> tensors, std::vector<Watch> children,
                 const std::vector<py::dict>& tables)
    : tensors_(std::move(tensors)), children_(std::move(children)) {
  tables_.reserve(tables.size());
  for (const py::dict& table : tables) tables_.emplace_back(table, table.size());
}

std::vector<std::string> Watches::replaced() const {
  std::vector<std::string> names;
  for (const Watch& watch : tensors_) {
    const PyObject* now = value_now(watch);
    if (!is_absent(now) && now != watch.value.ptr()) names.push_back(watch.name);
  }
  return names;
}

bool Watches::restructured() const {
  for (const auto& [table, size] : tables_) {
    if (table.size() != size) return true;
  }
  for (const Watch& watch : children_) {
    if (value_now(watch) != watch.value.ptr()) return true;
  }
  // A tensor that was removed is a change of structure; one in whose place is another is not.
  return std::any_of(tensors_.begin(), tensors_.end(),
                     [](const Watch& watch) { return is_absent(value_now(watch)); });
}

}  // namespace rtswap::python
