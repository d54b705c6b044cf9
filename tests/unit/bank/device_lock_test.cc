#include "csrc/bank/device_lock.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/catch.h"
#include "tests/temporary_folder.h"

using namespace rtswap;
using bank::DeviceLock;
using test::contains;
using test::TemporaryFolder;

TEST_CASE("the lock of a device has one holder, and the second is told its name and pid") {
  const TemporaryFolder folder;
  {
    const auto first = DeviceLock::take("GPU-1", folder.path());
    REQUIRE(first);
    const auto second = DeviceLock::take("GPU-1", folder.path());
    REQUIRE_FALSE(second);
    CHECK(second.error().code == ErrorCode::device_in_use);
    CHECK_THAT(second.error().message, contains("test_bank (pid " + std::to_string(getpid())));
    CHECK(DeviceLock::take("GPU-2", folder.path()));
  }
  CHECK(DeviceLock::take("GPU-1", folder.path()));
}

TEST_CASE("a holder that dies holds nothing, and one that forked gives its lock back") {
  const TemporaryFolder folder;
  const pid_t holder = fork();
  if (holder == 0) {
    const auto lock = DeviceLock::take("GPU-1", folder.path());
    _exit(lock ? 0 : 1);  // without its destructor, as by SIGKILL
  }
  int status = 0;
  REQUIRE(waitpid(holder, &status, 0) == holder);
  CHECK(status == 0);
  int let_go[2];
  REQUIRE(pipe(let_go) == 0);
  pid_t child = 0;
  {
    const auto lock = DeviceLock::take("GPU-1", folder.path());
    REQUIRE(lock);
    child = fork();
    if (child == 0) {
      char byte = 0;
      close(let_go[1]);
      _exit(static_cast<int>(read(let_go[0], &byte, 1)));
    }
  }
  CHECK(DeviceLock::take("GPU-1", folder.path()));
  close(let_go[1]);
  close(let_go[0]);
  CHECK(waitpid(child, &status, 0) == child);
}

TEST_CASE("every user can take the lock after another, whatever the umask") {
  const TemporaryFolder folder;
  const mode_t before = umask(0077);
  CHECK(DeviceLock::take("GPU-1", folder.path()));
  umask(before);
  struct stat info {};
  REQUIRE(stat((folder.path() / "rtswap-GPU-1.lock").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0666);
}

TEST_CASE("a lock that cannot be made, or that is a link, is refused with its path") {
  const TemporaryFolder folder;
  const auto nowhere = DeviceLock::take("GPU-1", "/proc/rtswap");
  REQUIRE_FALSE(nowhere);
  CHECK(nowhere.error().code == ErrorCode::unsupported);
  CHECK_THAT(nowhere.error().message, contains("/proc/rtswap/rtswap-GPU-1.lock"));
  std::filesystem::create_symlink("/dev/null", folder.path() / "rtswap-GPU-1.lock");
  CHECK_FALSE(DeviceLock::take("GPU-1", folder.path()));
}
