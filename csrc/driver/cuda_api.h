// The functions of libcuda.so.1 that rtswap calls, as one table. Tests put their own functions in
// it.
#pragma once

#include <string>

#include "csrc/base/result.h"
#include "csrc/driver/cuda_types.h"

namespace rtswap::driver::cuda {

// X(member, symbol, parameters). Symbols carry the version suffix of the signature that is
// declared: dlsym() knows nothing of the renaming macros in cuda.h. All exist since driver 470
// (CUDA 11.4).
#define RTSWAP_CUDA_FUNCTIONS(X)                                                              \
  X(init, "cuInit", (unsigned flags))                                                         \
  X(get_error_name, "cuGetErrorName", (Code error, const char** name))                        \
  X(get_error_string, "cuGetErrorString", (Code error, const char** text))                    \
  X(device_get, "cuDeviceGet", (Device * device, int ordinal))                                \
  X(device_get_count, "cuDeviceGetCount", (int* count))                                       \
  X(device_get_name, "cuDeviceGetName", (char* name, int length, Device device))              \
  X(device_get_uuid, "cuDeviceGetUuid_v2", (Uuid * uuid, Device device))                      \
  X(device_total_memory, "cuDeviceTotalMem_v2", (size_t * bytes, Device device))              \
  X(device_get_attribute, "cuDeviceGetAttribute", (int* value, int attribute, Device device)) \
  X(primary_context_retain, "cuDevicePrimaryCtxRetain", (Context * context, Device device))   \
  X(primary_context_release, "cuDevicePrimaryCtxRelease_v2", (Device device))                 \
  X(context_get_current, "cuCtxGetCurrent", (Context * context))                              \
  X(context_set_current, "cuCtxSetCurrent", (Context context))                                \
  X(memory_get_info, "cuMemGetInfo_v2", (size_t * free, size_t * total))                      \
  X(memory_get_granularity, "cuMemGetAllocationGranularity",                                  \
    (size_t * bytes, const AllocationProperties* properties, int option))                     \
  X(memory_create, "cuMemCreate",                                                             \
    (MemoryHandle * handle, size_t bytes, const AllocationProperties* properties,             \
     unsigned long long flags))                                                               \
  X(memory_release, "cuMemRelease", (MemoryHandle handle))                                    \
  X(memory_export, "cuMemExportToShareableHandle",                                            \
    (void* shareable, MemoryHandle handle, int type, unsigned long long flags))               \
  X(memory_import, "cuMemImportFromShareableHandle",                                          \
    (MemoryHandle * handle, void* shareable, int type))                                       \
  X(address_reserve, "cuMemAddressReserve",                                                   \
    (DevicePointer * address, size_t bytes, size_t alignment, DevicePointer wish,             \
     unsigned long long flags))                                                               \
  X(address_free, "cuMemAddressFree", (DevicePointer address, size_t bytes))                  \
  X(memory_map, "cuMemMap",                                                                   \
    (DevicePointer address, size_t bytes, size_t offset, MemoryHandle handle,                 \
     unsigned long long flags))                                                               \
  X(memory_unmap, "cuMemUnmap", (DevicePointer address, size_t bytes))                        \
  X(memory_set_access, "cuMemSetAccess",                                                      \
    (DevicePointer address, size_t bytes, const AccessDescription* access, size_t count))     \
  X(stream_create, "cuStreamCreate", (Stream * stream, unsigned flags))                       \
  X(stream_destroy, "cuStreamDestroy_v2", (Stream stream))                                    \
  X(stream_wait_event, "cuStreamWaitEvent", (Stream stream, Event event, unsigned flags))     \
  X(event_create, "cuEventCreate", (Event * event, unsigned flags))                           \
  X(event_destroy, "cuEventDestroy_v2", (Event event))                                        \
  X(event_record, "cuEventRecord", (Event event, Stream stream))                              \
  X(event_query, "cuEventQuery", (Event event))                                               \
  X(event_synchronize, "cuEventSynchronize", (Event event))                                   \
  X(copy_to_device, "cuMemcpyHtoDAsync_v2",                                                   \
    (DevicePointer to, const void* from, size_t bytes, Stream stream))                        \
  X(copy_to_host, "cuMemcpyDtoHAsync_v2",                                                     \
    (void* to, DevicePointer from, size_t bytes, Stream stream))                              \
  X(host_register, "cuMemHostRegister_v2", (void* host, size_t bytes, unsigned flags))        \
  X(host_unregister, "cuMemHostUnregister", (void* host))                                     \
  X(exchange_capture_mode, "cuThreadExchangeStreamCaptureMode", (int* mode))

struct Api {
#define RTSWAP_CUDA_MEMBER(member, symbol, parameters) Code(*member) parameters = nullptr;
  RTSWAP_CUDA_FUNCTIONS(RTSWAP_CUDA_MEMBER)
#undef RTSWAP_CUDA_MEMBER
};

// Opens the library and finds every function; `unsupported` with what is missing otherwise. The
// library stays loaded for the life of the process.
Result<Api> load_api(const char* library = "libcuda.so.1");

// "CUDA_ERROR_OUT_OF_MEMORY (2): out of memory".
std::string describe(const Api& api, Code error);

}  // namespace rtswap::driver::cuda
