#include "csrc/rpc/fd_channel.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <filesystem>
#include <optional>
#include <thread>

#include "csrc/base/units.h"
#include "csrc/rpc/codec.h"
#include "csrc/rpc/descriptor_connection.h"
#include "csrc/rpc/unix_socket.h"
#include "tests/catch.h"
#include "tests/temporary_folder.h"

using namespace rtswap;

namespace {

struct Pair {
  Pair() {
    int fds[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    client.reset(fds[0]);
    server.reset(fds[1]);
  }
  UniqueFd client, server;
};

std::vector<UniqueFd> make_memories(size_t count) {
  std::vector<UniqueFd> memories;
  for (size_t i = 0; i < count; ++i) memories.emplace_back(::memfd_create("chunk", MFD_CLOEXEC));
  return memories;
}

std::vector<int> numbers(const std::vector<UniqueFd>& fds) {
  std::vector<int> result;
  for (const UniqueFd& fd : fds) result.push_back(fd.get());
  return result;
}

ino_t identity(int fd) {
  struct stat info {};
  REQUIRE(::fstat(fd, &info) == 0);
  return info.st_ino;
}

class FakeExchange final : public rpc::DescriptorExchange {
 public:
  Result<std::vector<int>> fetch(const rpc::ChunkFetch& request) override {
    fetched = request;
    if (refusal) return fail(*refusal);
    return chunks;
  }
  Result<int> fetch_ring(protocol::SessionId session) override {
    fetched.session = session;
    if (refusal) return fail(*refusal);
    return chunks.front();
  }
  Result<bool> wants(const rpc::ChunkOffer&) override {
    if (refusal) return fail(*refusal);
    return wanted;
  }
  Status take(const rpc::ChunkOffer& offer, std::vector<UniqueFd> descriptors) override {
    offered = offer;
    taken = std::move(descriptors);
    return {};
  }

  std::optional<Error> refusal;
  std::vector<int> chunks;
  bool wanted = true;
  rpc::ChunkFetch fetched;
  rpc::ChunkOffer offered;
  std::vector<UniqueFd> taken;
};

size_t open_files() {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    (void)entry;
    ++count;
  }
  return count;
}

std::string framed(const v1::DescriptorRequest& request) {
  const std::string payload = request.SerializeAsString();
  const uint32_t header[2] = {0x31465352, static_cast<uint32_t>(payload.size())};
  return std::string(reinterpret_cast<const char*>(header), sizeof(header)) + payload;
}

}  // namespace

TEST_CASE("a bank of several batches arrives whole and in order") {
  for (const size_t count : {size_t{1}, rpc::kBatchDescriptors, 2 * rpc::kBatchDescriptors + 7}) {
    Pair pair;
    const auto memories = make_memories(count);
    FakeExchange exchange;
    exchange.chunks = numbers(memories);
    std::thread server(
        [&] { CHECK(rpc::serve_descriptors(pair.server.get(), exchange, 10_s).has_value()); });
    const auto fetched = rpc::fetch_descriptors(pair.client.get(), {7, 2}, 10_s);
    server.join();
    REQUIRE(fetched.has_value());
    CHECK(exchange.fetched.session == 7);
    CHECK(exchange.fetched.device == 2);
    REQUIRE(fetched->size() == count);
    for (size_t i = 0; i < count; ++i) {
      REQUIRE(identity((*fetched)[i].get()) == identity(memories[i].get()));
    }
    CHECK((::fcntl(fetched->front().get(), F_GETFD) & FD_CLOEXEC) != 0);
  }
}

TEST_CASE("a message ring is one descriptor of a session") {
  Pair pair;
  const auto memories = make_memories(1);
  FakeExchange exchange;
  exchange.chunks = numbers(memories);
  if (GENERATE(false, true)) exchange.refusal = Error{ErrorCode::protocol_violation, "not yours"};
  std::thread server([&] {
    const Status served = rpc::serve_descriptors(pair.server.get(), exchange, 10_s);
    CHECK(served.has_value() == !exchange.refusal.has_value());
  });
  const auto fetched = rpc::fetch_ring(pair.client.get(), 7, 10_s);
  server.join();
  CHECK(exchange.fetched.session == 7);
  if (exchange.refusal) {
    REQUIRE_FALSE(fetched.has_value());
    CHECK(fetched.error().message == "not yours");
  } else {
    REQUIRE(fetched.has_value());
    CHECK(identity(fetched->get()) == identity(memories[0].get()));
  }
}

TEST_CASE("an offer hands copies back, or nothing when nothing is wanted") {
  const auto memories = make_memories(300);
  const rpc::ChunkOffer offer{"bank", "SIM-0", 4096, 300};
  FakeExchange exchange;
  exchange.wanted = GENERATE(true, false);
  Pair pair;
  std::thread server(
      [&] { CHECK(rpc::serve_descriptors(pair.server.get(), exchange, 10_s).has_value()); });
  CHECK(rpc::offer_descriptors(pair.client.get(), offer, numbers(memories), 10_s).has_value());
  server.join();
  REQUIRE(exchange.taken.size() == (exchange.wanted ? 300u : 0u));
  if (exchange.wanted) {
    CHECK(exchange.offered.bank_id == "bank");
    CHECK(identity(exchange.taken[299].get()) == identity(memories[299].get()));
  }
}

TEST_CASE("a refusal travels with its code and sentence") {
  FakeExchange exchange;
  exchange.refusal = Error{ErrorCode::unknown_device, "there is no device 9"};
  const bool fetch = GENERATE(true, false);
  Pair pair;
  std::thread server(
      [&] { CHECK_FALSE(rpc::serve_descriptors(pair.server.get(), exchange, 10_s).has_value()); });
  const Status status =
      fetch ? rpc::fetch_descriptors(pair.client.get(), {1, 9}, 10_s).map([](auto&&) {})
            : rpc::offer_descriptors(pair.client.get(), {"b", "d", 1, 1}, {0}, 10_s);
  server.join();
  REQUIRE_FALSE(status.has_value());
  CHECK(status.error().code == ErrorCode::unknown_device);
  CHECK(status.error().message == "there is no device 9");
}

TEST_CASE("a peer that stalls, leaves or talks nonsense ends the exchange with an error") {
  FakeExchange exchange;
  Pair pair;
  SECTION("stalls") {
    CHECK(rpc::serve_descriptors(pair.server.get(), exchange, 20_ms).error().code ==
          ErrorCode::timed_out);
    CHECK(rpc::fetch_descriptors(pair.client.get(), {}, 20_ms).error().code ==
          ErrorCode::timed_out);
  }
  SECTION("leaves") {
    pair.server.reset();
    CHECK(rpc::fetch_descriptors(pair.client.get(), {}, 10_s).error().code ==
          ErrorCode::daemon_unavailable);
  }
  SECTION("leaves in the middle of a bank") {
    const auto memories = make_memories(rpc::kBatchDescriptors + 1);
    exchange.chunks = numbers(memories);
    v1::DescriptorRequest request;
    request.set_protocol_version(protocol::kVersion);
    request.mutable_fetch();
    const std::string bytes = framed(request);
    REQUIRE(::send(pair.client.get(), bytes.data(), bytes.size(), 0) ==
            static_cast<ssize_t>(bytes.size()));
    ::shutdown(pair.client.get(), SHUT_WR);
    CHECK(rpc::serve_descriptors(pair.server.get(), exchange, 10_s).error().code ==
          ErrorCode::daemon_unavailable);
  }
  SECTION("talks nonsense") {
    const std::string nonsense =
        GENERATE(std::string("GET / HTTP/1.1\r\n\r\n"),
                 std::string("RSF1\xFF\xFF\xFF\xFF", 8),               // a frame of 4 GiB
                 std::string("RSF1\x03\x00\x00\x00\xFF\xFF\xFF", 11),  // not a message
                 framed({}));                                          // version 0
    REQUIRE(::send(pair.client.get(), nonsense.data(), nonsense.size(), 0) ==
            static_cast<ssize_t>(nonsense.size()));
    const auto served = rpc::serve_descriptors(pair.server.get(), exchange, 10_s);
    REQUIRE_FALSE(served.has_value());
    CHECK((served.error().code == ErrorCode::protocol_violation ||
           served.error().code == ErrorCode::protocol_mismatch));
  }
}

TEST_CASE("descriptors that nobody asked for are closed, not kept") {
  FakeExchange exchange;
  const size_t before = open_files();
  {
    Pair pair;
    const auto memories = make_memories(3);
    std::thread sender([&] {
      const std::vector<int> fds = numbers(memories);
      char byte = 'R';
      iovec data{&byte, 1};
      alignas(cmsghdr) char control[CMSG_SPACE(3 * sizeof(int))];
      msghdr header{};
      header.msg_iov = &data;
      header.msg_iovlen = 1;
      header.msg_control = control;
      header.msg_controllen = sizeof(control);
      cmsghdr* rights = CMSG_FIRSTHDR(&header);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(3 * sizeof(int));
      std::copy(fds.begin(), fds.end(), reinterpret_cast<int*>(CMSG_DATA(rights)));
      CHECK(::sendmsg(pair.client.get(), &header, 0) == 1);
      CHECK(::send(pair.client.get(), "SF1\0\0\0\0", 7, 0) == 7);
    });
    const auto served = rpc::serve_descriptors(pair.server.get(), exchange, 10_s);
    sender.join();
    REQUIRE_FALSE(served.has_value());
    CHECK(served.error().code == ErrorCode::protocol_violation);
  }
  CHECK(open_files() == before);
}

TEST_CASE("connection errors say which it is and what to do") {
  const std::string folder =
      std::filesystem::temp_directory_path() / ("rtswap-connect-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  const auto missing = rpc::connect_unix(folder + "/none.sock", 1_s);
  REQUIRE_FALSE(missing.has_value());
  CHECK(missing.error().code == ErrorCode::daemon_unavailable);
  CHECK_THAT(missing.error().message, test::contains("does not exist"));

  const std::string file = folder + "/file";
  UniqueFd(::open(file.c_str(), O_CREAT | O_WRONLY, 0600));
  CHECK_THAT(rpc::connect_unix(file, 1_s).error().message, test::contains("not the socket"));

  CHECK(rpc::connect_unix(std::string(200, 'x'), 1_s).error().code == ErrorCode::invalid_argument);
  std::filesystem::remove_all(folder);
}

TEST_CASE("a daemon that accepts nobody is not waited for when the caller says so") {
  const test::TemporaryFolder folder;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = folder.path() / "full.sock";
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  REQUIRE(::listen(listener.get(), 0) == 0);
  const auto first = rpc::connect_unix(path, 10_s);  // has the only place in the queue
  REQUIRE(first.has_value());
  const auto second = rpc::connect_unix(path, 3600_s, [] { return true; });
  REQUIRE_FALSE(second.has_value());
  CHECK(second.error().code == ErrorCode::interrupted);
}

TEST_CASE("more chunks than the hard limit allows are refused with both numbers") {
  const Status status = rpc::ensure_descriptor_room(size_t{1} << 40);
  REQUIRE_FALSE(status.has_value());
  CHECK(status.error().code == ErrorCode::descriptor_limit);
  CHECK_THAT(status.error().message, test::contains("hard limit"));
}
