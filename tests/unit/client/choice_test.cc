// Which arbiter is chosen, and what is said when there is none.
#include <set>

#include "csrc/client/grpc_loader.h"
#include "csrc/client/socket_choice.h"
#include "tests/catch.h"

using namespace rtswap;
using namespace rtswap::client;
using rtswap::test::contains;

namespace {

auto files(std::set<std::string> present) {
  return
      [present = std::move(present)](const std::string& path) { return present.count(path) > 0; };
}

}  // namespace

TEST_CASE(
    "a named socket is used whether it exists or not, the caller's before the environment's") {
  SocketWishes wishes{.socket_path = "/a", .environment = "/b", .runtime_dir = "/run/user/1"};
  CHECK(choose_socket(wishes, files({})).value() == "/a");
  wishes.socket_path.clear();
  CHECK(choose_socket(wishes, files({})).value() == "/b");
}

TEST_CASE("otherwise the first existing one of the default places") {
  SocketWishes wishes;
  wishes.runtime_dir = "/run/user/1";
  const std::string user = "/run/user/1/rtswap/rtswapd.sock";
  const std::string system = "/run/rtswap/rtswapd.sock";
  CHECK(choose_socket(wishes, files({user, system})).value() == user);
  CHECK(choose_socket(wishes, files({system})).value() == system);
  CHECK(choose_socket({}, files({user, system})).value() == system);
  CHECK_FALSE(choose_socket(wishes, files({})).value().has_value());
}

TEST_CASE("an embedded arbiter that was asked for looks at no socket") {
  SocketWishes wishes;
  wishes.choice = ArbiterChoice::embedded;
  wishes.socket_path = "/a";
  CHECK_FALSE(choose_socket(wishes, files({"/a"})).value().has_value());
}

TEST_CASE(
    "a daemon that was asked for and is not there is an error that says where it was sought") {
  SocketWishes wishes;
  wishes.choice = ArbiterChoice::daemon;
  wishes.runtime_dir = "/run/user/1";
  const auto choice = choose_socket(wishes, files({}));
  REQUIRE_FALSE(choice);
  CHECK(choice.error().code == ErrorCode::daemon_unavailable);
  CHECK_THAT(choice.error().message, contains("/run/user/1/rtswap/rtswapd.sock"));
  CHECK_THAT(choice.error().message, contains("/run/rtswap/rtswapd.sock"));
}

TEST_CASE("without the gRPC library a daemon is unavailable, and the message names the library") {
  const auto missing = load_grpc_link("/nowhere/librtswap_grpc.so");
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code == ErrorCode::daemon_unavailable);
  CHECK_THAT(missing.error().message, contains("/nowhere/librtswap_grpc.so"));
  CHECK(load_grpc_link("").error().code == ErrorCode::daemon_unavailable);
  const auto other = load_grpc_link("libm.so.6");
  REQUIRE_FALSE(other);
  CHECK_THAT(other.error().message, contains("rtswap_grpc_connect"));

  ConnectOptions options;
  options.socket_path = "/nowhere/rtswapd.sock";
  CHECK(Session::connect(options).error().code == ErrorCode::daemon_unavailable);
}
