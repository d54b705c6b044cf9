// What a probe sees: the standard health service.
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/grpcpp.h>

#include "csrc/rpc/unix_socket.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/catch.h"
#include "tests/rpc/daemon_process.h"

using namespace rtswap;
using grpc::health::v1::HealthCheckResponse;
using test::ChildClient;
using test::Client;
using test::Daemon;
using test::Folder;

namespace {

struct Answer {
  grpc::Status status;
  HealthCheckResponse::ServingStatus serving = HealthCheckResponse::UNKNOWN;
};

Answer probe(const std::string& socket_path, const std::string& service) {
  auto socket = rpc::connect_unix(socket_path, test::kPatience_ns);
  REQUIRE(socket.has_value());
  const auto stub = grpc::health::v1::Health::NewStub(
      grpc::CreateInsecureChannelFromFd("rtswapd", socket->release()));
  grpc::ClientContext context;
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  HealthCheckResponse reply;
  Answer answer;
  answer.status = stub->Check(&context, request, &reply);
  answer.serving = reply.status();
  return answer;
}

}  // namespace

TEST_CASE("a daemon that grants is serving, and no other service is known") {
  const Folder folder;
  Daemon daemon(folder);
  REQUIRE(daemon.wait_ready());
  for (const char* service : {"", "rtswap.v1.Arbiter"}) {
    const Answer answer = probe(daemon.socket(), service);
    CHECK(answer.status.ok());
    CHECK(answer.serving == HealthCheckResponse::SERVING);
  }
  CHECK(probe(daemon.socket(), "other").status.error_code() == grpc::StatusCode::NOT_FOUND);
}

TEST_CASE("a recovering daemon is not serving, and tells newcomers whom it waits for") {
  const Folder folder;
  auto daemon = std::make_unique<Daemon>(folder);
  REQUIRE(daemon->wait_ready());
  ChildClient holder(daemon->socket(), "plain");
  REQUIRE(holder.wait_for("<holding>"));
  daemon->kill();
  Daemon restarted(folder);
  REQUIRE(
      test::eventually([&] { return restarted.log().find("recovering") != std::string::npos; }));
  CHECK(probe(restarted.socket(), "").serving == HealthCheckResponse::NOT_SERVING);

  Client newcomer(restarted.socket());
  newcomer.send(protocol::Hello{});
  const auto fault = newcomer.receive<protocol::Fault>();
  REQUIRE(fault.has_value());
  CHECK(fault->error.code == ErrorCode::daemon_unavailable);
  CHECK_THAT(fault->error.message, test::contains("(pid " + std::to_string(holder.pid()) + ")"));

  holder.kill();
  REQUIRE(restarted.wait_ready());
  CHECK(probe(restarted.socket(), "").serving == HealthCheckResponse::SERVING);
}
