#include "tests/unit/driver/fake_cuda.h"

#include <cstring>

namespace rtswap::test {
namespace {

using namespace driver::cuda;

FakeCuda* g_fake = nullptr;

Code enter(const char* function) { return g_fake->enter(function); }

Code error_text(Code error, const char** text) {
  *text = error == kOutOfMemory      ? "CUDA_ERROR_OUT_OF_MEMORY"
          : error == kIllegalAddress ? "CUDA_ERROR_ILLEGAL_ADDRESS"
                                     : nullptr;
  return *text == nullptr ? 1 : kSuccess;
}

void fill_device_functions(Api& api) {
  api.init = [](unsigned) { return enter("init"); };
  api.get_error_name = error_text;
  api.get_error_string = error_text;
  api.device_get = [](Device* device, int ordinal) {
    *device = ordinal;
    return kSuccess;
  };
  api.device_get_count = [](int* count) {
    *count = g_fake->device_count;
    return kSuccess;
  };
  api.device_get_name = [](char* name, int length, Device) {
    std::strncpy(name, g_fake->device_name.c_str(), static_cast<size_t>(length));
    return kSuccess;
  };
  api.device_get_uuid = [](Uuid* uuid, Device device) {
    for (int i = 0; i < 16; ++i) uuid->bytes[i] = static_cast<unsigned char>(i * 17 + device);
    return kSuccess;
  };
  api.device_total_memory = [](size_t* bytes, Device) {
    *bytes = size_t{1} << 30;
    return kSuccess;
  };
  api.device_get_attribute = [](int* value, int attribute, Device) {
    *value = attribute == kAttributeIntegrated                ? g_fake->integrated
             : attribute == kAttributeVirtualMemoryManagement ? g_fake->virtual_memory_management
                                                              : g_fake->posix_handles;
    return kSuccess;
  };
  api.memory_get_granularity = [](size_t* bytes, const AllocationProperties*, int) {
    *bytes = size_t{2} << 20;
    return kSuccess;
  };
  api.primary_context_retain = [](Context* context, Device) {
    *context = fake_primary_context();
    return enter("primary_context_retain");
  };
  api.primary_context_release = [](Device) { return enter("primary_context_release"); };
  api.context_get_current = [](Context* context) {
    *context = g_fake->current;
    return kSuccess;
  };
  api.context_set_current = [](Context context) {
    g_fake->current = context;
    return kSuccess;
  };
}

void fill_memory_functions(Api& api) {
  api.memory_get_info = [](size_t* free, size_t* total) {
    *free = *total = size_t{1} << 30;
    return enter("memory_get_info");
  };
  api.memory_create = [](MemoryHandle* handle, size_t, const AllocationProperties*,
                         unsigned long long) {
    *handle = 7;
    return enter("memory_create");
  };
  api.memory_release = [](MemoryHandle) { return enter("memory_release"); };
  api.address_reserve = [](DevicePointer* address, size_t, size_t, DevicePointer,
                           unsigned long long) {
    *address = 0x10000000;
    return enter("address_reserve");
  };
  api.address_free = [](DevicePointer, size_t) { return enter("address_free"); };
  api.memory_map = [](DevicePointer, size_t, size_t, MemoryHandle, unsigned long long) {
    return enter("memory_map");
  };
  api.memory_unmap = [](DevicePointer, size_t bytes) {
    return enter(("memory_unmap " + std::to_string(bytes)).c_str());
  };
  api.memory_set_access = [](DevicePointer, size_t, const AccessDescription*, size_t) {
    return enter("memory_set_access");
  };
  api.host_register = [](void*, size_t, unsigned) { return enter("host_register"); };
  api.host_unregister = [](void*) { return enter("host_unregister"); };
}

void fill_stream_functions(Api& api) {
  api.stream_create = [](Stream* stream, unsigned) {
    *stream = reinterpret_cast<Stream>(0x5);
    return enter("stream_create");
  };
  api.event_query = [](Event) { return enter("event_query"); };
  api.event_synchronize = [](Event) { return enter("event_synchronize"); };
  api.exchange_capture_mode = [](int* mode) {
    return enter(("exchange_capture_mode " + std::to_string(*mode)).c_str());
  };
}

}  // namespace

Context fake_primary_context() { return reinterpret_cast<Context>(0x1000); }
Context fake_other_context() { return reinterpret_cast<Context>(0x2000); }

FakeCuda::FakeCuda() {
  g_fake = this;
  fill_device_functions(api);
  fill_memory_functions(api);
  fill_stream_functions(api);
}

FakeCuda::~FakeCuda() { g_fake = nullptr; }

void FakeCuda::fail(const std::string& function, Code error, int skip) {
  planned_[function] = {.error = error, .skip = skip};
}

Code FakeCuda::enter(const std::string& function) {
  calls.push_back(function);
  at_last_call = current;
  const auto found = planned_.find(function);
  if (found == planned_.end()) return kSuccess;
  if (found->second.skip-- > 0) return kSuccess;
  const Code error = found->second.error;
  planned_.erase(found);
  return error;
}

}  // namespace rtswap::test
