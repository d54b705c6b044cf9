// The handful of types and constants of the CUDA driver API that rtswap uses, so that it builds on
// a machine without the CUDA toolkit. All are part of the driver's stable ABI;
// tests/unit/driver/cuda_types_test.cc compares them with cuda.h where there is one.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rtswap::driver::cuda {

using Code = int;    // CUresult
using Device = int;  // CUdevice
using DevicePointer = unsigned long long;
using MemoryHandle = unsigned long long;  // CUmemGenericAllocationHandle
struct ContextTag;
struct StreamTag;
struct EventTag;
using Context = ContextTag*;
using Stream = StreamTag*;
using Event = EventTag*;

struct Uuid {
  unsigned char bytes[16];
};

struct MemoryLocation {
  int type;
  int id;
};

struct AllocationProperties {
  int type;
  int requested_handle_types;
  MemoryLocation location;
  void* win32_handle_meta_data;
  struct {
    unsigned char compression_type;
    unsigned char gpu_direct_rdma_capable;
    unsigned short usage;
    unsigned char reserved[4];
  } flags;
};

struct AccessDescription {
  MemoryLocation location;
  int flags;
};

inline constexpr Code kSuccess = 0;
inline constexpr Code kOutOfMemory = 2;
inline constexpr Code kNotInitialized = 3;
inline constexpr Code kDeinitialized = 4;
inline constexpr Code kNoDevice = 100;
inline constexpr Code kEccUncorrectable = 214;
inline constexpr Code kNvlinkUncorrectable = 220;
inline constexpr Code kContained = 226;
inline constexpr Code kNotReady = 600;
inline constexpr Code kIllegalAddress = 700;
inline constexpr Code kLaunchTimeout = 702;
inline constexpr Code kContextIsDestroyed = 709;
inline constexpr Code kAssert = 710;
inline constexpr Code kHardwareStackError = 714;  // 714 to 719: faults of a kernel
inline constexpr Code kLaunchFailed = 719;
inline constexpr Code kTensorMemoryLeak = 721;
inline constexpr Code kMpsClientTerminated = 810;

inline constexpr int kAttributeIntegrated = 18;
inline constexpr int kAttributeVirtualMemoryManagement = 102;
inline constexpr int kAttributePosixHandles = 103;
inline constexpr int kAllocationPinned = 1;
inline constexpr int kHandlePosixFileDescriptor = 1;
inline constexpr int kLocationDevice = 1;
inline constexpr int kAccessRead = 1;
inline constexpr int kAccessReadWrite = 3;
inline constexpr int kGranularityMinimum = 0;
inline constexpr unsigned kHostRegisterPortable = 1;
inline constexpr unsigned kStreamNonBlocking = 1;
inline constexpr unsigned kEventBlockingSync = 1;
inline constexpr unsigned kEventDisableTiming = 2;
inline constexpr int kCaptureModeRelaxed = 2;

}  // namespace rtswap::driver::cuda
