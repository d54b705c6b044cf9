// A table of CUDA functions that stand for one GPU and remember what they were asked: for the parts
// of the CUDA driver that no machine with a healthy GPU can show.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "csrc/driver/cuda_api.h"

namespace rtswap::test {

// The state behind the functions, which have no argument for it: one at a time, reset per test.
struct FakeCuda {
  FakeCuda();   // becomes the one in use
  ~FakeCuda();  // of which there is none afterwards
  FakeCuda(const FakeCuda&) = delete;
  FakeCuda& operator=(const FakeCuda&) = delete;

  // The next call of the function after `skip` more returns this error.
  void fail(const std::string& function, driver::cuda::Code error, int skip = 0);

  driver::cuda::Api api;
  std::string device_name = "Fake GPU";
  int integrated = 0;
  int virtual_memory_management = 1;
  int posix_handles = 1;
  int device_count = 1;
  std::vector<std::string> calls;  // those that change something
  driver::cuda::Context current = nullptr;
  driver::cuda::Context at_last_call = nullptr;  // current when memory or streams were touched

  // Counts the call; its error, if one is due.
  driver::cuda::Code enter(const std::string& function);

 private:
  struct Planned {
    driver::cuda::Code error = 0;
    int skip = 0;
  };
  std::map<std::string, Planned> planned_;
};

// Contexts of the fake: that of the device, and one of somebody else.
driver::cuda::Context fake_primary_context();
driver::cuda::Context fake_other_context();

}  // namespace rtswap::test
