// Beginning and end of a session.
#include "csrc/client/core.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "csrc/base/clock.h"
#include "csrc/base/units.h"

namespace rtswap::client {
namespace {

using namespace rtswap::literals;

// An arbiter answers Hello at once, whatever it has to do.
constexpr int64_t kWelcomeLimit_ns = 10_s;
// A snapshot without a limit: unary calls of the daemon need one.
constexpr int64_t kSnapshotLimit_ns = 3600_s;

Error closed_error() { return {ErrorCode::closed, "the session was closed"}; }

}  // namespace

Core::Core(std::unique_ptr<ArbiterSource> source, ConnectOptions options)
    : source_(std::move(source)), options_(std::move(options)) {}

Core::~Core() { (void)close(); }

Status Core::open(const Interrupted& interrupted) {
  RTSWAP_ASSIGN(std::shared_ptr<protocol::Link> link, source_->connect(interrupted));
  protocol::Hello hello;
  hello.process_name = options_.process_name;
  hello.library_version = options_.library_version;
  hello.pid = getpid();
  RTSWAP_TRY(greet(link, std::move(hello), interrupted));
  const std::lock_guard lock(mutex_);
  if (phase_ != Phase::connecting) return fail(reason_);
  descriptions_ = welcome_->devices;
  devices_.resize(descriptions_.size());
  speeds_.resize(descriptions_.size());
  phase_ = Phase::connected;
  if (source_->can_reconnect()) reconnector_ = std::thread([this] { reconnect_until_ended(); });
  return {};
}

Status Core::greet(const std::shared_ptr<protocol::Link>& link, protocol::Hello hello,
                   const Interrupted& interrupted) {
  std::unique_lock lock(mutex_);
  if (phase_ == Phase::ended) return fail(reason_);
  phase_ = Phase::connecting;
  welcome_.reset();
  link_ = link;
  link_up_ = true;
  lock.unlock();
  RTSWAP_TRY(link->start(*this));
  lock.lock();
  if (phase_ != Phase::connecting) return fail(reason_);  // lost already
  RTSWAP_TRY(link->send(std::move(hello)));
  const int64_t give_up_ns = monotonic_now_ns() + kWelcomeLimit_ns;
  bool answered = false;
  while (!answered && monotonic_now_ns() < give_up_ns) {
    answered = wait_limited(changed_, lock, kLookEvery_ns, [this] {
      return welcome_.has_value() || phase_ != Phase::connecting || closing_;
    });
    if (answered) break;
    lock.unlock();
    RTSWAP_TRY(check(interrupted));
    lock.lock();
  }
  if (phase_ != Phase::connecting) return fail(reason_);
  if (closing_) return fail(closed_error());
  if (!answered) {
    return fail(ErrorCode::daemon_unavailable,
                "the arbiter accepted the connection and did not answer: it hangs or is stopped");
  }
  const protocol::SessionId session = session_;
  lock.unlock();
  // Grants also come without it, only later; what keeps it away keeps chunks away as well, and is
  // reported then.
  (void)link->open_shortcut(session, interrupted);
  RTSWAP_TRY(check(interrupted));
  lock.lock();
  if (phase_ != Phase::connecting) return fail(reason_);
  return {};
}

bool Core::connected() const {
  const std::lock_guard lock(mutex_);
  return phase_ == Phase::connected && !closing_;
}

std::string Core::arbiter_name() const {
  const std::lock_guard lock(mutex_);
  return source_->name(welcome_ ? welcome_->arbiter_version : "");
}

Result<uint32_t> Core::find_device(const std::string& uuid) const {
  std::string names;
  for (size_t i = 0; i < descriptions_.size(); ++i) {
    if (descriptions_[i].uuid == uuid) return static_cast<uint32_t>(i);
    names += (names.empty() ? "" : ", ") + descriptions_[i].uuid;
  }
  return fail(ErrorCode::unknown_device, "the arbiter does not manage " + uuid + ", only " + names);
}

std::optional<int64_t> Core::common_start_ns() const {
  const std::lock_guard lock(mutex_);
  if (!welcome_ || welcome_->wait_for_tasks == 0) return std::nullopt;
  return begin_ns_.value_or(0);
}

Result<arbiter::Snapshot> Core::snapshot(int64_t limit_ns) {
  std::shared_ptr<protocol::Link> link;
  {
    const std::lock_guard lock(mutex_);
    if (const auto error = unusable()) return fail(*error);
    link = link_;
  }
  return link->snapshot(limit_ns < 0 ? kSnapshotLimit_ns : limit_ns);
}

std::optional<Error> Core::unusable() const {
  if (closing_) return closed_error();
  if (phase_ == Phase::connected) return std::nullopt;
  if (phase_ != Phase::connecting) return reason_;
  return Error{ErrorCode::daemon_unavailable, "the link to the arbiter is being set up again"};
}

void Core::send(protocol::ClientMessage message) {
  if (phase_ == Phase::connected && link_up_) (void)link_->send(std::move(message));
}

void Core::answer(protocol::ClientMessage message) {
  if (link_up_) (void)link_->queue(std::move(message));  // a lost link reports itself
}

Core::Turn::~Turn() {
  const std::shared_ptr<protocol::Link> link = core_.link_;
  lock_.unlock();
  if (link) link->flush();
}

void Core::end_for_good(const Error& error) {
  if (phase_ == Phase::ended) return;
  phase_ = Phase::ended;
  reason_ = error;
  link_up_ = false;
  fail_waiting_jobs(error);
  for (auto& [id, arena] : arenas_) {
    if (std::exchange(arena.resize, std::nullopt)) arena.resize_refused = error;
  }
  changed_.notify_all();
}

void Core::release_link() {
  std::shared_ptr<protocol::Link> link;
  {
    const std::lock_guard lock(mutex_);
    link_up_ = false;
    link = std::exchange(link_, nullptr);
  }
  // Outside the lock: the link's threads may be calling this object, and are waited for.
}

Status Core::close() {
  {
    std::unique_lock lock(mutex_);
    if (closing_) {
      changed_.wait(lock, [this] { return closed_; });
      return {};
    }
    closing_ = true;
    fail_waiting_jobs(closed_error());
    changed_.notify_all();
  }
  if (reconnector_.joinable()) reconnector_.join();
  {
    // Whoever is preparing a device finishes first.
    const std::lock_guard device_lock(device_mutex_);
    std::unique_lock lock(mutex_);
    close_everything(lock);
  }
  release_link();
  source_->release();
  const std::lock_guard lock(mutex_);
  end_for_good(closed_error());
  closed_ = true;
  changed_.notify_all();
  return {};
}

// Memory is unmapped before the arbiter hears that it is free.
void Core::close_everything(std::unique_lock<std::mutex>& lock) {
  std::vector<JobPtr> started;
  for (const auto& [id, job] : jobs_) {
    if (job->state == JobRecord::State::started) started.push_back(job);
  }
  lock.unlock();
  for (const JobPtr& job : started) (void)end(job, {});
  lock.lock();
  for (const JobPtr& job : started) job->error = closed_error();  // for owners that end it later
  changed_.wait(lock, [this] { return !has_running_jobs(); });
  for (const auto& [id, task] : tasks_) {
    task->closed = true;
    if (!gone_device(*task)) send(protocol::CloseTask{id});
  }
  tasks_.clear();
  std::vector<std::pair<engine::ArenaId, std::shared_ptr<Device>>> arenas;
  for (const auto& [id, arena] : arenas_) arenas.emplace_back(id, devices_[arena.device]);
  for (const auto& [id, device] : arenas) {
    // Those behind it still give away what they are asked for; another thread may be closing it.
    if (ArenaRecord* const arena = find_arena(id)) arena->closing = true;
    lock.unlock();
    // What could not be unmapped stays this process's until it dies.
    (void)device->engine().close_arena(id, [this, id = id] { give_memory_back(id); });
    lock.lock();
  }
  arenas_.clear();
  send(protocol::Goodbye{});
  std::vector<std::shared_ptr<Device>> devices = std::move(devices_);
  devices_.clear();
  lock.unlock();
  devices.clear();
  lock.lock();
}

}  // namespace rtswap::client
