#include "csrc/driver/mps.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdlib>

#include "csrc/base/unique_fd.h"

namespace rtswap::driver {

std::string mps_pipe_directory() {
  const char* directory = std::getenv("CUDA_MPS_PIPE_DIRECTORY");
  return directory != nullptr && *directory != '\0' ? directory : "/tmp/nvidia-mps";
}

bool mps_daemon_listens(const std::string& pipe_directory) {
  // The pipe outlives the daemon. Opened for writing without waiting, it opens only when there is a
  // reader; nothing is written.
  const UniqueFd pipe(
      open((pipe_directory + "/control").c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
  struct stat info {};
  return pipe && fstat(pipe.get(), &info) == 0 && S_ISFIFO(info.st_mode);
}

}  // namespace rtswap::driver
