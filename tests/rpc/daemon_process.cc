#include "tests/rpc/daemon_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "csrc/base/clock.h"
#include "tests/catch.h"

extern char** environ;

namespace rtswap::test {
namespace {

pid_t spawn(const std::vector<std::string>& command, const std::string& log_path) {
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log_path.c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  pid_t pid = -1;
  REQUIRE(posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environ) == 0);
  posix_spawn_file_actions_destroy(&actions);
  return pid;
}

std::string read_text(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

int exit_status(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status); }

}  // namespace

Folder::Folder() {
  std::string pattern = std::filesystem::temp_directory_path() / "rtswapd-XXXXXX";
  REQUIRE(::mkdtemp(pattern.data()) != nullptr);
  path_ = pattern;
}
Folder::~Folder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Daemon::Daemon(const Folder& folder, std::vector<std::string> arguments) : folder_(folder.path()) {
  static int count = 0;
  log_path_ = folder_ + "/log" + std::to_string(count++);
  const auto self = std::filesystem::read_symlink("/proc/self/exe");
  std::vector<std::string> command{self.parent_path() / "rtswapd", "--socket", socket(), "--chunk",
                                   "2MiB"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  pid_ = spawn(command, log_path_);
}

Daemon::~Daemon() { kill(); }

std::string Daemon::log() const { return read_text(log_path_); }

bool Daemon::wait_ready() {
  return eventually([&] {
           if (log().find("rtswapd ready:") != std::string::npos) return true;
           siginfo_t info{};
           return ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) ==
                      0 &&
                  info.si_pid == pid_;
         }) &&
         log().find("rtswapd ready:") != std::string::npos;
}

void Daemon::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  wait_exit();
}

int Daemon::terminate() {
  ::kill(pid_, SIGTERM);
  return wait_exit();
}

void Daemon::stop() {
  REQUIRE(::kill(pid_, SIGSTOP) == 0);
  int status = 0;
  REQUIRE(::waitpid(pid_, &status, WUNTRACED) == pid_);
  REQUIRE(WIFSTOPPED(status));
}

int Daemon::wait_exit() {
  int status = 0;
  REQUIRE(::waitpid(pid_, &status, 0) == pid_);
  pid_ = -1;
  return exit_status(status);
}

Client::Client(const std::string& socket) {
  auto connected = rpc::connect({socket});
  if (!connected) FAIL(connected.error().message);
  link_ = std::move(*connected);
  REQUIRE(link_->start(*this).has_value());
}

Client::~Client() { link_.reset(); }

void Client::send(protocol::ClientMessage message) {
  REQUIRE(link_->send(std::move(message)).has_value());
}

std::optional<protocol::ArbiterMessage> Client::next() {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::nanoseconds(kPatience_ns),
                    [&] { return !messages_.empty() || lost_; });
  if (messages_.empty()) return {};
  auto message = std::move(messages_.front());
  messages_.pop_front();
  return message;
}

protocol::Welcome Client::hello(protocol::SessionId resumed,
                                std::vector<protocol::HeldArena> held) {
  protocol::Hello hello;
  hello.process_name = "test";
  hello.library_version = "0";
  hello.pid = ::getpid();
  hello.resumed_session = resumed;
  hello.held = std::move(held);
  send(hello);
  const auto welcome = receive<protocol::Welcome>();
  if (!welcome) FAIL("no Welcome: " << (lost_ ? lost_->message : "nothing came"));
  return *welcome;
}

std::vector<protocol::ChunkId> Client::run_job(protocol::ArenaId arena, uint32_t chunks,
                                               protocol::JobId job) {
  send(protocol::OpenArena{arena, 0, chunks, 0});
  protocol::OpenTask task;
  task.task = arena;
  task.arena = arena;
  task.name = "task" + std::to_string(arena);
  send(task);
  send(protocol::Release{job, task.task, monotonic_now_ns(), protocol::kNoDeadline_ns});
  std::vector<protocol::ChunkId> granted;
  bool running = false;
  while (!running || granted.size() < chunks) {
    const auto message = next();
    if (!message) FAIL("no grant came");
    if (std::holds_alternative<protocol::Run>(*message)) running = true;
    if (const auto* grant = std::get_if<protocol::Grant>(&*message)) {
      granted.insert(granted.end(), grant->chunks.begin(), grant->chunks.end());
      send(protocol::Restored{arena, static_cast<uint32_t>(granted.size())});
    }
  }
  return granted;
}

std::optional<Error> Client::wait_lost() {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::nanoseconds(kPatience_ns),
                    [&] { return lost_.has_value(); });
  return lost_;
}

int Client::lost_calls() const {
  const std::lock_guard lock(mutex_);
  return lost_calls_;
}

void Client::on_message(protocol::ArbiterMessage message) {
  const std::lock_guard lock(mutex_);
  all_.emplace_back(message, std::this_thread::get_id());
  messages_.push_back(std::move(message));
  changed_.notify_all();
}

void Client::on_lost(const Error& error) {
  const std::lock_guard lock(mutex_);
  lost_ = error;
  ++lost_calls_;
  changed_.notify_all();
}

bool eventually(const std::function<bool()>& condition) {
  const int64_t deadline_ns = monotonic_now_ns() + kPatience_ns;
  while (!condition()) {
    if (monotonic_now_ns() > deadline_ns) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

ChildClient::ChildClient(const std::string& socket, const std::string& mode) {
  int fds[2];
  REQUIRE(::pipe2(fds, O_CLOEXEC) == 0);
  output_.reset(fds[0]);
  const UniqueFd write_end(fds[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDERR_FILENO);
  const std::string self = std::filesystem::read_symlink("/proc/self/exe");
  std::vector<std::string> words{self, "[child-client]"};
  std::vector<char*> argv{words[0].data(), words[1].data(), nullptr};
  std::vector<std::string> variables{"RTSWAP_TEST_SOCKET=" + socket, "RTSWAP_TEST_MODE=" + mode};
  std::vector<char*> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) environment.push_back(*entry);
  for (std::string& variable : variables) environment.push_back(variable.data());
  environment.push_back(nullptr);
  REQUIRE(::posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environment.data()) == 0);
  posix_spawn_file_actions_destroy(&actions);
}

ChildClient::~ChildClient() { kill(); }

bool ChildClient::wait_for(const std::string& word) {
  const int64_t deadline_ns = monotonic_now_ns() + kPatience_ns;
  while (text_.find(word) == std::string::npos) {
    pollfd entry{output_.get(), POLLIN, 0};
    if (monotonic_now_ns() > deadline_ns || ::poll(&entry, 1, 1000) < 0) return false;
    if (entry.revents == 0) continue;
    char buffer[512];
    const ssize_t length = ::read(output_.get(), buffer, sizeof(buffer));
    if (length <= 0) return false;
    text_.append(buffer, static_cast<size_t>(length));
  }
  return true;
}

void ChildClient::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
}

}  // namespace rtswap::test
