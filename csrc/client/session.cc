// The handles of session.h: each asks first whether this is still the process that made it.
#include "csrc/client/session.h"

#include <errno.h>

#include <utility>

#include "csrc/client/core.h"
#include "csrc/client/daemon_source.h"
#include "csrc/client/embedded.h"
#include "csrc/client/grpc_loader.h"
#include "csrc/client/socket_choice.h"

namespace rtswap::client {
namespace {

using CorePtr = std::shared_ptr<Core>;

// Calls `member` of the core, unless this is a forked child.
template <class Answer, class... Parameters, class... Arguments>
Answer guarded(const CorePtr& core, Answer (Core::*member)(Parameters...),
               Arguments&&... arguments) {
  if (core->in_child()) return ForkGuard::closed_in_child();
  return ((*core).*member)(std::forward<Arguments>(arguments)...);
}

class TaskHandle final : public Task, public std::enable_shared_from_this<TaskHandle> {
 public:
  TaskHandle(CorePtr core, TaskPtr task)
      : core_(std::move(core)), task_(std::move(task)), name_(task_->options.name) {}
  // The last handle of a task, its jobs' included, ends it.
  ~TaskHandle() override { (void)guarded(core_, &Core::close_task, task_); }

  const std::string& name() const override { return name_; }
  Verdict verdict() const override {
    return core_->in_child() ? Verdict{} : core_->verdict(*task_);
  }
  Result<Verdict> wait_verdict(int64_t limit_ns) override {
    return guarded(core_, &Core::wait_verdict, task_, limit_ns);
  }
  Result<Verdict> update(const Timing& timing, int64_t limit_ns) override {
    return guarded(core_, &Core::update, task_, timing, limit_ns);
  }
  Status pause() override { return guarded(core_, &Core::pause, task_); }
  Result<Verdict> resume(int64_t limit_ns) override {
    return guarded(core_, &Core::resume, task_, limit_ns);
  }
  Result<std::shared_ptr<Job>> release(int64_t release_ns, bool exclusive, Start start) override;
  Status close() override { return guarded(core_, &Core::close_task, task_); }

 private:
  const CorePtr core_;
  const TaskPtr task_;
  const std::string name_;
};

class JobHandle final : public Job {
 public:
  JobHandle(CorePtr core, std::shared_ptr<TaskHandle> task, JobPtr job)
      : task_(std::move(task)), core_(std::move(core)), job_(std::move(job)) {}
  ~JobHandle() override { JobHandle::cancel(); }

  Result<bool> wait(int64_t limit_ns) override {
    return guarded(core_, &Core::wait, job_, limit_ns);
  }
  Result<uint32_t> wait_for_chunks(uint32_t chunks, int64_t limit_ns) override {
    return guarded(core_, &Core::wait_for_chunks, job_, chunks, limit_ns);
  }
  Result<int> ready_descriptor() override { return guarded(core_, &Core::ready_descriptor, job_); }
  void cancel() override {
    if (!core_->in_child()) core_->cancel(job_);
  }
  Status end(std::span<const driver::StreamHandle> streams) override {
    const std::vector on_first(1, std::vector(streams.begin(), streams.end()));
    return end_on_all(on_first);
  }
  Status end_on_all(std::span<const std::vector<driver::StreamHandle>> streams) override {
    return guarded(core_, &Core::end, job_, streams);
  }
  Result<std::unique_ptr<QueuedWork>> queued_work(
      std::span<const std::vector<driver::StreamHandle>> streams) override {
    return guarded(core_, &Core::queued_work, job_, streams);
  }
  JobInfo info() const override { return core_->in_child() ? JobInfo{} : core_->info(*job_); }

 private:
  const std::shared_ptr<TaskHandle> task_;  // stays open as long as it has jobs
  const CorePtr core_;
  const JobPtr job_;
};

Result<std::shared_ptr<Job>> TaskHandle::release(int64_t release_ns, bool exclusive, Start start) {
  RTSWAP_ASSIGN(JobPtr job, guarded(core_, &Core::release, task_, release_ns, exclusive, start));
  return std::make_shared<JobHandle>(core_, shared_from_this(), std::move(job));
}

class SessionHandle final : public Session {
 public:
  explicit SessionHandle(CorePtr core) : core_(std::move(core)) {}
  ~SessionHandle() override { (void)SessionHandle::close(); }

  bool embedded() const override { return core_->embedded(); }
  bool connected() const override { return !core_->in_child() && core_->connected(); }
  std::string arbiter_name() const override {
    return core_->in_child() ? "none: the session stayed with the parent process"
                             : core_->arbiter_name();
  }
  const std::vector<protocol::DeviceDescription>& devices() const override {
    return core_->devices();
  }
  Result<uint32_t> find_device(const std::string& uuid) const override {
    if (core_->in_child()) return ForkGuard::closed_in_child();
    return core_->find_device(uuid);
  }
  Status use_device(uint32_t device, const Interrupted& interrupted) override {
    return guarded(core_, &Core::use_device, device, interrupted);
  }
  Result<engine::ArenaId> open_arena(uint32_t device, const std::string& label) override {
    return guarded(core_, &Core::open_arena, device, label);
  }
  Result<engine::Segment> add_segment(engine::ArenaId arena, engine::Kind kind,
                                      uint64_t bytes) override {
    return guarded(core_, &Core::add_segment, arena, kind, bytes);
  }
  Status publish_arena(engine::ArenaId arena, int64_t limit_ns) override {
    return guarded(core_, &Core::publish_arena, arena, limit_ns);
  }
  Status discard_growth(engine::ArenaId arena) override {
    return guarded(core_, &Core::discard_growth, arena);
  }
  Status keep_scratch(engine::ArenaId arena, driver::Address segment_address,
                      std::span<const engine::ByteRange> bytes) override {
    return guarded(core_, &Core::keep_scratch, arena, segment_address, bytes);
  }
  Status keep_addresses(engine::ArenaId arena, driver::Address segment_address) override {
    return guarded(core_, &Core::keep_addresses, arena, segment_address);
  }
  Status save_arena(engine::ArenaId arena) override {
    return guarded(core_, &Core::save_arena, arena);
  }
  Status close_arena(engine::ArenaId arena) override {
    return guarded(core_, &Core::close_arena, arena);
  }
  Result<engine::ArenaStats> arena_stats(engine::ArenaId arena) const override {
    if (core_->in_child()) return ForkGuard::closed_in_child();
    return core_->arena_stats(arena);
  }
  Result<std::shared_ptr<Task>> open_task(engine::ArenaId arena, TaskOptions options) override {
    RTSWAP_ASSIGN(TaskPtr task, guarded(core_, &Core::open_task, arena, std::move(options)));
    return std::make_shared<TaskHandle>(core_, std::move(task));
  }
  Result<arbiter::Snapshot> snapshot(int64_t limit_ns) override {
    return guarded(core_, &Core::snapshot, limit_ns);
  }
  std::optional<int64_t> common_start_ns() const override {
    return core_->in_child() ? std::nullopt : core_->common_start_ns();
  }
  Status close() override { return guarded(core_, &Core::close); }

 private:
  const CorePtr core_;
};

Result<std::unique_ptr<ArbiterSource>> make_source(const ConnectOptions& options) {
  RTSWAP_ASSIGN(const std::optional<std::string> socket, choose_socket(options));
  if (socket) {
    RTSWAP_ASSIGN(const rpc::ConnectFunction connect, load_grpc_link(options.grpc_library));
    return std::make_unique<DaemonSource>(*socket, connect);
  }
  RTSWAP_ASSIGN(EmbeddedDevice device, make_embedded_device(options.embedded, options.progress));
  return std::make_unique<EmbeddedSource>(std::move(device), options.library_version);
}

}  // namespace

Result<std::shared_ptr<Session>> connect_through(std::unique_ptr<ArbiterSource> source,
                                                 ConnectOptions options) {
  if (options.process_name.empty()) options.process_name = program_invocation_short_name;
  options.progress = {};  // the caller's for the duration of the call only,
  const Interrupted interrupted = std::exchange(options.interrupted, {});  // and so is this
  // In a forked child the core is left alone: its threads are not there to be joined, and its link
  // and memory are the parent's.
  const CorePtr core(new Core(std::move(source), std::move(options)), [](Core* made) {
    if (!made->in_child()) delete made;
  });
  RTSWAP_TRY(core->open(interrupted));
  return std::make_shared<SessionHandle>(core);
}

Result<std::shared_ptr<Session>> Session::connect(ConnectOptions options) {
  RTSWAP_ASSIGN(std::unique_ptr<ArbiterSource> source, make_source(options));
  return connect_through(std::move(source), std::move(options));
}

}  // namespace rtswap::client
