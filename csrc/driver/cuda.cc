#include "csrc/driver/cuda.h"

#include <fcntl.h>

#include <atomic>
#include <mutex>
#include <optional>
#include <utility>

#include "csrc/driver/call_text.h"
#include "csrc/driver/cuda_device.h"
#include "csrc/driver/nvml.h"

namespace rtswap::driver {
namespace {

// Errors after which the context, or what it can still say, is gone for good.
bool ends_context(cuda::Code error) {
  switch (error) {
    case cuda::kDeinitialized:
    case cuda::kEccUncorrectable:
    case cuda::kNvlinkUncorrectable:
    case cuda::kContained:
    case cuda::kIllegalAddress:
    case cuda::kLaunchTimeout:
    case cuda::kContextIsDestroyed:
    case cuda::kAssert:
    case cuda::kTensorMemoryLeak:
    case cuda::kMpsClientTerminated:
      return true;
    default:
      return error >= cuda::kHardwareStackError && error <= cuda::kLaunchFailed;
  }
}

// Makes the context current for one call and puts back what the caller had: a thread of torch may
// be at work on another GPU. Costs one cheap call where the context is current already.
class CurrentContext {
 public:
  CurrentContext(const cuda::Api& api, cuda::Context context) : api_(api) {
    status_ = api_.context_get_current(&before_);
    if (status_ != cuda::kSuccess || before_ == context) return;
    status_ = api_.context_set_current(context);
    switched_ = status_ == cuda::kSuccess;
  }
  ~CurrentContext() {
    if (switched_) api_.context_set_current(before_);
  }
  CurrentContext(const CurrentContext&) = delete;
  CurrentContext& operator=(const CurrentContext&) = delete;

  cuda::Code status() const { return status_; }

 private:
  const cuda::Api& api_;
  cuda::Context before_ = nullptr;
  cuda::Code status_ = cuda::kSuccess;
  bool switched_ = false;
};

class CudaDriver final : public Driver {
 public:
  CudaDriver(const cuda::Api& api, cuda::FoundDevice found, cuda::Context context)
      : api_(api), device_(found.device), info_(std::move(found.info)), context_(context) {}

  ~CudaDriver() override {
    // Fails harmlessly when CUDA has shut down before us at the end of the process.
    if (context_ != nullptr) api_.primary_context_release(device_);
  }

  const DeviceInfo& info() const noexcept override { return info_; }

  Result<MemoryInfo> memory_info() override {
    if (context_ == nullptr) return nvml_memory_info(info_.uuid);
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    RTSWAP_TRY(in_context([&] { return api_.memory_get_info(&free_bytes, &total_bytes); },
                          "cuMemGetInfo"));
    return MemoryInfo{.free_bytes = free_bytes, .total_bytes = total_bytes};
  }

  Result<ChunkHandle> create_chunk(uint64_t bytes) override {
    if (bytes == 0 || bytes % info_.granularity_bytes != 0) {
      return fail(ErrorCode::driver_failure, call_text("cuMemCreate", Bytes{bytes}) +
                                                 ": the size is not a positive multiple of " +
                                                 std::to_string(info_.granularity_bytes));
    }
    const cuda::AllocationProperties properties = cuda::exportable_memory_of(device_);
    cuda::MemoryHandle handle = 0;
    RTSWAP_TRY(call([&] { return api_.memory_create(&handle, bytes, &properties, 0); },
                    "cuMemCreate", Bytes{bytes}));
    return ChunkHandle{handle};
  }

  Result<UniqueFd> export_chunk(ChunkHandle chunk) override {
    int fd = -1;
    RTSWAP_TRY(call(
        [&] { return api_.memory_export(&fd, id(chunk), cuda::kHandlePosixFileDescriptor, 0); },
        "cuMemExportToShareableHandle", Hex{id(chunk)}));
    UniqueFd owned(fd);
    fcntl(fd, F_SETFD, FD_CLOEXEC);  // CUDA does not promise it
    return owned;
  }

  Result<ChunkHandle> import_chunk(int fd, uint64_t bytes) override {
    cuda::MemoryHandle handle = 0;
    void* const shareable = reinterpret_cast<void*>(static_cast<intptr_t>(fd));
    RTSWAP_TRY(call(
        [&] { return api_.memory_import(&handle, shareable, cuda::kHandlePosixFileDescriptor); },
        "cuMemImportFromShareableHandle", fd, Bytes{bytes}));
    return ChunkHandle{handle};
  }

  Status release_chunk(ChunkHandle chunk) override {
    return call([&] { return api_.memory_release(id(chunk)); }, "cuMemRelease", Hex{id(chunk)});
  }

  Result<Address> reserve(uint64_t bytes, std::string_view) override {
    // The contract of driver.h, kept here: CUDA is not asked to judge odd sizes.
    if (bytes == 0 || bytes % info_.granularity_bytes != 0) {
      return fail(ErrorCode::driver_failure, "reserving " + std::to_string(bytes) +
                                                 " bytes: not a multiple of " +
                                                 std::to_string(info_.granularity_bytes));
    }
    cuda::DevicePointer address = 0;
    RTSWAP_TRY(in_context(
        [&] { return api_.address_reserve(&address, bytes, info_.granularity_bytes, 0, 0); },
        "cuMemAddressReserve", Bytes{bytes}));
    return Address{address};
  }

  Status unreserve(Address address, uint64_t bytes) override {
    return in_context([&] { return api_.address_free(address, bytes); }, "cuMemAddressFree",
                      Hex{address}, Bytes{bytes});
  }

  Status map(Address address, std::span<const ChunkHandle> chunks, uint64_t chunk_bytes,
             Access access) override {
    const uint64_t bytes = chunks.size() * chunk_bytes;
    size_t mapped = 0;
    const auto map_all = [&] {
      for (; mapped < chunks.size(); ++mapped) {
        const cuda::Code error =
            api_.memory_map(address + mapped * chunk_bytes, chunk_bytes, 0, id(chunks[mapped]), 0);
        if (error != cuda::kSuccess) return error;
      }
      return cuda::kSuccess;
    };
    const auto allow_access = [&] {
      const cuda::AccessDescription description{
          .location = {.type = cuda::kLocationDevice, .id = device_},
          .flags = access == Access::read_write ? cuda::kAccessReadWrite : cuda::kAccessRead};
      return api_.memory_set_access(address, bytes, &description, 1);
    };
    Status status =
        in_context(map_all, "cuMemMap", Hex{address}, chunks.size(), Bytes{chunk_bytes});
    if (status) status = in_context(allow_access, "cuMemSetAccess", Hex{address}, Bytes{bytes});
    if (status || mapped == 0) return status;
    if (Status undone = unmap(address, mapped * chunk_bytes); !undone) {
      status.error().message += "; and to undo it, " + undone.error().message;
    }
    return status;
  }

  Status unmap(Address address, uint64_t bytes) override {
    return in_context([&] { return api_.memory_unmap(address, bytes); }, "cuMemUnmap", Hex{address},
                      Bytes{bytes});
  }

  Result<StreamHandle> create_stream() override {
    cuda::Stream stream = nullptr;
    RTSWAP_TRY(in_context([&] { return api_.stream_create(&stream, cuda::kStreamNonBlocking); },
                          "cuStreamCreate"));
    return StreamHandle{reinterpret_cast<uint64_t>(stream)};
  }

  Status destroy_stream(StreamHandle stream) override {
    return in_context([&] { return api_.stream_destroy(native(stream)); }, "cuStreamDestroy",
                      Hex{id(stream)});
  }

  Result<EventHandle> create_event() override {
    cuda::Event event = nullptr;
    // Blocking: a thread that waits must leave its core to the application.
    RTSWAP_TRY(in_context(
        [&] {
          return api_.event_create(&event, cuda::kEventDisableTiming | cuda::kEventBlockingSync);
        },
        "cuEventCreate"));
    return EventHandle{reinterpret_cast<uint64_t>(event)};
  }

  Status destroy_event(EventHandle event) override {
    return in_context([&] { return api_.event_destroy(native(event)); }, "cuEventDestroy",
                      Hex{id(event)});
  }

  Status record_event(EventHandle event, StreamHandle stream) override {
    return in_context([&] { return api_.event_record(native(event), native(stream)); },
                      "cuEventRecord", Hex{id(event)}, Hex{id(stream)});
  }

  Status wait_event(StreamHandle stream, EventHandle event) override {
    return in_context([&] { return api_.stream_wait_event(native(stream), native(event), 0); },
                      "cuStreamWaitEvent", Hex{id(stream)}, Hex{id(event)});
  }

  Result<bool> query_event(EventHandle event) override {
    bool done = true;
    RTSWAP_TRY(in_context(
        [&] {
          const cuda::Code result = api_.event_query(native(event));
          done = result != cuda::kNotReady;
          return done ? result : cuda::kSuccess;
        },
        "cuEventQuery", Hex{id(event)}));
    return done;
  }

  Status synchronize_event(EventHandle event) override {
    return in_context([&] { return api_.event_synchronize(native(event)); }, "cuEventSynchronize",
                      Hex{id(event)});
  }

  Status copy_to_device(Address destination, const void* host, uint64_t bytes,
                        StreamHandle stream) override {
    return in_context([&] { return api_.copy_to_device(destination, host, bytes, native(stream)); },
                      "cuMemcpyHtoDAsync", Hex{destination}, host, Bytes{bytes}, Hex{id(stream)});
  }

  Status copy_to_host(void* host, Address source, uint64_t bytes, StreamHandle stream) override {
    return in_context([&] { return api_.copy_to_host(host, source, bytes, native(stream)); },
                      "cuMemcpyDtoHAsync", host, Hex{source}, Bytes{bytes}, Hex{id(stream)});
  }

  Status register_host(void* host, uint64_t bytes) override {
    Status status =
        in_context([&] { return api_.host_register(host, bytes, cuda::kHostRegisterPortable); },
                   "cuMemHostRegister", host, Bytes{bytes});
    if (!status && status.error().code == ErrorCode::out_of_memory) {
      status.error().code = ErrorCode::host_memory;
      status.error().message +=
          ": the system cannot pin this much host memory (free memory, memory cgroup)";
    }
    return status;
  }

  Status unregister_host(void* host) override {
    return in_context([&] { return api_.host_unregister(host); }, "cuMemHostUnregister", host);
  }

  Status attach_thread() override {
    if (context_ == nullptr) return no_context("attach_thread()");
    RTSWAP_TRY(call([&] { return api_.context_set_current(context_); }, "cuCtxSetCurrent"));
    int mode = cuda::kCaptureModeRelaxed;
    return call([&] { return api_.exchange_capture_mode(&mode); },
                "cuThreadExchangeStreamCaptureMode");
  }

  Status on_program_thread(const std::function<Status()>& body) override {
    int mode = cuda::kCaptureModeRelaxed;
    const auto exchange = [&] { return api_.exchange_capture_mode(&mode); };
    RTSWAP_TRY(call(exchange, "cuThreadExchangeStreamCaptureMode"));
    Status status = body();
    (void)exchange();  // with a mode that was in force a moment ago
    return status;
  }

 private:
  template <class Handle>
  static uint64_t id(Handle handle) {
    return static_cast<uint64_t>(handle);
  }
  static cuda::Stream native(StreamHandle stream) {
    return reinterpret_cast<cuda::Stream>(id(stream));
  }
  static cuda::Event native(EventHandle event) { return reinterpret_cast<cuda::Event>(id(event)); }

  static Status no_context(const std::string& call) {
    return fail(ErrorCode::driver_failure,
                call + ": this driver was made without a CUDA context, it only handles chunks");
  }

  // One call that needs no context, its name and arguments for the message.
  template <class Function, class... Arguments>
  Status call(Function function, const char* name, const Arguments&... arguments) {
    if (lost_.load(std::memory_order_acquire)) return lost_error();
    const cuda::Code error = function();
    if (error == cuda::kSuccess) return {};
    return failure(call_text(name, arguments...), error);
  }

  template <class Function, class... Arguments>
  Status in_context(Function function, const char* name, const Arguments&... arguments) {
    if (context_ == nullptr) return no_context(call_text(name, arguments...));
    return call(
        [&] {
          const CurrentContext current(api_, context_);
          return current.status() == cuda::kSuccess ? function() : current.status();
        },
        name, arguments...);
  }

  Status failure(const std::string& call, cuda::Code error) {
    Error result{
        .code = error == cuda::kOutOfMemory ? ErrorCode::out_of_memory : ErrorCode::driver_failure,
        .message = call + ": " + cuda::describe(api_, error)};
    if (!ends_context(error)) return fail(std::move(result));
    {
      const std::lock_guard lock(lost_mutex_);
      if (!first_loss_) first_loss_ = std::move(result.message);
    }
    lost_.store(true, std::memory_order_release);
    return lost_error();
  }

  Status lost_error() const {
    const std::lock_guard lock(lost_mutex_);
    return fail(ErrorCode::device_lost, "the CUDA context of this process is lost, first seen at " +
                                            *first_loss_ + "; the process must be restarted");
  }

  const cuda::Api& api_;
  const cuda::Device device_;
  const DeviceInfo info_;
  const cuda::Context context_;  // null: made without one

  std::atomic<bool> lost_{false};  // set after first_loss_
  mutable std::mutex lost_mutex_;
  std::optional<std::string> first_loss_;
};

const Result<cuda::Api>& api_of_process() {
  // Never destroyed: drivers of a process may be used until its very end.
  static const auto& api = *new Result<cuda::Api>(cuda::load_api());
  return api;
}

}  // namespace

Result<std::vector<DeviceInfo>> list_cuda_devices(const cuda::Api& api) {
  RTSWAP_ASSIGN(std::vector<cuda::FoundDevice> found, cuda::find_devices(api));
  std::vector<DeviceInfo> devices;
  for (cuda::FoundDevice& device : found) devices.push_back(std::move(device.info));
  return devices;
}

Result<std::unique_ptr<Driver>> make_cuda_driver(const cuda::Api& api, const std::string& uuid,
                                                 bool with_context) {
  RTSWAP_ASSIGN(std::vector<cuda::FoundDevice> devices, cuda::find_devices(api));
  std::string known;
  for (cuda::FoundDevice& found : devices) {
    known += (known.empty() ? "" : ", ") + found.info.uuid;
    if (!uuid.empty() && found.info.uuid != uuid) continue;
    RTSWAP_TRY(cuda::check_usable(api, found));
    cuda::Context context = nullptr;
    if (with_context) {
      if (const cuda::Code error = api.primary_context_retain(&context, found.device);
          error != cuda::kSuccess) {
        return fail(
            error == cuda::kOutOfMemory ? ErrorCode::out_of_memory : ErrorCode::driver_failure,
            "cuDevicePrimaryCtxRetain: " + cuda::describe(api, error));
      }
    }
    return std::make_unique<CudaDriver>(api, std::move(found), context);
  }
  return fail(ErrorCode::unknown_device,
              "CUDA shows no GPU " + uuid + " to this process, only " + known);
}

Result<std::vector<DeviceInfo>> list_cuda_devices() {
  const Result<cuda::Api>& api = api_of_process();
  if (!api) return fail(api.error());
  return list_cuda_devices(*api);
}

Result<std::unique_ptr<Driver>> make_cuda_driver(const std::string& uuid, bool with_context) {
  const Result<cuda::Api>& api = api_of_process();
  if (!api) return fail(api.error());
  return make_cuda_driver(*api, uuid, with_context);
}

}  // namespace rtswap::driver
