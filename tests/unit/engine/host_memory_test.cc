#include "csrc/engine/host_memory.h"

#include "csrc/base/units.h"
#include "tests/catch.h"
#include "tests/temporary_folder.h"

using namespace rtswap;
using namespace rtswap::literals;
using engine::check_host_memory;
using test::contains;
using test::TemporaryFolder;

namespace {

// A machine of 100 MiB, 60 of them available; 5 stay free.
void write_machine(const TemporaryFolder& root) {
  root.write("proc/meminfo",
             "MemTotal:         102400 kB\nMemFree:  1 kB\nMemAvailable:      61440 kB\n");
}

}  // namespace

TEST_CASE("the machine's available memory is the limit, less a reserve") {
  const TemporaryFolder root;
  write_machine(root);
  CHECK(check_host_memory(55_MiB, root.path()));
  const Status refused = check_host_memory(55_MiB + 1, root.path());
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ErrorCode::host_memory);
  CHECK_THAT(refused.error().message, contains(std::to_string(55_MiB + 1)));
  CHECK_THAT(refused.error().message, contains(std::to_string(60_MiB)));
  CHECK_THAT(refused.error().message, contains("this machine"));
}

TEST_CASE("a cgroup of version 2 is a limit at every level, its file cache is not") {
  const TemporaryFolder root;
  write_machine(root);
  root.write("proc/self/cgroup", "0::/user/app\n");
  root.write("sys/fs/cgroup/user/app/memory.max", "max\n");
  root.write("sys/fs/cgroup/user/app/memory.current", "1048576\n");
  CHECK(check_host_memory(55_MiB, root.path()));

  root.write("sys/fs/cgroup/user/memory.max", std::to_string(40_MiB));
  root.write("sys/fs/cgroup/user/memory.current", std::to_string(20_MiB));
  root.write("sys/fs/cgroup/user/memory.stat",
             "anon 7\ninactive_file " + std::to_string(4_MiB) + "\n");
  CHECK(check_host_memory(22_MiB, root.path()));  // 40 - (20 - 4) - 5 %
  const Status refused = check_host_memory(22_MiB + 1, root.path());
  REQUIRE_FALSE(refused);
  CHECK_THAT(refused.error().message, contains("sys/fs/cgroup/user "));
}

TEST_CASE("a cgroup of version 1 is a limit") {
  const TemporaryFolder root;
  write_machine(root);
  root.write("proc/self/cgroup", "9:name=systemd:/x\n4:cpu,memory:/app\n0::/\n");
  root.write("sys/fs/cgroup/memory/app/memory.limit_in_bytes", std::to_string(20_MiB));
  root.write("sys/fs/cgroup/memory/app/memory.usage_in_bytes", std::to_string(10_MiB));
  CHECK(check_host_memory(9_MiB, root.path()));
  CHECK_FALSE(check_host_memory(9_MiB + 1, root.path()));
  // What the kernel writes when there is no limit.
  root.write("sys/fs/cgroup/memory/app/memory.limit_in_bytes", "9223372036854771712");
  CHECK(check_host_memory(55_MiB, root.path()));
}

TEST_CASE("in a container the group of the path is the root of the mount") {
  const TemporaryFolder root;
  write_machine(root);
  root.write("proc/self/cgroup", "0::/host/path/not/mounted\n");
  root.write("sys/fs/cgroup/memory.max", std::to_string(20_MiB));
  root.write("sys/fs/cgroup/memory.current", "0");
  CHECK(check_host_memory(19_MiB, root.path()));
  CHECK_FALSE(check_host_memory(19_MiB + 1, root.path()));
}

TEST_CASE("a group over its limit has nothing left") {
  const TemporaryFolder root;
  write_machine(root);
  root.write("proc/self/cgroup", "0::/\n");
  root.write("sys/fs/cgroup/memory.max", std::to_string(20_MiB));
  root.write("sys/fs/cgroup/memory.current", std::to_string(30_MiB));
  CHECK_FALSE(check_host_memory(1, root.path()));
}

TEST_CASE("without readable limits nothing is refused") {
  const TemporaryFolder root;
  CHECK(check_host_memory(UINT64_MAX, root.path()));
}
