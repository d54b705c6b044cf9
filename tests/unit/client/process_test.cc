// What a session does to its process: forks, exits, descriptors, mappings.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>

#include "csrc/base/units.h"
#include "csrc/client/session.h"
#include "tests/catch.h"

using namespace rtswap;
using namespace rtswap::client;
using namespace rtswap::literals;

namespace {

constexpr int64_t kPatience_ns = 30'000'000'000;

struct Opened {
  std::shared_ptr<Session> session;
  engine::ArenaId arena = 0;
  std::shared_ptr<Task> task;
};

Opened open() {
  ConnectOptions options;
  options.choice = ArbiterChoice::embedded;
  options.embedded.simulated_bytes = 4_MiB;
  options.embedded.chunk_bytes = 2_MiB;
  Opened opened;
  opened.session = Session::connect(std::move(options)).value();
  opened.arena = opened.session->open_arena(0, "arena").value();
  REQUIRE(opened.session->add_segment(opened.arena, engine::Kind::mutable_state, 5000));
  REQUIRE(opened.session->publish_arena(opened.arena, -1));
  TaskOptions task;
  task.name = "task";
  opened.task = opened.session->open_task(opened.arena, task).value();
  return opened;
}

bool one_job(Task& task) {
  const auto job = task.release(0, true, Start::whole).value();
  return job->wait(kPatience_ns).value_or(false) && job->end({}).has_value();
}

bool closed(const Error& error) { return error.code == ErrorCode::closed; }

size_t descriptors() {
  const std::filesystem::directory_iterator folder("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(folder), end(folder)));
}

size_t mappings() {
  std::ifstream maps("/proc/self/maps");
  size_t lines = 0;
  for (std::string line; std::getline(maps, line);) ++lines;
  return lines;
}

// Exit status of a child that runs `body`.
template <class Body>
int in_child(Body body) {
  const pid_t child = fork();
  if (child == 0) body();
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return status;
}

}  // namespace

TEST_CASE("in a forked child every call is closed, and the parent goes on") {
  Opened opened = open();
  std::shared_ptr<Job> job = opened.task->release(0, true, Start::whole).value();
  REQUIRE(job->wait(kPatience_ns).value());
  const int status = in_child([&] {
    bool right = closed(job->wait(-1).error()) && closed(job->end({}).error());
    right &= !job->ready_descriptor() && !opened.session->connected();
    right &= closed(opened.task->release(0, true, Start::whole).error());
    right &= closed(opened.task->wait_verdict(-1).error());
    right &= closed(opened.session->open_arena(0, "child").error());
    right &= closed(opened.session->snapshot(-1).error());
    right &= closed(opened.session->close().error());
    job.reset();
    opened.task.reset();
    opened.session.reset();
    _exit(right ? 0 : 1);
  });
  CHECK(status == 0);
  CHECK(job->end({}));
  CHECK(one_job(*opened.task));
}

TEST_CASE("a process may exit while a session is open and works") {
  const int status = in_child([] {
    // On the heap, like the one of a program that never closes it.
    auto* const opened = new Opened(open());
    std::thread([opened] {
      while (true) (void)one_job(*opened->task);
    }).detach();
    (void)one_job(*opened->task);
    std::exit(0);
  });
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("two hundred sessions leave no descriptor and no mapping behind") {
  const auto life = [] {
    const Opened opened = open();
    CHECK(one_job(*opened.task));
  };
  for (int i = 0; i < 10; ++i) life();
  const size_t descriptors_before = descriptors();
  const size_t mappings_before = mappings();
  for (int i = 0; i < 200; ++i) life();
  CHECK(descriptors() == descriptors_before);
  // The allocator keeps arenas for threads; a leak would be at least one for each session.
  CHECK(mappings() < mappings_before + 100);
}
