// rtswapd as its users meet it: start, refuse, serve, stop.
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "csrc/base/clock.h"
#include "csrc/base/units.h"
#include "csrc/rpc/unix_socket.h"
#include "tests/catch.h"
#include "tests/rpc/daemon_process.h"

using namespace rtswap;
using test::Client;
using test::Daemon;
using test::Folder;

namespace {

ino_t identity(int fd) {
  struct stat info {};
  REQUIRE(::fstat(fd, &info) == 0);
  return info.st_ino;
}

}  // namespace

TEST_CASE("a client gets the device, its chunks and the GPU, and hands all of it back") {
  const Folder folder;
  Daemon daemon(folder);
  REQUIRE(daemon.wait_ready());
  Client client(daemon.socket());
  const protocol::Welcome welcome = client.hello();
  REQUIRE(welcome.devices.size() == 1);
  CHECK(welcome.devices[0].uuid == "SIM-0");
  CHECK(welcome.devices[0].chunk_count == 8);
  CHECK(welcome.devices[0].total_bytes == 32_MiB);

  const auto chunks = client.link().fetch_chunks(welcome.session, 0);
  REQUIRE(chunks.has_value());
  CHECK(chunks->size() == 8);

  CHECK(client.run_job(1, 5, 1).size() == 5);
  auto snapshot = client.link().snapshot(test::kPatience_ns);
  REQUIRE(snapshot.has_value());
  CHECK(snapshot->devices[0].free_chunks == 3);
  client.send(protocol::JobDone{1, 1000});
  client.send(protocol::CloseTask{1});
  client.send(protocol::CloseArena{1});
  CHECK(test::eventually([&] {
    snapshot = client.link().snapshot(test::kPatience_ns);
    return snapshot && snapshot->devices[0].free_chunks == 8;
  }));
  client.send(protocol::Goodbye{});
  CHECK(client.wait_lost().has_value());
  CHECK(client.lost_calls() == 1);
}

TEST_CASE("two clients get the same memory") {
  const Folder folder;
  Daemon daemon(folder);
  REQUIRE(daemon.wait_ready());
  Client one(daemon.socket());
  Client two(daemon.socket());
  const auto first = one.link().fetch_chunks(one.hello().session, 0);
  const auto second = two.link().fetch_chunks(two.hello().session, 0);
  REQUIRE(first.has_value());
  REQUIRE(second.has_value());
  const char written = 'w';
  char read = 0;
  REQUIRE(::pwrite((*first)[3].get(), &written, 1, 4096) == 1);
  REQUIRE(::pread((*second)[3].get(), &read, 1, 4096) == 1);
  CHECK(read == written);
  CHECK(identity((*first)[3].get()) == identity((*second)[3].get()));
  CHECK(identity((*first)[3].get()) != identity((*second)[4].get()));
}

TEST_CASE("connections that came at once and have gone leave no descriptors behind") {
  const Folder folder;
  Daemon daemon(folder);
  REQUIRE(daemon.wait_ready());
  const auto descriptors = [&] {
    const std::filesystem::directory_iterator files("/proc/" + std::to_string(daemon.pid()) +
                                                    "/fd");
    return std::distance(begin(files), end(files));
  };
  const auto connect = [&] {
    auto socket = rpc::connect_unix(daemon.socket(), test::kPatience_ns);
    REQUIRE(socket.has_value());
    return std::move(*socket);
  };
  constexpr int kConnections = 20;
  const auto before = descriptors();
  {
    std::vector<UniqueFd> sockets;
    for (int i = 0; i < kConnections; ++i) sockets.push_back(connect());
    CHECK(test::eventually([&] { return descriptors() >= before + kConnections; }));
  }
  // What one connection keeps open: itself, a duplicate, the process; and of one that has just
  // gone.
  CHECK(test::eventually([&] {
    const UniqueFd one = connect();
    return descriptors() <= before + 6;
  }));
}

TEST_CASE("a second daemon on the socket names the first and leaves it alone") {
  const Folder folder;
  Daemon first(folder);
  REQUIRE(first.wait_ready());
  Daemon second(folder);
  CHECK(second.wait_exit() == 1);
  CHECK_THAT(second.log(), test::contains("(pid " + std::to_string(first.pid()) + ")"));
  Client client(first.socket());
  CHECK(client.hello().session != 0);
}

TEST_CASE("no daemon, and a daemon that was killed, are told apart") {
  const Folder folder;
  Daemon daemon(folder);
  REQUIRE(daemon.wait_ready());
  const std::string socket = daemon.socket();
  daemon.kill();
  const auto ended = rpc::connect({socket});
  REQUIRE_FALSE(ended.has_value());
  CHECK(ended.error().code == ErrorCode::daemon_unavailable);
  CHECK_THAT(ended.error().message, test::contains("nobody listens"));
  std::filesystem::remove(socket);
  CHECK_THAT(rpc::connect({socket}).error().message, test::contains("does not exist"));
}

TEST_CASE("another version of the protocol is refused with both numbers") {
  const Folder folder;
  Daemon daemon(folder);
  REQUIRE(daemon.wait_ready());
  Client client(daemon.socket());
  protocol::Hello hello;
  hello.protocol_version = protocol::kVersion + 41;
  client.send(hello);
  const auto fault = client.receive<protocol::Fault>();
  REQUIRE(fault.has_value());
  CHECK(fault->error.code == ErrorCode::protocol_mismatch);
  CHECK_THAT(fault->error.message, test::contains(std::to_string(protocol::kVersion + 41)) &&
                                       test::contains(std::to_string(protocol::kVersion)));
  CHECK(client.wait_lost().has_value());
}

TEST_CASE("the socket is the user's alone, and a clean stop takes it away") {
  const Folder folder;
  Daemon daemon(folder);
  REQUIRE(daemon.wait_ready());
  for (const char* suffix : {"", ".fds", ".lock", ".state"}) {
    struct stat info {};
    REQUIRE(::stat((daemon.socket() + suffix).c_str(), &info) == 0);
    INFO(suffix);
    CHECK((info.st_mode & 0777) == 0600);
  }
  const std::string socket = daemon.socket();
  CHECK(daemon.terminate() == 0);
  CHECK_FALSE(std::filesystem::exists(socket));
  CHECK_FALSE(std::filesystem::exists(socket + ".fds"));
  CHECK_FALSE(std::filesystem::exists(socket + ".state"));
}

TEST_CASE("a clean stop does not wait for clients, and the next daemon knows what they hold") {
  const Folder folder;
  auto daemon = std::make_unique<Daemon>(folder);
  REQUIRE(daemon->wait_ready());
  const std::string socket = daemon->socket();
  Client client(socket);
  const auto chunks = client.link().fetch_chunks(client.hello().session, 0);
  REQUIRE(chunks.has_value());
  client.run_job(1, 5, 1);
  CHECK(daemon->terminate() == 0);
  CHECK(client.wait_lost().has_value());
  CHECK(std::filesystem::exists(socket + ".state"));
  Daemon next(folder);
  REQUIRE(test::eventually([&] { return next.log().find("recovering") != std::string::npos; }));
}

TEST_CASE("a log as JSON is one object a line") {
  const Folder folder;
  Daemon daemon(folder, {"--simulate", "16MiB", "--log-format", "json"});
  REQUIRE(daemon.wait_ready());
  CHECK(daemon.terminate() == 0);
  std::istringstream log(daemon.log());
  int objects = 0;
  for (std::string line; std::getline(log, line);) {
    if (line.starts_with("rtswapd ready:")) continue;  // stdout's, into the same file
    INFO(line);
    const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    REQUIRE(object.is_object());
    CHECK(object.at("level") == "info");
    CHECK(object.at("time").get<std::string>().ends_with("Z"));
    CHECK_FALSE(object.at("message").get<std::string>().empty());
    ++objects;
  }
  CHECK(objects >= 3);  // the bank, ready, stopping
}

TEST_CASE("more than the device has is refused before anything is made") {
  const Folder folder;
  Daemon daemon(folder, {"--simulate", "64MiB", "--budget", "1GiB"});
  CHECK(daemon.wait_exit() == 1);
  CHECK_THAT(daemon.log(), test::contains("does not fit SIM-0"));
}

TEST_CASE("chunks are for the sessions of the process that asks") {
  const Folder folder;
  Daemon daemon(folder);
  REQUIRE(daemon.wait_ready());
  Client client(daemon.socket());
  const auto session = client.hello().session;
  const auto wrong_session = client.link().fetch_chunks(session + 7, 0);
  REQUIRE_FALSE(wrong_session.has_value());
  CHECK(wrong_session.error().code == ErrorCode::protocol_violation);
  const auto wrong_device = client.link().fetch_chunks(session, 4);
  REQUIRE_FALSE(wrong_device.has_value());
  CHECK(wrong_device.error().code == ErrorCode::unknown_device);
  const Status wrong_ring = client.link().open_shortcut(session + 7);
  REQUIRE_FALSE(wrong_ring.has_value());
  CHECK(wrong_ring.error().code == ErrorCode::protocol_violation);
}

TEST_CASE("whoever looks for an answer sees it first, and nobody sees it twice") {
  const Folder folder;
  Daemon daemon(folder);
  REQUIRE(daemon.wait_ready());
  Client client(daemon.socket());
  const auto session = client.hello().session;
  (void)client.run_job(1, 2, 1);
  client.send(protocol::JobDone{1, monotonic_now_ns()});
  REQUIRE(client.link().open_shortcut(session).has_value());
  size_t jobs = 1;
  const auto runs = [&] { return client.all<protocol::Run>(); };
  const auto seen_here = [&](const auto& run) { return run.second == std::this_thread::get_id(); };
  CHECK(test::eventually([&] {
    for (int i = 0; i < 50; ++i) {
      const protocol::JobId job = ++jobs;
      client.send(protocol::Release{job, 1, monotonic_now_ns(), protocol::kNoDeadline_ns});
      const int64_t give_up_ns = monotonic_now_ns() + test::kPatience_ns;
      while (runs().size() < jobs && monotonic_now_ns() < give_up_ns) client.link().poll();
      client.send(protocol::JobDone{job, monotonic_now_ns()});
    }
    const auto all = runs();  // this thread was faster than the link's at least once
    return std::any_of(all.begin(), all.end(), seen_here);
  }));
  client.send(protocol::CloseTask{1});
  client.send(protocol::CloseArena{1});
  client.send(protocol::Goodbye{});
  CHECK(client.wait_lost().has_value());
  const auto all = runs();
  REQUIRE(all.size() == jobs);
  for (size_t i = 0; i < jobs; ++i) CHECK(all[i].first.job == i + 1);
  client.link().poll();
  CHECK(client.lost_calls() == 1);
}
