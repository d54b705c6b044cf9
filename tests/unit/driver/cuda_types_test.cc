// Our declarations of the CUDA driver API against cuda.h, where there is one.
#if __has_include(<cuda.h>)
#include <cuda.h>
#define RTSWAP_HAS_CUDA_HEADER
#elif __has_include("/usr/local/cuda/include/cuda.h")
#include "/usr/local/cuda/include/cuda.h"
#define RTSWAP_HAS_CUDA_HEADER
#endif

#ifdef RTSWAP_HAS_CUDA_HEADER
#include <cstddef>
#include <type_traits>

#include "csrc/driver/cuda_api.h"

namespace rtswap::driver::cuda {
namespace {

static_assert(sizeof(Code) == sizeof(CUresult));
static_assert(std::is_same_v<Device, CUdevice>);
static_assert(std::is_same_v<DevicePointer, CUdeviceptr>);
static_assert(std::is_same_v<MemoryHandle, CUmemGenericAllocationHandle>);
static_assert(sizeof(Uuid) == sizeof(CUuuid));

static_assert(sizeof(MemoryLocation) == sizeof(CUmemLocation));
static_assert(offsetof(MemoryLocation, id) == offsetof(CUmemLocation, id));
static_assert(sizeof(AllocationProperties) == sizeof(CUmemAllocationProp));
static_assert(offsetof(AllocationProperties, requested_handle_types) ==
              offsetof(CUmemAllocationProp, requestedHandleTypes));
static_assert(offsetof(AllocationProperties, location) == offsetof(CUmemAllocationProp, location));
static_assert(offsetof(AllocationProperties, flags) == offsetof(CUmemAllocationProp, allocFlags));
static_assert(sizeof(AccessDescription) == sizeof(CUmemAccessDesc));
static_assert(offsetof(AccessDescription, flags) == offsetof(CUmemAccessDesc, flags));

static_assert(kSuccess == CUDA_SUCCESS);
static_assert(kOutOfMemory == CUDA_ERROR_OUT_OF_MEMORY);
static_assert(kNotInitialized == CUDA_ERROR_NOT_INITIALIZED);
static_assert(kDeinitialized == CUDA_ERROR_DEINITIALIZED);
static_assert(kNoDevice == CUDA_ERROR_NO_DEVICE);
static_assert(kEccUncorrectable == CUDA_ERROR_ECC_UNCORRECTABLE);
static_assert(kNvlinkUncorrectable == CUDA_ERROR_NVLINK_UNCORRECTABLE);
static_assert(kNotReady == CUDA_ERROR_NOT_READY);
static_assert(kIllegalAddress == CUDA_ERROR_ILLEGAL_ADDRESS);
static_assert(kLaunchTimeout == CUDA_ERROR_LAUNCH_TIMEOUT);
static_assert(kContextIsDestroyed == CUDA_ERROR_CONTEXT_IS_DESTROYED);
static_assert(kAssert == CUDA_ERROR_ASSERT);
static_assert(kHardwareStackError == CUDA_ERROR_HARDWARE_STACK_ERROR);
static_assert(kLaunchFailed == CUDA_ERROR_LAUNCH_FAILED);
static_assert(kMpsClientTerminated == CUDA_ERROR_MPS_CLIENT_TERMINATED);
#if CUDA_VERSION >= 13000  // enumerators of this version
static_assert(kContained == CUDA_ERROR_CONTAINED);
static_assert(kTensorMemoryLeak == CUDA_ERROR_TENSOR_MEMORY_LEAK);
#endif

static_assert(kAttributeIntegrated == CU_DEVICE_ATTRIBUTE_INTEGRATED);
static_assert(kAttributeVirtualMemoryManagement ==
              CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED);
static_assert(kAttributePosixHandles ==
              CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED);
static_assert(kAllocationPinned == CU_MEM_ALLOCATION_TYPE_PINNED);
static_assert(kHandlePosixFileDescriptor == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
static_assert(kLocationDevice == CU_MEM_LOCATION_TYPE_DEVICE);
static_assert(kAccessRead == CU_MEM_ACCESS_FLAGS_PROT_READ);
static_assert(kAccessReadWrite == CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
static_assert(kGranularityMinimum == CU_MEM_ALLOC_GRANULARITY_MINIMUM);
static_assert(kHostRegisterPortable == CU_MEMHOSTREGISTER_PORTABLE);
static_assert(kStreamNonBlocking == CU_STREAM_NON_BLOCKING);
static_assert(kEventBlockingSync == CU_EVENT_BLOCKING_SYNC);
static_assert(kEventDisableTiming == CU_EVENT_DISABLE_TIMING);
static_assert(kCaptureModeRelaxed == CU_STREAM_CAPTURE_MODE_RELAXED);

// The function types: the same number of parameters, each of the same size. (Names of the header
// are macros that carry the version suffix, so a mismatch with the symbol shows here too.)
template <class>
struct Signature;
template <class R, class... P>
struct Signature<R (*)(P...)> {
  static constexpr size_t kSizes[] = {sizeof(R), sizeof(P)...};
  static constexpr size_t kCount = sizeof...(P) + 1;
};
template <class Ours, class Theirs>
constexpr bool same_signature() {
  using A = Signature<Ours>;
  using B = Signature<Theirs>;
  if (A::kCount != B::kCount) return false;
  for (size_t i = 0; i < A::kCount; ++i) {
    if (A::kSizes[i] != B::kSizes[i]) return false;
  }
  return true;
}
#define RTSWAP_SAME(member, function) \
  static_assert(same_signature<decltype(Api::member), decltype(&::function)>())
RTSWAP_SAME(init, cuInit);
RTSWAP_SAME(get_error_name, cuGetErrorName);
RTSWAP_SAME(get_error_string, cuGetErrorString);
RTSWAP_SAME(device_get, cuDeviceGet);
RTSWAP_SAME(device_get_count, cuDeviceGetCount);
RTSWAP_SAME(device_get_name, cuDeviceGetName);
RTSWAP_SAME(device_get_uuid, cuDeviceGetUuid);
RTSWAP_SAME(device_total_memory, cuDeviceTotalMem);
RTSWAP_SAME(device_get_attribute, cuDeviceGetAttribute);
RTSWAP_SAME(primary_context_retain, cuDevicePrimaryCtxRetain);
RTSWAP_SAME(primary_context_release, cuDevicePrimaryCtxRelease);
RTSWAP_SAME(context_get_current, cuCtxGetCurrent);
RTSWAP_SAME(context_set_current, cuCtxSetCurrent);
RTSWAP_SAME(memory_get_info, cuMemGetInfo);
RTSWAP_SAME(memory_get_granularity, cuMemGetAllocationGranularity);
RTSWAP_SAME(memory_create, cuMemCreate);
RTSWAP_SAME(memory_release, cuMemRelease);
RTSWAP_SAME(memory_export, cuMemExportToShareableHandle);
RTSWAP_SAME(memory_import, cuMemImportFromShareableHandle);
RTSWAP_SAME(address_reserve, cuMemAddressReserve);
RTSWAP_SAME(address_free, cuMemAddressFree);
RTSWAP_SAME(memory_map, cuMemMap);
RTSWAP_SAME(memory_unmap, cuMemUnmap);
RTSWAP_SAME(memory_set_access, cuMemSetAccess);
RTSWAP_SAME(stream_create, cuStreamCreate);
RTSWAP_SAME(stream_destroy, cuStreamDestroy);
RTSWAP_SAME(stream_wait_event, cuStreamWaitEvent);
RTSWAP_SAME(event_create, cuEventCreate);
RTSWAP_SAME(event_destroy, cuEventDestroy);
RTSWAP_SAME(event_record, cuEventRecord);
RTSWAP_SAME(event_query, cuEventQuery);
RTSWAP_SAME(event_synchronize, cuEventSynchronize);
RTSWAP_SAME(copy_to_device, cuMemcpyHtoDAsync);
RTSWAP_SAME(copy_to_host, cuMemcpyDtoHAsync);
RTSWAP_SAME(host_register, cuMemHostRegister);
RTSWAP_SAME(host_unregister, cuMemHostUnregister);
RTSWAP_SAME(exchange_capture_mode, cuThreadExchangeStreamCaptureMode);

}  // namespace
}  // namespace rtswap::driver::cuda
#endif
