// Places in Python that should keep holding the objects they hold: how the change of a model is
// noticed that did not pass through us.
//
// Threads: with the GIL held.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace rtswap::python {

// `holder[key] is value`, for a tensor or a module.
struct Watch {
  std::string name;
  pybind11::dict holder;
  pybind11::object key;
  pybind11::object value;
};

class Watches {
 public:
  Watches() = default;
  // `tensors`: where modules hold them; `children`: where they hold each other; `tables`: all
  // dictionaries in which either can appear.
  Watches(std::vector<Watch> tensors, std::vector<Watch> children,
          const std::vector<pybind11::dict>& tables);

  // Nothing changed: neither of the next two has anything to say. Cheap where Python counts the
  // changes of dictionaries (up to 3.12): what was looked at once and did not change since is not
  // looked at again.
  bool intact();

  // Names of tensors in whose place is another object.
  std::vector<std::string> replaced() const;
  // A module was replaced, or entries were added or removed: the tree of modules has to be walked
  // again to know what that means.
  bool restructured() const;

 private:
  std::vector<Watch> tensors_;
  std::vector<Watch> children_;
  std::vector<std::pair<pybind11::dict, size_t>> tables_;  // with their sizes
  // All dictionaries of the above, once each, and their versions when they were looked at last.
  std::vector<PyObject*> dictionaries_;
  std::vector<uint64_t> versions_;
};

}  // namespace rtswap::python
