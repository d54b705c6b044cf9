// NVIDIA's Multi-Process Service, under which rtswap cannot keep its promises: all clients share
// one context, so kernels of several tasks run at once, and a fault of one ends all.
#pragma once

#include <string>

namespace rtswap::driver {

// Where CUDA programs of this process look for the service: CUDA_MPS_PIPE_DIRECTORY, else
// /tmp/nvidia-mps.
std::string mps_pipe_directory();

// True when a control daemon listens there. Best effort: a daemon of another user is not seen.
bool mps_daemon_listens(const std::string& pipe_directory);

}  // namespace rtswap::driver
