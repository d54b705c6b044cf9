#include "daemon/config.h"

#include <cstdlib>
#include <fstream>

#include "csrc/base/units.h"
#include "daemon/tasks_file.h"
#include "tests/catch.h"
#include "tests/rpc/daemon_process.h"

using namespace rtswap;
using namespace rtswap::daemon;

namespace {

std::string write(const test::Folder& folder, const std::string& text) {
  const std::string path = folder.path() + "/file.toml";
  std::ofstream(path) << text;
  return path;
}

Result<Arguments> parse(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"--socket", "/run/user/1/s"});
  return parse_arguments(arguments);
}

}  // namespace

TEST_CASE("sizes are read as people write them") {
  CHECK(parse_size("4GiB").value() == 4_GiB);
  CHECK(parse_size("4GB").value() == 4'000'000'000);
  CHECK(parse_size("1.5GiB").value() == 1536_MiB);
  CHECK(parse_size("512 MiB").value() == 512_MiB);
  CHECK(parse_size("4096").value() == 4096);
  for (const char* wrong : {"", "GiB", "4Gib", "4Gb", "4g", "-1GiB", "0", "4GiB more", "1e30TiB",
                            "17TiB", "nan", "80%"}) {
    INFO(wrong);
    CHECK(parse_size(wrong).error().code == ErrorCode::invalid_argument);
  }
  CHECK(parse_budget("80%").value().percent == 80);
  CHECK(parse_budget("3GiB").value().bytes == 3_GiB);
  CHECK_FALSE(parse_budget("0%").has_value());
  CHECK_FALSE(parse_budget("101%").has_value());
  CHECK(size_text(79_GiB + 205_MiB) == "79.2 GiB");
  CHECK(size_text(512_MiB) == "512 MiB");
}

TEST_CASE("a flag wins over the file, and the file over the default") {
  const test::Folder folder;
  const std::string path = write(folder,
                                 "budget = \"2GiB\"\nwait-for = 3\n"
                                 "simulate = [\"4GiB\", \"8GiB\"]\nlog-format = \"json\"\n");
  const auto parsed = parse({"--config", path, "--budget", "50%", "check"});
  REQUIRE(parsed.has_value());
  CHECK(parsed->check);
  CHECK(parsed->config.budget->percent == 50);
  CHECK(parsed->config.wait_for_tasks == 3);
  CHECK(parsed->config.simulated_bytes == std::vector<uint64_t>{4_GiB, 8_GiB});
  CHECK(parsed->config.log_format == LogFormat::json);
  CHECK(parsed->config.log_level == "info");
}

TEST_CASE("mistakes in the file are named with file and line") {
  const test::Folder folder;
  const auto message = [&](const std::string& text) {
    const std::string path = write(folder, text);
    const auto parsed = parse({"--config", path});
    REQUIRE_FALSE(parsed.has_value());
    return parsed.error().message;
  };
  CHECK_THAT(message("\n\nbugdet = \"1GiB\"\n"),
             test::contains("file.toml:3") && test::contains("bugdet"));
  CHECK_THAT(message("budget = \"much\"\n"),
             test::contains("file.toml:1: budget") && test::contains("much"));
  CHECK_THAT(message("chunk = 2MiB\n"), test::contains("file.toml:1"));
  CHECK_THAT(message("budget = [\"1GiB\", \"2GiB\"]\n"), test::contains("more than once"));
  CHECK_THAT(message("[budget]\nx = 1\n"), test::contains("takes a text"));
  CHECK_THAT(parse({"--config", folder.path()}).error().message, test::contains("is a folder"));
}

TEST_CASE("mistakes in flags are named") {
  CHECK_THAT(parse({"--budget", "x"}).error().message, test::contains("--budget"));
  CHECK_THAT(parse({"--bugdet", "1"}).error().message, test::contains("--bugdet"));
  CHECK_THAT(parse({"--discipline", "fifo"}).error().message, test::contains("request-order"));
  CHECK_FALSE(parse({"--simulate", "1GiB", "--device", "GPU-1"}).has_value());
  CHECK_FALSE(parse({"--link-bandwidth", "1GB/s"}).has_value());
  CHECK(parse({"--simulate", "1GiB", "--link-bandwidth", "1GB/s"})->config.link_bytes_per_s ==
        1'000'000'000);
  CHECK_THAT(parse({"--simulate", "64"}).error().message, test::contains("less than one chunk"));
  CHECK_THAT(parse({"--simulate", "1GiB", "--link-bandwidth", "24"}).error().message,
             test::contains("24 bytes a second"));
  CHECK_THAT(parse({"--version"})->print_and_exit, test::contains("rtswapd 0."));
  CHECK_THAT(parse({"--budget", "1GiB", "2GiB"}).error().message, test::contains("2GiB"));
  CHECK_THAT(parse({"--budget", "1GiB", "--budget", "2GiB"}).error().message,
             test::contains("more than once"));
  CHECK_THAT(parse({"--help"})->print_and_exit, test::contains("--wait-for N "));
}

TEST_CASE("the task file gives settings by name") {
  const test::Folder folder;
  const auto tasks = read_tasks_file(write(folder, R"(
[[task]]
name = "detector"
rate_hz = 30
deadline_ms = 30
wcet_ms = 8.5
resident = true
late = "run"
importance = -1000
size = "900MiB"
mutable = 4096
model = "yolo"
profile = "yolo.toml"
[[task]]
name = "logger"
period_ms = 500.5
)"));
  REQUIRE(tasks.has_value());
  REQUIRE(tasks->size() == 2);
  const auto& detector = tasks->at("detector");
  CHECK(detector.timing.period_ns == 33'333'333);
  CHECK(detector.timing.deadline_ns == 30_ms);
  CHECK(detector.timing.wcet_ns == 8'500'000);
  CHECK(detector.resident == true);
  CHECK(detector.late == protocol::LatePolicy::run);
  CHECK(detector.importance == -1000);
  CHECK_FALSE(tasks->at("logger").importance.has_value());
  CHECK_FALSE(tasks->at("logger").resident.has_value());
  CHECK_FALSE(tasks->at("logger").late.has_value());
  CHECK(tasks->at("logger").timing.period_ns == 500'500'000);
  CHECK(tasks->at("logger").timing.deadline_ns == 0);
}

TEST_CASE("mistakes in the task file are named with file and line") {
  const test::Folder folder;
  const auto message = [&](const std::string& text) {
    const auto tasks = read_tasks_file(write(folder, text));
    REQUIRE_FALSE(tasks.has_value());
    return tasks.error().message;
  };
  CHECK_THAT(message("[[task]]\nname = \"a\"\nperiod = 3\n"), test::contains("file.toml:3"));
  CHECK_THAT(message("[[task]]\nname = \"a\"\nperiod_ms = -3\n"), test::contains("file.toml:3"));
  for (const std::string wrong : {"1.0", "true", "\"5\"", "1001", "-1001", "[1]", "nan"}) {
    CHECK_THAT(message("[[task]]\nname = \"a\"\nimportance = " + wrong + "\n"),
               test::contains("file.toml:3: importance takes a whole number from -1000"));
  }
  CHECK_THAT(message("[[task]]\nname = \"a\"\nperiod_ms = 3\nrate_hz = 4\n"),
             test::contains("not both"));
  CHECK_THAT(message("[[task]]\nname = \"a\"\nperiod_ms = 3\ndeadline_ms = 4\n"),
             test::contains("longer than its period"));
  CHECK_THAT(message("[[task]]\nperiod_ms = 3\n"), test::contains("no name"));
  CHECK_THAT(message("[[task]]\nname = \"a\"\n[[task]]\nname = \"a\"\n"), test::contains("twice"));
  CHECK_THAT(message("[[task]]\nname = \"a\"\nlate = \"never\"\n"), test::contains("late takes"));
  CHECK_THAT(message("[[task]]\nname = \"a\"\nsize = \"big\"\n"),
             test::contains("file.toml:3") && test::contains("512MiB"));
  CHECK_THAT(message("[[task]]\nname = \"a\"\nsize = \"1MiB\"\nmutable = \"2MiB\"\n"),
             test::contains("more mutable memory"));
  CHECK_THAT(message("[[task]]\nname = \"a\"\nmodel = 3\n"), test::contains("model takes"));
  CHECK_THAT(message("[[task]]\nname = \"a\"\nprofile = 3\n"), test::contains("profile takes"));
  CHECK_THAT(message("name = \"a\"\n"), test::contains("belongs into a [[task]]"));
  CHECK_THAT(message("[[tasks]]\nname = \"a\"\n"), test::contains("write [[task]], not"));
  CHECK_THAT(message("[[task]]\nname = \"a\"\nperiod_ms = 9\ndeadline_ms = 3\nwcet_ms = 4\n"),
             test::contains("takes longer than its deadline"));
  CHECK_THAT(message("[[task]]\nname = \"a\"\nperiod_ms = 9\nwcet_ms = 10\n"),
             test::contains("takes longer than its deadline"));
  CHECK_THAT(read_tasks_file("/nonexistent.toml").error().message,
             test::contains("/nonexistent.toml cannot be read: No such file"));
}
