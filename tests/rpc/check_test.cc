// `rtswapd check`, and what the daemon makes of the place where its sockets should lie.

#include <filesystem>
#include <fstream>
#include <iterator>

#include "daemon/socket_place.h"
#include "tests/catch.h"
#include "tests/rpc/daemon_process.h"

using namespace rtswap;
using test::ChildClient;
using test::Daemon;
using test::Folder;

namespace {

struct Findings {
  int status = -1;
  std::string text;
};

Findings check(const Folder& folder, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "check");
  Daemon process(folder, std::move(arguments));
  const int status = process.wait_exit();
  return {status, process.log()};
}

const std::vector<std::string> kSmall{"--simulate", "16MiB"};

std::string read_text(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("check says what the daemon would do, and does none of it") {
  const Folder folder;
  const Findings findings = check(folder, kSmall);
  CHECK(findings.status == 0);
  CHECK_THAT(findings.text, test::contains("bank of 16 MiB in 8 chunks of 2 MiB; 16 MiB stay"));
  CHECK_THAT(findings.text, test::contains("d.sock is free"));
  CHECK_THAT(findings.text, test::contains("rtswapd would start."));
  for (const char* suffix : {"", ".fds", ".lock", ".state"}) {
    CHECK_FALSE(std::filesystem::exists(folder.path() + "/d.sock" + suffix));
  }
}

TEST_CASE("check names what keeps the daemon from starting") {
  const Folder folder;
  const std::string tasks = folder.path() + "/tasks.toml";
  std::ofstream(tasks) << "[[task]]\nname = \"a\"\nperiod = 3\n";
  const auto refused = [&](std::vector<std::string> arguments, const std::string& why) {
    const Findings findings = check(folder, std::move(arguments));
    INFO(findings.text);
    CHECK(findings.status == 1);
    CHECK_THAT(findings.text, test::contains("FAIL") && test::contains(why) &&
                                  test::contains("rtswapd would not start."));
  };
  refused({"--simulate", "16MiB", "--budget", "32MiB"}, "does not fit SIM-0");
  refused({"--simulate", "16MiB", "--tasks", tasks}, "tasks.toml:3");
  refused({"--simulate", "16MiB", "--group", "no-such-group"}, "there is no group");
  refused({"--device", "GPU-1"}, "");  // no such GPU, or no GPU at all
}

TEST_CASE("check tells a daemon that runs from one that has ended and left holders") {
  const Folder folder;
  Daemon daemon(folder);
  REQUIRE(daemon.wait_ready());
  const Findings beside = check(folder, kSmall);
  CHECK(beside.status == 1);
  CHECK_THAT(beside.text, test::contains("served by process " + std::to_string(daemon.pid())));

  ChildClient holder(daemon.socket(), "plain");
  REQUIRE(holder.wait_for("<holding>"));
  daemon.kill();
  const Findings after = check(folder, kSmall);
  CHECK(after.status == 0);
  CHECK_THAT(after.text, test::contains("left over from an ended daemon"));
  CHECK_THAT(after.text, test::contains("(pid " + std::to_string(holder.pid()) + ")"));
}

TEST_CASE("what is not a socket is never replaced by one") {
  const Folder folder;
  const std::string path = folder.path() + "/d.sock";
  for (const char* suffix : {"", ".fds"}) {
    std::ofstream(path + suffix) << "weights";
    CHECK(check(folder, kSmall).status == 1);
    Daemon daemon(folder);
    CHECK(daemon.wait_exit() == 1);
    CHECK_THAT(daemon.log(), test::contains("is not a socket"));
    CHECK(read_text(path + suffix) == "weights");
    std::filesystem::remove(path + suffix);
  }
  Daemon daemon(folder);
  CHECK(daemon.wait_ready());
}

TEST_CASE("a place for sockets is judged before anything is made") {
  const Folder folder;
  std::ofstream(folder.path() + "/file") << "";
  CHECK(daemon::check_place(folder.path() + "/new/and/deeper/s", {}).has_value());
  CHECK(daemon::check_place("s", {}).has_value());
  const auto why = [&](const std::string& path) {
    const Status status = daemon::check_place(folder.path() + path, {});
    REQUIRE_FALSE(status.has_value());
    CHECK(status.error().code == ErrorCode::invalid_argument);
    return status.error().message;
  };
  CHECK_THAT(why("/" + std::string(120, 'x')), test::contains("at most 107"));
  CHECK_THAT(why("/file/s"), test::contains("is not a folder"));
  CHECK_FALSE(std::filesystem::exists(folder.path() + "/new"));
}
