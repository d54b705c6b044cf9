// The CUDA driver over a fake table of functions. What a GPU really does is in tests/gpu/driver.
#include "csrc/driver/cuda.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "csrc/base/units.h"
#include "csrc/driver/mps.h"
#include "tests/unit/driver/driver_behaviour.h"
#include "tests/unit/driver/fake_cuda.h"

namespace rtswap::driver {
namespace {

using namespace rtswap::literals;
using test::contains;
using test::fails_with;
using test::FakeCuda;
using test::ok;
using test::value_of;

constexpr const char* kUuid = "GPU-00112233-4455-6677-8899-aabbccddeeff";

// An empty folder where the MPS control pipe would be, so that no daemon of the machine is seen.
class MpsFolder {
 public:
  MpsFolder() {
    char pattern[] = "/tmp/rtswap-test-XXXXXX";
    REQUIRE(mkdtemp(pattern) != nullptr);
    path_ = pattern;
    setenv("CUDA_MPS_PIPE_DIRECTORY", pattern, 1);
  }
  ~MpsFolder() {
    unsetenv("CUDA_MPS_PIPE_DIRECTORY");
    std::filesystem::remove_all(path_);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

struct Fixture {
  std::unique_ptr<Driver> make(bool with_context = true) {
    return value_of(make_cuda_driver(cuda.api, "", with_context));
  }

  MpsFolder mps;
  FakeCuda cuda;
};

TEST_CASE("a missing CUDA library or function is named") {
  const auto no_library = cuda::load_api("libcuda-of-nobody.so.1");
  fails_with(ErrorCode::unsupported, no_library);
  CHECK_THAT(no_library.error().message,
             contains("libcuda-of-nobody.so.1") && contains("--gpus all"));
  const auto no_function = cuda::load_api("libc.so.6");
  fails_with(ErrorCode::unsupported, no_function);
  CHECK_THAT(no_function.error().message, contains("libc.so.6 has no function cuInit"));
}

TEST_CASE("GPUs are named by UUID") {
  Fixture fixture;
  fixture.cuda.device_count = 2;
  const auto devices = value_of(list_cuda_devices(fixture.cuda.api));
  REQUIRE(devices.size() == 2);
  CHECK(devices[0].uuid == kUuid);
  CHECK(devices[0].name == "Fake GPU");
  CHECK(devices[0].total_bytes == 1_GiB);
  CHECK(devices[0].granularity_bytes == 2_MiB);
  const auto second = value_of(make_cuda_driver(fixture.cuda.api, devices[1].uuid, false));
  CHECK(second->info().uuid == devices[1].uuid);
  const auto unknown = make_cuda_driver(fixture.cuda.api, "GPU-none", false);
  fails_with(ErrorCode::unknown_device, unknown);
  CHECK_THAT(unknown.error().message, contains(kUuid) && contains(devices[1].uuid));
  fixture.cuda.device_name = "Fake GPU MIG 1g.5gb";
  CHECK(value_of(list_cuda_devices(fixture.cuda.api))[0].uuid.substr(0, 4) == "MIG-");
}

TEST_CASE("GPUs that cannot work are refused with the reason") {
  Fixture fixture;
  const auto reason = [&] {
    const auto made = make_cuda_driver(fixture.cuda.api, "", false);
    fails_with(ErrorCode::unsupported, made);
    return made.error().message;
  };
  SECTION("integrated") {
    fixture.cuda.integrated = 1;
    CHECK_THAT(reason(), contains("no memory of its own") && contains(kUuid));
  }
  SECTION("without virtual memory management") {
    fixture.cuda.virtual_memory_management = 0;
    CHECK_THAT(reason(), contains("virtual memory management"));
  }
  SECTION("without descriptors") {
    fixture.cuda.posix_handles = 0;
    CHECK_THAT(reason(), contains("file descriptors"));
  }
  SECTION("none at all") {
    fixture.cuda.fail("init", cuda::kNoDevice);
    CHECK_THAT(reason(), contains("no GPU"));
  }
  SECTION("after a fork") {
    fixture.cuda.fail("init", cuda::kNotInitialized);
    CHECK_THAT(reason(), contains("spawn"));
  }
  SECTION("under MPS, but not beside the pipe of a daemon that is gone") {
    const std::string pipe = fixture.mps.path() + "/control";
    REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
    CHECK(fixture.make(false) != nullptr);
    const UniqueFd daemon(open(pipe.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    REQUIRE(daemon);
    CHECK_THAT(reason(), contains("Multi-Process Service") && contains(fixture.mps.path()));
  }
}

TEST_CASE("a failed map takes back what it had mapped") {
  Fixture fixture;
  const auto driver = fixture.make();
  const std::vector<ChunkHandle> chunks(3, ChunkHandle{7});
  const auto map = [&] { return driver->map(0x10000000, chunks, 2_MiB, Access::read_write); };
  SECTION("half way") {
    fixture.cuda.fail("memory_map", 1, 2);
    const Status status = map();
    fails_with(ErrorCode::driver_failure, status);
    CHECK_THAT(status.error().message, contains("cuMemMap(0x10000000, 3, 2097152 bytes)"));
    CHECK(fixture.cuda.calls.back() == "memory_unmap 4194304");
  }
  SECTION("at the start") {
    fixture.cuda.fail("memory_map", 1);
    fails_with(ErrorCode::driver_failure, map());
    CHECK(fixture.cuda.calls.back() == "memory_map");
  }
  SECTION("at the end") {
    fixture.cuda.fail("memory_set_access", 1);
    fails_with(ErrorCode::driver_failure, map());
    CHECK(fixture.cuda.calls.back() == "memory_unmap 6291456");
  }
  SECTION("and says when it could not") {
    fixture.cuda.fail("memory_set_access", 1);
    fixture.cuda.fail("memory_unmap 6291456", 1);
    CHECK_THAT(map().error().message, contains("cuMemSetAccess") && contains("cuMemUnmap"));
  }
  SECTION("not when all is well") {
    ok(map());
    CHECK(fixture.cuda.calls.back() == "memory_set_access");
  }
}

TEST_CASE("CUDA's errors get the code of what they mean") {
  Fixture fixture;
  const auto driver = fixture.make();
  fixture.cuda.fail("memory_create", cuda::kOutOfMemory);
  const auto chunk = driver->create_chunk(2_MiB);
  fails_with(ErrorCode::out_of_memory, chunk);
  CHECK_THAT(chunk.error().message,
             contains("cuMemCreate(2097152 bytes)") && contains("CUDA_ERROR_OUT_OF_MEMORY (2)"));
  fixture.cuda.fail("address_reserve", cuda::kOutOfMemory);
  fails_with(ErrorCode::out_of_memory, driver->reserve(2_MiB, "arena"));
  int host = 0;
  fixture.cuda.fail("host_register", cuda::kOutOfMemory);
  fails_with(ErrorCode::host_memory, driver->register_host(&host, sizeof host));
  fixture.cuda.fail("stream_create", 12345);  // an error newer than this program
  CHECK_THAT(driver->create_stream().error().message, contains("12345"));
  fixture.cuda.fail("event_query", cuda::kNotReady);
  CHECK_FALSE(value_of(driver->query_event(EventHandle{1})));
  CHECK(value_of(driver->query_event(EventHandle{1})));
}

TEST_CASE("a lost context stays lost, and every call says why") {
  Fixture fixture;
  const auto driver = fixture.make();
  fixture.cuda.fail("event_synchronize", cuda::kIllegalAddress);
  fails_with(ErrorCode::device_lost, driver->synchronize_event(EventHandle{1}));
  const size_t calls = fixture.cuda.calls.size();
  const auto later = driver->create_chunk(2_MiB);
  fails_with(ErrorCode::device_lost, later);
  CHECK_THAT(later.error().message, contains("cuEventSynchronize(0x1)") && contains("700"));
  fails_with(ErrorCode::device_lost, driver->query_event(EventHandle{1}));
  CHECK(fixture.cuda.calls.size() == calls);
}

TEST_CASE("without a context only chunks are handled") {
  Fixture fixture;
  const auto driver = fixture.make(false);
  ok(driver->release_chunk(value_of(driver->create_chunk(2_MiB))));
  const Status attached = driver->attach_thread();
  fails_with(ErrorCode::driver_failure, attached);
  CHECK_THAT(attached.error().message, contains("without a CUDA context"));
  fails_with(ErrorCode::driver_failure, driver->create_stream());
  fails_with(ErrorCode::driver_failure, driver->reserve(2_MiB, "arena"));
  fails_with(ErrorCode::driver_failure, driver->unmap(0x10000000, 2_MiB));
  CHECK(fixture.cuda.current == nullptr);
  CHECK(fixture.cuda.calls.back() == "memory_release");
}

TEST_CASE("a call runs in the device's context and leaves the caller's as it was") {
  Fixture fixture;
  {
    const auto driver = fixture.make();
    fixture.cuda.current = test::fake_other_context();
    CHECK(value_of(driver->create_stream()) == StreamHandle{5});
    CHECK(fixture.cuda.at_last_call == test::fake_primary_context());
    CHECK(fixture.cuda.current == test::fake_other_context());
    // A thread of the engine keeps the context, and never disturbs a graph capture.
    ok(driver->attach_thread());
    CHECK(fixture.cuda.current == test::fake_primary_context());
    CHECK(fixture.cuda.calls.back() == "exchange_capture_mode 2");
  }
  CHECK(fixture.cuda.calls.back() == "primary_context_release");
}

}  // namespace
}  // namespace rtswap::driver
