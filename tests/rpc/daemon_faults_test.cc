// What goes wrong: clients that die, fork, stall or talk nonsense, and a daemon that is killed.
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/grpcpp.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <thread>

#include "csrc/base/units.h"
#include "csrc/rpc/codec.h"
#include "csrc/rpc/unix_socket.h"
#include "rtswap/v1/arbiter.grpc.pb.h"
#include "tests/catch.h"
#include "tests/rpc/daemon_process.h"

using namespace rtswap;
using test::ChildClient;
using test::Client;
using test::Daemon;
using test::Folder;

namespace {

bool all_chunks_free(Client& observer) {
  const auto snapshot = observer.link().snapshot(test::kPatience_ns);
  return snapshot && !snapshot->devices.empty() && snapshot->devices[0].free_chunks == 8;
}

std::vector<int> numbers(const std::vector<UniqueFd>& fds) {
  std::vector<int> result;
  for (const UniqueFd& fd : fds) result.push_back(fd.get());
  return result;
}

}  // namespace

// Not a test by itself: the process behind ChildClient. Says what it did on stderr and waits to be
// killed.
TEST_CASE("child client", "[.child-client]") {
  const char* socket = std::getenv("RTSWAP_TEST_SOCKET");
  const char* mode_text = std::getenv("RTSWAP_TEST_MODE");
  REQUIRE(socket != nullptr);
  REQUIRE(mode_text != nullptr);
  const std::string mode = mode_text;
  Client client(socket);
  const auto welcome = client.hello();
  const auto chunks = client.link().fetch_chunks(welcome.session, 0);
  REQUIRE(chunks.has_value());
  REQUIRE(client.run_job(1, 6, 1).size() == 6);
  if (mode == "fork") {
    // The child inherits the connection and outlives its parent, but not the test that reads the
    // other end of stderr.
    if (::fork() == 0) {
      pollfd reader{STDERR_FILENO, 0, 0};
      ::poll(&reader, 1, -1);
      ::_exit(0);
    }
  }
  std::fprintf(stderr, "<holding>\n");
  for (;;) ::pause();
}

TEST_CASE("a client killed while it holds the device frees everything") {
  const Folder folder;
  Daemon daemon(folder);
  REQUIRE(daemon.wait_ready());
  Client observer(daemon.socket());
  observer.hello();
  ChildClient child(daemon.socket(), "plain");
  REQUIRE(child.wait_for("<holding>"));
  CHECK_FALSE(all_chunks_free(observer));
  child.kill();
  CHECK(test::eventually([&] { return all_chunks_free(observer); }));
  CHECK(observer.run_job(9, 8, 1).size() == 8);
}

TEST_CASE("a forked child that keeps the stream open does not keep its parent's memory") {
  const Folder folder;
  Daemon daemon(folder);
  REQUIRE(daemon.wait_ready());
  Client observer(daemon.socket());
  observer.hello();
  auto child = std::make_unique<ChildClient>(daemon.socket(), "fork");
  REQUIRE(child->wait_for("<holding>"));
  child->kill();  // the parent; its child still has the socket
  CHECK(test::eventually([&] { return all_chunks_free(observer); }));
}

TEST_CASE("a client that ends its stream but lives keeps its memory") {
  const Folder folder;
  Daemon daemon(folder);
  REQUIRE(daemon.wait_ready());
  Client observer(daemon.socket());
  observer.hello();
  protocol::SessionId session = 0;
  std::vector<protocol::ChunkId> chunks;
  {
    Client client(daemon.socket());
    session = client.hello().session;
    chunks = client.run_job(1, 5, 1);
  }
  Client again(daemon.socket());
  const auto welcome = again.hello(session, {{1, 0, "SIM-0", 5, chunks}});
  CHECK(welcome.session != session);
  const auto snapshot = observer.link().snapshot(test::kPatience_ns);
  REQUIRE(snapshot.has_value());
  CHECK(snapshot->devices[0].free_chunks == 3);
}

TEST_CASE("a client whose link is lost again before the answer still gets its memory back") {
  const Folder folder;
  Daemon daemon(folder);
  REQUIRE(daemon.wait_ready());
  protocol::SessionId session = 0;
  std::vector<protocol::ChunkId> chunks;
  {
    Client client(daemon.socket());
    session = client.hello().session;
    chunks = client.run_job(1, 5, 1);
  }
  const std::vector<protocol::HeldArena> held{{1, 0, "SIM-0", 5, chunks}};
  protocol::SessionId last = session;
  for (int attempt = 0; attempt < 3; ++attempt) {
    // It never learns the numbers of these sessions.
    const auto welcome = Client(daemon.socket()).hello(session, held);
    CHECK(welcome.session > last);
    last = welcome.session;
  }
  Client again(daemon.socket());
  again.hello(session, held);
  CHECK(again.link().snapshot(test::kPatience_ns)->devices[0].free_chunks == 3);
}

TEST_CASE("nonsense on either socket ends that connection and nothing else") {
  const Folder folder;
  Daemon daemon(folder);
  REQUIRE(daemon.wait_ready());
  Client observer(daemon.socket());
  observer.hello();
  for (const std::string& path : {daemon.socket(), rpc::descriptor_socket_path(daemon.socket())}) {
    const auto socket = rpc::connect_unix(path, test::kPatience_ns);
    REQUIRE(socket.has_value());
    const std::string nonsense(200, '\xAB');
    REQUIRE(::send(socket->get(), nonsense.data(), nonsense.size(), MSG_NOSIGNAL) == 200);
    char byte = 0;
    CHECK(test::eventually([&] {
      const ssize_t got = ::recv(socket->get(), &byte, 1, MSG_DONTWAIT);
      return got == 0 || (got < 0 && errno == ECONNRESET);
    }));
  }
  CHECK(observer.run_job(1, 8, 1).size() == 8);
}

TEST_CASE("a message before Hello ends the session with a reason") {
  const Folder folder;
  Daemon daemon(folder);
  REQUIRE(daemon.wait_ready());
  Client client(daemon.socket());
  client.send(protocol::OpenArena{1, 0, 1, 0});
  const auto fault = client.receive<protocol::Fault>();
  REQUIRE(fault.has_value());
  CHECK(fault->error.code == ErrorCode::protocol_violation);
}

TEST_CASE("a daemon that may open no more files refuses a session and goes on") {
  const Folder folder;
  Daemon daemon(folder);
  REQUIRE(daemon.wait_ready());
  Client client(daemon.socket());
  rlimit limit{};
  REQUIRE(::prlimit(daemon.pid(), RLIMIT_NOFILE, nullptr, &limit) == 0);
  const rlimit none{.rlim_cur = 0, .rlim_max = limit.rlim_max};
  REQUIRE(::prlimit(daemon.pid(), RLIMIT_NOFILE, &none, nullptr) == 0);
  client.send(protocol::Hello{});
  const auto fault = client.receive<protocol::Fault>();
  REQUIRE(fault.has_value());
  CHECK(fault->error.code == ErrorCode::descriptor_limit);
  REQUIRE(::prlimit(daemon.pid(), RLIMIT_NOFILE, &limit, nullptr) == 0);
  CHECK(Client(daemon.socket()).hello().session != 0);
}

TEST_CASE("a daemon that is stopped does not hold its clients") {
  const Folder folder;
  Daemon daemon(folder);
  REQUIRE(daemon.wait_ready());
  auto client = std::make_unique<Client>(daemon.socket());
  client->hello();
  daemon.stop();
  Status sent;
  // send() never blocks: it queues until the outbox is full, and then says so.
  for (int i = 0; i < 200'000 && sent; ++i) {
    sent = client->link().send(protocol::CancelJob{static_cast<uint64_t>(i)});
  }
  REQUIRE_FALSE(sent.has_value());
  CHECK(sent.error().code == ErrorCode::daemon_unavailable);
  CHECK(client->wait_lost().has_value());
  CHECK(client->lost_calls() == 1);
  client.reset();
}

TEST_CASE("a client that does not read loses its stream and disturbs nobody") {
  const Folder folder;
  Daemon daemon(folder);
  REQUIRE(daemon.wait_ready());
  Client observer(daemon.socket());
  observer.hello();

  // Without our link, which would always read. Its writes wait for the daemon's reads, so nothing
  // but the daemon's outbox can overflow.
  auto socket = rpc::connect_unix(daemon.socket(), test::kPatience_ns);
  REQUIRE(socket.has_value());
  const auto stub =
      v1::Arbiter::NewStub(grpc::CreateInsecureChannelFromFd("rtswapd", socket->release()));
  grpc::ClientContext context;
  const auto stream = stub->Session(&context);
  REQUIRE(stream->Write(rpc::encode(protocol::ClientMessage(protocol::Hello{}))));
  v1::ArbiterEnvelope welcome;
  REQUIRE(stream->Read(&welcome));
  const auto write = [&](const protocol::ClientMessage& message) {
    v1::ClientEnvelope envelope = rpc::encode(message);
    envelope.set_session_id(welcome.session_id());
    envelope.set_epoch(welcome.epoch());
    return stream->Write(envelope);
  };
  REQUIRE(write(protocol::OpenArena{1, 0, 1, 0}));
  protocol::OpenTask task;
  task.task = 1;
  task.arena = 1;
  task.name = "slow";
  REQUIRE(write(task));
  int requests = 0;
  while (requests < 1'000'000 && write(protocol::UpdateTask{1, {}})) ++requests;  // each: a Verdict
  INFO(requests << " requests were taken");
  CHECK(requests < 1'000'000);
  CHECK_THAT(daemon.log(), test::contains("does not read its messages"));
  CHECK(observer.run_job(2, 4, 1).size() == 4);
  v1::ArbiterEnvelope unread;
  while (stream->Read(&unread)) {
  }
  stream->Finish();  // would wait for messages that nobody has read
  CHECK(daemon.terminate() == 0);
}

TEST_CASE("a client whose daemon hangs can still be destroyed") {
  const Folder folder;
  Daemon daemon(folder);
  REQUIRE(daemon.wait_ready());
  auto client = std::make_unique<Client>(daemon.socket());
  client->hello();
  daemon.stop();
  client.reset();
  CHECK(::kill(daemon.pid(), SIGCONT) == 0);
}

TEST_CASE("waiting for a daemon that is stopped ends when the caller says so") {
  const Folder folder;
  Daemon daemon(folder);
  REQUIRE(daemon.wait_ready());
  auto client = std::make_unique<Client>(daemon.socket());
  const auto session = client->hello().session;
  daemon.stop();
  int questions = 0;
  const Interrupted interrupted = [&questions] { return ++questions > 2; };
  SECTION("connecting") {
    constexpr int64_t kHour_ns = 3600'000'000'000;
    const auto connected = rpc::connect({daemon.socket(), kHour_ns, interrupted});
    REQUIRE_FALSE(connected.has_value());
    CHECK(connected.error().code == ErrorCode::interrupted);
  }
  SECTION("fetching chunks") {
    const auto chunks = client->link().fetch_chunks(session, 0, interrupted);
    REQUIRE_FALSE(chunks.has_value());
    CHECK(chunks.error().code == ErrorCode::interrupted);
  }
  SECTION("offering them") {
    const Status offered = client->link().offer_chunks("bank", "SIM-0", 1, {0}, interrupted);
    REQUIRE_FALSE(offered.has_value());
    CHECK(offered.error().code == ErrorCode::interrupted);
  }
  CHECK(questions == 3);
  CHECK(::kill(daemon.pid(), SIGCONT) == 0);
}

TEST_CASE("a restarted daemon takes the bank over from a client that comes back") {
  const Folder folder;
  auto daemon = std::make_unique<Daemon>(folder);
  REQUIRE(daemon->wait_ready());
  const std::string socket = daemon->socket();
  Client before(socket);
  const auto welcome = before.hello();
  auto chunks = before.link().fetch_chunks(welcome.session, 0);
  REQUIRE(chunks.has_value());
  const auto owned = before.run_job(1, 5, 1);
  const char written = 'k';
  REQUIRE(::pwrite((*chunks)[owned[2]].get(), &written, 1, 0) == 1);
  daemon->kill();
  REQUIRE(before.wait_lost().has_value());

  Daemon other_budget(folder, {"--simulate", "32MiB"});
  CHECK(other_budget.wait_exit() == 1);
  CHECK_THAT(other_budget.log(),
             test::contains("still held by test (pid " + std::to_string(::getpid()) + ")"));

  Daemon restarted(folder);
  REQUIRE(
      test::eventually([&] { return restarted.log().find("recovering") != std::string::npos; }));
  Client after(socket);
  const auto& device = welcome.devices[0];
  REQUIRE(after.link()
              .offer_chunks(device.bank_id, device.uuid, device.chunk_bytes, numbers(*chunks))
              .has_value());
  const auto second = after.hello(welcome.session, {{1, 0, device.uuid, 5, owned}});
  CHECK(second.devices[0].bank_id == device.bank_id);
  CHECK(second.epoch != welcome.epoch);
  CHECK(second.session > welcome.session);
  REQUIRE(restarted.wait_ready());
  // The ledger knows what is held, and a third process gets the very same memory.
  CHECK(after.link().snapshot(test::kPatience_ns)->devices[0].free_chunks == 3);
  Client third(socket);
  const auto fetched = third.link().fetch_chunks(third.hello().session, 0);
  REQUIRE(fetched.has_value());
  char read = 0;
  REQUIRE(::pread((*fetched)[owned[2]].get(), &read, 1, 0) == 1);
  CHECK(read == written);
}

TEST_CASE("a restarted daemon makes a new bank once the last holder of the old one is dead") {
  const Folder folder;
  auto daemon = std::make_unique<Daemon>(folder);
  REQUIRE(daemon->wait_ready());
  ChildClient child(daemon->socket(), "plain");
  REQUIRE(child.wait_for("<holding>"));
  daemon->kill();
  Daemon restarted(folder);
  REQUIRE(
      test::eventually([&] { return restarted.log().find("recovering") != std::string::npos; }));
  child.kill();
  REQUIRE(restarted.wait_ready());
  Client client(restarted.socket());
  client.hello();
  CHECK(client.run_job(1, 8, 1).size() == 8);
}

TEST_CASE("a client that had no chunks does not end the wait for one that has") {
  const Folder folder;
  auto daemon = std::make_unique<Daemon>(folder);
  REQUIRE(daemon->wait_ready());
  const std::string socket = daemon->socket();
  Client with(socket);
  Client without(socket);
  const auto welcome = with.hello();
  const auto chunks = with.link().fetch_chunks(welcome.session, 0);
  REQUIRE(chunks.has_value());
  const auto owned = with.run_job(1, 5, 1);
  const auto other = without.hello();
  daemon->kill();

  Daemon restarted(folder);
  REQUIRE(
      test::eventually([&] { return restarted.log().find("recovering") != std::string::npos; }));
  const auto& device = welcome.devices[0];
  Client again(socket);  // its chunks are back, itself not yet
  REQUIRE(again.link()
              .offer_chunks(device.bank_id, device.uuid, device.chunk_bytes, numbers(*chunks))
              .has_value());
  Client newcomer(socket);
  newcomer.hello(other.session);
  CHECK(newcomer.link().snapshot(test::kPatience_ns)->recovering);
  again.hello(welcome.session, {{1, 0, device.uuid, 5, owned}});
  REQUIRE(restarted.wait_ready());
  CHECK(newcomer.link().snapshot(test::kPatience_ns)->devices[0].free_chunks == 3);
}
