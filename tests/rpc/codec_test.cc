#include "csrc/rpc/codec.h"

#include "tests/catch.h"
#include "tests/rpc/reflect.h"

using namespace rtswap;
using test::same;

namespace {

// Random value -> wire bytes -> value, for every alternative of a message variant.
template <class Message, size_t I = 0>
void round_trip_all(test::Random& random) {
  if constexpr (I < std::variant_size_v<Message>) {
    using Alternative = std::variant_alternative_t<I, Message>;
    INFO("alternative " << I);
    for (int round = 0; round < 300; ++round) {
      Alternative value;
      test::randomize(value, random);
      const Message message = value;
      auto wire = rpc::encode(message);
      const std::string bytes = wire.SerializeAsString();
      decltype(wire) received;
      REQUIRE(received.ParseFromString(bytes));
      const auto decoded = rpc::decode(received);
      REQUIRE(decoded.has_value());
      REQUIRE(same(message, *decoded));
    }
    round_trip_all<Message, I + 1>(random);
  }
}

}  // namespace

TEST_CASE("every field of every message survives the wire") {
  test::Random random(20240611);
  round_trip_all<protocol::ClientMessage>(random);
  round_trip_all<protocol::ArbiterMessage>(random);
  for (int round = 0; round < 300; ++round) {
    protocol::Snapshot snapshot;
    test::randomize(snapshot, random);
    const auto decoded = rpc::decode(rpc::encode(snapshot));
    REQUIRE(decoded.has_value());
    REQUIRE(same(snapshot, *decoded));
  }
}

TEST_CASE("the comparison of the round trip notices a difference in a nested field") {
  protocol::Hello hello;
  hello.held.push_back({1, 0, "SIM-0", 4, {1, 2}});
  protocol::Hello other = hello;
  CHECK(same(hello, other));
  other.held[0].resident[1] = 3;
  CHECK_FALSE(same(hello, other));
  CHECK(test::field_count<protocol::Verdict>() == 14);
  CHECK(test::field_count<protocol::TaskStats>() == 20);
}

TEST_CASE("an envelope without a known message is a protocol violation") {
  CHECK(rpc::decode(v1::ClientEnvelope()).error().code == ErrorCode::protocol_violation);
  CHECK(rpc::decode(v1::ArbiterEnvelope()).error().code == ErrorCode::protocol_violation);
}

TEST_CASE("unknown enumerators are named, not guessed") {
  v1::ClientEnvelope client = rpc::encode(protocol::ClientMessage(protocol::OpenTask{}));
  client.mutable_open_task()->set_late_policy(static_cast<v1::LatePolicy>(77));
  const auto task = rpc::decode(client);
  REQUIRE_FALSE(task.has_value());
  CHECK_THAT(task.error().message, test::contains("late_policy 77"));

  client.mutable_open_task()->set_late_policy(v1::LATE_POLICY_RUN);
  client.mutable_open_task()->clear_on_refusal();
  CHECK(rpc::decode(client).error().code == ErrorCode::protocol_violation);

  v1::ArbiterEnvelope arbiter = rpc::encode(protocol::ArbiterMessage(protocol::Verdict{}));
  arbiter.mutable_verdict()->clear_state();
  CHECK(rpc::decode(arbiter).error().code == ErrorCode::protocol_violation);
}

TEST_CASE("text that a peer cannot have meant is refused, and never sent") {
  v1::ClientEnvelope envelope;
  envelope.mutable_hello()->set_process_name(std::string(rpc::kMaxTextBytes + 1, 'x'));
  const auto decoded = rpc::decode(envelope);
  REQUIRE_FALSE(decoded.has_value());
  CHECK_THAT(decoded.error().message, test::contains("process_name"));

  protocol::Hello hello;
  hello.process_name = std::string(rpc::kMaxTextBytes, 'x') + "tail";
  CHECK(rpc::decode(rpc::encode(protocol::ClientMessage(hello))).has_value());
  // Latin-1, a lone continuation, an overlong form, a surrogate and a sequence cut short.
  hello.process_name = "caf\xE9 \x80 \xC0\xAF \xED\xA0\x80 \xF0\x9F";
  const std::string bytes = rpc::encode(protocol::ClientMessage(hello)).SerializeAsString();
  REQUIRE(envelope.ParseFromString(bytes));
  CHECK(envelope.hello().process_name() == "caf? ? ?? ??? ??");
}

TEST_CASE("an error of a newer peer keeps its sentence") {
  v1::Error wire;
  wire.set_code_name("a_code_of_tomorrow");
  wire.set_message("do this");
  const Error error = rpc::decode(wire);
  CHECK(error.code == ErrorCode::internal);
  CHECK(error.message == "do this");
}

TEST_CASE("a damaged message decodes to a value or to a protocol violation, never to a crash") {
  test::Random random(7);
  int refused = 0;
  int understood = 0;
  for (int round = 0; round < 20'000; ++round) {
    protocol::OpenTask task;
    test::randomize(task, random);
    task.name.clear();  // the parser itself refuses broken UTF-8, loudly
    std::string bytes = rpc::encode(protocol::ClientMessage(task)).SerializeAsString();
    bytes[random() % bytes.size()] = static_cast<char>(random());
    v1::ClientEnvelope received;
    if (!received.ParseFromString(bytes)) continue;
    const auto decoded = rpc::decode(received);
    if (decoded.has_value()) {
      ++understood;
    } else {
      ++refused;
      REQUIRE(decoded.error().code == ErrorCode::protocol_violation);
    }
  }
  CHECK(refused > 100);
  CHECK(understood > 100);
}
