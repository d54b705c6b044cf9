// All tensors of one model's memory: the sets of its registrations and devices, which its jobs
// open and close together. A call for each step of a job, which walks over all of them.
//
// LibTorch only. Threads: with the GIL held, which no call releases.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "csrc/python/tensor_set.h"

namespace rtswap::python {

class ModelTensors {
 public:
  // `message`: what an access to a closed tensor raises.
  explicit ModelTensors(std::string message) : message_(std::move(message)) {}

  void set_message(std::string message);
  // One more set, which was committed and is open: closes it, unless somebody holds the memory.
  void add(std::shared_ptr<TensorSet> set);

  // Nothing escaped, nothing was restructured, and the memory was not retired.
  bool intact();

  // A grant begins: opens everything, or with `landed_chunks` what lies in the arena's first so
  // many (REQUIRES then: nobody holds it, one arena). Several may hold it. False: it was retired.
  bool open(pybind11::object holder, std::optional<uint32_t> landed_chunks);
  // A grant ends: closes everything, if nobody else holds it. False: version counters say that
  // read_only tensors were written. With `unless_written` the holder goes on holding them then,
  // closed, until what was written is saved. Idempotent.
  bool close(const pybind11::object& holder, bool unless_written);
  bool held() const { return !holders_.empty(); }

  // As those of TensorSet. REQUIRES: it is held.
  void close_beyond(uint32_t landed_chunks);
  void open_up_to(uint32_t landed_chunks);

  // For good: nobody gets at the tensors here any more. They stay as they are.
  void retire();
  bool retired() const { return retired_; }

 private:
  // Whether something was written.
  bool close_all();

  std::vector<std::shared_ptr<TensorSet>> sets_;
  std::vector<pybind11::object> holders_;
  std::string message_;
  bool message_is_new_ = false;  // to some of the storages
  bool all_open_ = false;
  bool retired_ = false;
};

}  // namespace rtswap::python
