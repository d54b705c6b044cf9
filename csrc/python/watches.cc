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

// Never the same again once the dictionary has changed, and never that of another one (PEP 509); 0:
// not known. Python 3.13 does not count all changes of a dictionary of attributes any more.
uint64_t version_of(PyObject* dictionary) {
#if PY_VERSION_HEX < 0x030D0000
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  return reinterpret_cast<PyDictObject*>(dictionary)->ma_version_tag;
#pragma GCC diagnostic pop
#else
  (void)dictionary;
  return 0;
#endif
}

bool is_absent(const PyObject* value) { return value == nullptr || value == Py_None; }

}  // namespace

Watches::Watches(std::vector<Watch> tensors, std::vector<Watch> children,
                 const std::vector<py::dict>& tables)
    : tensors_(std::move(tensors)), children_(std::move(children)) {
  tables_.reserve(tables.size());
  for (const py::dict& table : tables) tables_.emplace_back(table, table.size());
  for (const Watch& watch : tensors_) dictionaries_.push_back(watch.holder.ptr());
  for (const Watch& watch : children_) dictionaries_.push_back(watch.holder.ptr());
  for (const py::dict& table : tables) dictionaries_.push_back(table.ptr());
  std::sort(dictionaries_.begin(), dictionaries_.end());
  dictionaries_.erase(std::unique(dictionaries_.begin(), dictionaries_.end()), dictionaries_.end());
  // They may have changed since somebody found in them what is to be watched.
  versions_.assign(dictionaries_.size(), 0);
}

bool Watches::intact() {
  size_t known = 0;
  while (known < dictionaries_.size() && versions_[known] != 0 &&
         versions_[known] == version_of(dictionaries_[known])) {
    ++known;
  }
  if (known == dictionaries_.size()) return true;
  std::vector<uint64_t> versions;
  for (PyObject* const dictionary : dictionaries_) versions.push_back(version_of(dictionary));
  // Whatever is found, or thrown, is found again the next time.
  std::fill(versions_.begin(), versions_.end(), 0);
  if (!replaced().empty() || restructured()) return false;
  versions_ = std::move(versions);
  return true;
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
