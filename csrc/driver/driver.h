// The device contract. Everything rtswap asks of a GPU goes through this one interface; it has two
// implementations (CUDA driver API, simulated device), one adaptor that injects faults, and one
// behaviour suite (tests/unit/driver/driver_behaviour.h) that all of them pass.
//
// Words follow CUDA's virtual memory management: a *chunk* is one physical allocation, a
// *reservation* is a range of addresses, *mapping* puts chunks under addresses.
//
// Threads: every method may be called from any thread at any time, and none holds a lock across a
// call into the device that another thread's call could need. A thread of the engine first calls
// attach_thread().
// Errors: a failed call changes nothing and returns `driver_failure` with the name of the call, its
// arguments and the driver's own words, unless a more exact code is named below; once the context
// is lost every call returns `device_lost`.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "csrc/base/result.h"
#include "csrc/base/unique_fd.h"

namespace rtswap::driver {

using Address = uint64_t;  // a virtual address on the device (the simulated device: of the process)
enum class ChunkHandle : uint64_t {};   // one physical allocation, as this process names it
enum class StreamHandle : uint64_t {};  // CUDA: the value of a CUstream; 0 is the default stream
enum class EventHandle : uint64_t {};

// What kernels may do with mapped memory. A store to read_only memory is a fault, as one to memory
// that is not there: it ends the context on CUDA (documented; CU_MEM_ACCESS_FLAGS_PROT_READ), and
// is a SIGSEGV with an explanation on the simulated device. Copies to it may be refused.
enum class Access : uint8_t { read_only, read_write };

struct DeviceInfo {
  std::string uuid;  // "GPU-8-4-4-4-12" as nvidia-smi prints it, or "SIM-<name>"
  std::string name;  // e.g. "NVIDIA H200", "simulated device"
  uint64_t total_bytes = 0;
  uint64_t granularity_bytes = 0;  // chunk sizes and mapped ranges are multiples of this
  bool simulated = false;
};

struct MemoryInfo {
  uint64_t free_bytes = 0;
  uint64_t total_bytes = 0;
};

class Driver {
 public:
  virtual ~Driver() = default;
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  virtual const DeviceInfo& info() const noexcept = 0;

  // What the whole device has free now, all processes counted. Needs no context on the simulated
  // device; on CUDA needs one (the daemon asks NVML instead).
  virtual Result<MemoryInfo> memory_info() = 0;

  // --- physical memory: no context needed ------------------------------------------------------

  // A new chunk that can be exported. `out_of_memory` when the device has no `bytes` left.
  // REQUIRES: bytes is a positive multiple of the granularity.
  virtual Result<ChunkHandle> create_chunk(uint64_t bytes) = 0;
  // A descriptor that another process can import. Handles that were imported cannot be exported.
  virtual Result<UniqueFd> export_chunk(ChunkHandle chunk) = 0;
  // A handle for the chunk behind `fd`, which stays the caller's.
  virtual Result<ChunkHandle> import_chunk(int fd, uint64_t bytes) = 0;
  // Gives one handle back. The memory itself returns when all handles, mappings and descriptors in
  // all processes are gone.
  virtual Status release_chunk(ChunkHandle chunk) = 0;

  // --- address space ---------------------------------------------------------------------------

  // Addresses for `bytes` (a multiple of the granularity), nothing mapped. `label` names the range
  // in fault messages. `out_of_memory` when there is no such range.
  virtual Result<Address> reserve(uint64_t bytes, std::string_view label) = 0;
  // REQUIRES: [address, +bytes) is exactly one reservation and nothing in it is mapped.
  virtual Status unreserve(Address address, uint64_t bytes) = 0;
  // Maps chunks[i] at address + i * chunk_bytes and makes the whole range accessible. On failure
  // none of them is mapped. A chunk may be mapped at many addresses at once, also by one call.
  // REQUIRES: the range is reserved and unmapped.
  virtual Status map(Address address, std::span<const ChunkHandle> chunks, uint64_t chunk_bytes,
                     Access access) = 0;
  // REQUIRES: the range was mapped as whole chunks, and no work that uses it is in flight: this
  // call is not ordered with any stream.
  virtual Status unmap(Address address, uint64_t bytes) = 0;

  // --- streams and copies: need a context ------------------------------------------------------

  virtual Result<StreamHandle> create_stream() = 0;
  virtual Status destroy_stream(StreamHandle stream) = 0;
  virtual Result<EventHandle> create_event() = 0;
  virtual Status destroy_event(EventHandle event) = 0;
  virtual Status record_event(EventHandle event, StreamHandle stream) = 0;
  // Later work on `stream` waits for the last recording of `event`. (Simulated: a host wait, since
  // the compute stream is the calling thread.)
  virtual Status wait_event(StreamHandle stream, EventHandle event) = 0;
  // True when the last recording of `event` has completed (or it was never recorded).
  virtual Result<bool> query_event(EventHandle event) = 0;
  // Blocks the calling thread until then; never spins.
  virtual Status synchronize_event(EventHandle event) = 0;

  // Copies in stream order. The host range must be registered; the device range must be mapped
  // until the copy has completed. `host` may lie anywhere inside a registered range.
  virtual Status copy_to_device(Address destination, const void* host, uint64_t bytes,
                                StreamHandle stream) = 0;
  virtual Status copy_to_host(void* host, Address source, uint64_t bytes, StreamHandle stream) = 0;

  // --- host memory and threads -----------------------------------------------------------------

  // Pins [host, +bytes) for asynchronous copies. `host_memory` when the system refuses.
  virtual Status register_host(void* host, uint64_t bytes) = 0;
  virtual Status unregister_host(void* host) = 0;

  // Prepares the calling thread for driver calls: makes the device's context current and sets the
  // relaxed stream-capture mode, without which one event query of ours would end a graph capture
  // in another thread of the process.
  virtual Status attach_thread() = 0;
  // Runs `body` with the calling thread in that capture mode, and puts back the one it had: for the
  // threads of the program. Returns what `body` returns, or why it was not run.
  virtual Status on_program_thread(const std::function<Status()>& body) = 0;

 protected:
  Driver() = default;
};

}  // namespace rtswap::driver
