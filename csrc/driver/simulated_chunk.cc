#include "csrc/driver/simulated_chunk.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "csrc/base/units.h"

namespace rtswap::driver {
namespace {

using namespace rtswap::literals;

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW;

tl::unexpected<Error> system_failure(const std::string& call, int error) {
  const bool limit = error == EMFILE || error == ENFILE;
  const bool memory = error == ENOMEM || error == ENOSPC;
  return fail(limit    ? ErrorCode::descriptor_limit
              : memory ? ErrorCode::out_of_memory
                       : ErrorCode::driver_failure,
              "simulated device: " + call + ": " + std::strerror(error) +
                  (limit    ? "; raise the limit of open files (ulimit -n)"
                   : memory ? "; the host has no memory left to hold the device's chunks"
                            : ""));
}

// Writes instead of touching a mapping: the kernel answers a lack of memory with an error, not with
// SIGBUS, and there is no mapping to take down again.
Status fill_with_ff(int fd, uint64_t bytes) {
  static const std::vector<char> ff(1_MiB, '\xff');
  for (uint64_t offset = 0; offset < bytes;) {
    const ssize_t written = pwrite(fd, ff.data(), std::min<uint64_t>(ff.size(), bytes - offset),
                                   static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return system_failure("fill a chunk", written < 0 ? errno : ENOSPC);
    offset += static_cast<uint64_t>(written);
  }
  return {};
}

// Claims are POSIX record locks over the whole file. Not open-file-description locks: those are
// shared by everyone who received the same descriptor, and live on in forked children.
int lock_file(int fd, short type) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  return fcntl(fd, F_SETLK, &lock) == 0 ? 0 : errno;
}

pid_t lock_holder(int fd) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK ? lock.l_pid : 0;
}

}  // namespace

bool ChunkBudget::take_if_free(uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (used_bytes_ > total_bytes_ || bytes > total_bytes_ - used_bytes_) return false;
  used_bytes_ += bytes;
  return true;
}

void ChunkBudget::take(uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  used_bytes_ += bytes;
}

void ChunkBudget::give_back(uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  used_bytes_ -= bytes;
}

uint64_t ChunkBudget::free_bytes() const {
  const std::lock_guard lock(mutex_);
  return used_bytes_ > total_bytes_ ? 0 : total_bytes_ - used_bytes_;
}

Result<UniqueFd> duplicate_fd(int fd) {
  const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return system_failure("duplicate descriptor " + std::to_string(fd), errno);
  return UniqueFd(copy);
}

SimulatedChunk::SimulatedChunk(UniqueFd fd, uint64_t bytes, ino_t identity,
                               std::shared_ptr<ChunkBudget> budget)
    : fd_(std::move(fd)), bytes_(bytes), identity_(identity), budget_(std::move(budget)) {}

SimulatedChunk::~SimulatedChunk() { budget_->give_back(bytes_); }

Result<ChunkPtr> SimulatedChunk::create(uint64_t bytes, std::shared_ptr<ChunkBudget> budget) {
  UniqueFd fd(memfd_create("rtswap-chunk", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return system_failure("memfd_create", errno);
  struct stat info {};
  if (fstat(fd.get(), &info) != 0) return system_failure("fstat a chunk", errno);
  if (!budget->take_if_free(bytes)) {
    return fail(ErrorCode::out_of_memory,
                "the simulated device has " + std::to_string(budget->free_bytes()) +
                    " bytes free, a chunk of " + std::to_string(bytes) + " bytes was asked for");
  }
  ChunkPtr chunk(new SimulatedChunk(std::move(fd), bytes, info.st_ino, std::move(budget)));
  if (ftruncate(chunk->fd(), static_cast<off_t>(bytes)) != 0) {
    return system_failure("ftruncate a chunk to " + std::to_string(bytes) + " bytes", errno);
  }
  // A peer that shrank the file would turn our next access into SIGBUS.
  if (fcntl(chunk->fd(), F_ADD_SEALS, kSeals) != 0) return system_failure("seal a chunk", errno);
  RTSWAP_TRY(chunk->poison());
  return chunk;
}

Result<ChunkPtr> SimulatedChunk::import(int fd, uint64_t bytes,
                                        std::shared_ptr<ChunkBudget> budget) {
  struct stat info {};
  const std::string call =
      "import_chunk(fd " + std::to_string(fd) + ", " + std::to_string(bytes) + " bytes)";
  if (fstat(fd, &info) != 0) return system_failure(call, errno);
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) {
    return fail(ErrorCode::driver_failure,
                "simulated device: " + call + ": this is not the descriptor of a simulated chunk");
  }
  if (static_cast<uint64_t>(info.st_size) != bytes) {
    return fail(ErrorCode::driver_failure, "simulated device: " + call + ": the chunk has " +
                                               std::to_string(info.st_size) + " bytes");
  }
  RTSWAP_ASSIGN(UniqueFd own, duplicate_fd(fd));
  budget->take(bytes);
  return ChunkPtr(new SimulatedChunk(std::move(own), bytes, info.st_ino, std::move(budget)));
}

Status SimulatedChunk::poison() { return fill_with_ff(fd_.get(), bytes_); }

Status SimulatedChunk::claim(Access access) {
  const std::lock_guard lock(mutex_);
  const bool writes = access == Access::read_write;
  if (claims_ == 0 || (writes && !claimed_for_writing_)) {
    const int error = lock_file(fd_.get(), writes ? F_WRLCK : F_RDLCK);
    if (error == EAGAIN || error == EACCES) {
      return fail(ErrorCode::driver_failure,
                  "simulated device: a chunk is mapped by process " +
                      std::to_string(lock_holder(fd_.get())) +
                      ", so this one may not map it: it was not granted, or granted twice");
    }
    claimed_for_writing_ = writes;
  }
  ++claims_;
  return {};
}

void SimulatedChunk::disclaim() noexcept {
  const std::lock_guard lock(mutex_);
  if (--claims_ > 0) return;
  claimed_for_writing_ = false;
  lock_file(fd_.get(), F_UNLCK);
}

}  // namespace rtswap::driver
