#include "csrc/simulation/client.h"

#include <algorithm>
#include <utility>

namespace rtswap::simulation {
namespace {

constexpr protocol::TaskId kTask = 1;

}  // namespace

Client::Client(World& world, const SimTask& task, int64_t pid)
    : world_(world), task_(task), pid_(pid) {
  report_.name = task.name;
  std::vector<SimPart> parts{{task.device, task.arena_chunks, task.mutable_chunks}};
  parts.insert(parts.end(), task.further.begin(), task.further.end());
  for (const SimPart& part : parts) {
    arenas_.emplace_back(
        world, static_cast<protocol::ArenaId>(arenas_.size() + 1), part,
        ArenaHost{[this](protocol::ClientMessage message) { send(std::move(message)); },
                  [this](int64_t at_ns, std::function<void()> action) {
                    later(at_ns, std::move(action));
                  },
                  [this] { memory_changed(); }});
  }
  if (task.update_ns > 0) later(task.update_ns, &Client::update);
  if (task.pause_ns > 0) later(task.pause_ns, &Client::stop_to_pause);
  if (task.resume_ns > 0) later(task.resume_ns, &Client::resume);
  if (task.leave_ns > 0) later(task.leave_ns, &Client::stop_to_leave);
}

// Runs `action` at that time unless the process has ended by then; a frozen process does it when it
// thaws.
void Client::later(int64_t at_ns, std::function<void()> action) {
  const uint64_t life = life_;
  world_.timeline.at(at_ns, [this, life, action = std::move(action)] {
    if (life != life_) return;
    if (world_.timeline.now_ns() < frozen_until_ns_) {
      later(frozen_until_ns_, action);
      return;
    }
    action();
  });
}

void Client::later(int64_t at_ns, void (Client::*method)()) {
  later(at_ns, [this, method] { (this->*method)(); });
}

void Client::start() {
  alive_ = true;
  connected_ = true;
  session_ = ++world_.last_session;
  world_.post(arbiter::SessionOpened{session_, pid_, "user"});
  protocol::Hello hello;
  hello.process_name = task_.name;
  hello.pid = pid_;
  hello.resumed_session = resumed_;
  for (SimArena& arena : arenas_) {
    arena.join(session_);
    world_.checker.opened(session_, arena.id(), arena.device());
    if (resumed_ == 0) continue;
    hello.held.push_back(arena.held());
    world_.checker.resumed(resumed_, session_, arena.id(), arena.landed());
  }
  resumed_ = 0;
  send(hello);
}

void Client::send(protocol::ClientMessage message) {
  if (!connected_) return;
  last_sent_ns_ = std::max(last_sent_ns_, world_.timeline.now_ns() + world_.latency_ns());
  const protocol::SessionId session = session_;
  world_.timeline.at(last_sent_ns_, [this, session, message = std::move(message)] {
    // A broken link loses what is under way.
    if (session == session_ && connected_) world_.post(arbiter::FromClient{session, message});
  });
}

void Client::receive(protocol::SessionId session, const protocol::ArbiterMessage& message) {
  last_received_ns_ = std::max(last_received_ns_, world_.timeline.now_ns() + world_.latency_ns());
  const auto deliver = [this, session, message](const auto& self) -> void {
    if (session != session_ || !connected_) return;
    if (world_.timeline.now_ns() < frozen_until_ns_) {
      // In arrival order: the timeline keeps the order of equal instants.
      world_.timeline.at(frozen_until_ns_, [self] { self(self); });
      return;
    }
    std::visit([this](const auto& typed) { on(typed); }, message);
  };
  world_.timeline.at(last_received_ns_, [deliver] { deliver(deliver); });
}

void Client::open(const protocol::Welcome&) {
  welcomed_ = true;
  protocol::OpenTask open_task;
  for (const SimArena& arena : arenas_) {
    protocol::DeviceReport facts;
    facts.device = arena.device();
    facts.restore_bytes_per_s = world_.bytes_per_s;
    facts.evict_bytes_per_s = world_.bytes_per_s;
    send(facts);
    send(arena.opening());
    if (arena.id() != 1) open_task.further_arenas.push_back(arena.id());
  }
  open_task.task = kTask;
  open_task.arena = 1;
  open_task.name = task_.name;
  open_task.timing = {task_.period_ns, task_.deadline_ns != 0 ? task_.deadline_ns : task_.period_ns,
                      task_.wcet_ns, task_.layers};
  open_task.resident = task_.resident;
  open_task.late = task_.late_run ? protocol::LatePolicy::run : protocol::LatePolicy::drop;
  open_task.on_refusal =
      task_.best_effort_if_refused ? protocol::OnRefusal::best_effort : protocol::OnRefusal::refuse;
  open_task.importance = task_.importance;
  requests_ = 1;
  send(open_task);
}

void Client::update() {
  if (!healthy() || !releasing_ || wish_ != Wish::run) return;
  ++requests_;
  send(protocol::UpdateTask{
      kTask, {task_.period_ns, task_.updated_deadline_ns, task_.wcet_ns, task_.layers}});
}

void Client::note_promise(const protocol::Verdict& verdict) {
  const bool admitted = verdict.state == protocol::TaskState::admitted;
  bounds_.push_back({world_.timeline.now_ns(), admitted ? verdict.response_bound_ns : 0,
                     !verdict.suspended.empty()});
}

void Client::on(const protocol::Verdict& message) {
  report_.verdict = message;
  report_.updated |= task_.update_ns > 0 && message.state == protocol::TaskState::admitted &&
                     message.timing.deadline_ns == task_.updated_deadline_ns;
  report_.response_bound_ns = std::max(report_.response_bound_ns, message.response_bound_ns);
  const bool runs = message.state == protocol::TaskState::admitted ||
                    message.state == protocol::TaskState::best_effort ||
                    message.state == protocol::TaskState::warming;
  if (!runs || releasing_ || wish_ != Wish::run || message.requests_answered < requests_) return;
  releasing_ = true;
  schedule_release(world_.config.first_release_ns + task_.offset_ns);
}

void Client::schedule_release(int64_t earliest_ns) {
  if (!task_.releases.empty()) {
    if (next_listed_ == task_.releases.size()) return;
    next_release_ns_ = std::max(task_.releases[next_listed_].at_ns, world_.timeline.now_ns());
    later(next_release_ns_, &Client::release_next);
    return;
  }
  const int64_t spacing_ns = task_.spacing_ns != 0 ? task_.spacing_ns : task_.period_ns;
  int64_t next_ns = earliest_ns;
  if (task_.on_grid) {
    next_ns = next_on_grid(earliest_ns);
  } else if (last_release_ns_ >= 0) {
    next_ns = std::max(next_ns,
                       last_release_ns_ + spacing_ns + world_.random.between(0, task_.jitter_ns));
  }
  next_release_ns_ = std::max(next_ns, world_.timeline.now_ns());
  later(next_release_ns_, &Client::release_next);
}

int64_t Client::next_on_grid(int64_t earliest_ns) {
  const int64_t spacing_ns = task_.spacing_ns != 0 ? task_.spacing_ns : task_.period_ns;
  const int64_t now_ns = world_.timeline.now_ns();
  if (last_release_ns_ < 0) {
    grid_ns_ = std::max(earliest_ns, now_ns);
  } else {
    // Those that a process did not see, frozen or gone, are left out.
    const int64_t behind_ns = now_ns - task_.jitter_ns - grid_ns_;
    grid_ns_ += std::max<int64_t>(1, (behind_ns + spacing_ns - 1) / spacing_ns) * spacing_ns;
  }
  return std::max(grid_ns_ + world_.random.between(0, task_.jitter_ns), last_release_ns_ + 1);
}

int64_t Client::next_stamp_ns() {
  if (!task_.releases.empty()) return task_.releases[next_listed_++].stamp_ns;
  const int64_t now_ns = world_.timeline.now_ns();
  if (task_.stamp_age_ns == 0) return now_ns;
  return std::max<int64_t>(0, now_ns - world_.random.between(0, task_.stamp_age_ns));
}

void Client::release_next() {
  const int64_t now_ns = world_.timeline.now_ns();
  // A pause may have left an earlier plan behind; a frozen process comes late.
  if (now_ns < next_release_ns_ || next_release_ns_ == last_planned_ns_) return;
  if (now_ns > world_.config.horizon_ns || wish_ != Wish::run || !releasing_) return;
  last_planned_ns_ = next_release_ns_;
  last_release_ns_ = now_ns;
  if (connected_ && welcomed_) {
    int64_t relative_ns = task_.deadline_ns != 0 ? task_.deadline_ns : task_.period_ns;
    if (report_.updated) relative_ns = task_.updated_deadline_ns;
    const int64_t stamp_ns = next_stamp_ns();
    PendingJob job;
    job.release_ns = job.counts_from_ns = stamp_ns;
    if ((task_.on_grid || !task_.releases.empty()) && counts_from_ns_ >= 0) {
      job.counts_from_ns = std::max(stamp_ns, counts_from_ns_ + task_.period_ns);
    }
    counts_from_ns_ = job.counts_from_ns;
    report_.early += job.counts_from_ns > stamp_ns;
    const bool aperiodic = task_.period_ns == 0;
    job.deadline_ns = aperiodic ? protocol::kNoDeadline_ns : job.counts_from_ns + relative_ns;
    ++report_.released;
    jobs_[++last_job_] = job;
    send(protocol::Release{last_job_, kTask, stamp_ns,
                           aperiodic ? protocol::kNoDeadline_ns : stamp_ns + relative_ns});
    if (task_.cancelled_share > 0 && world_.random.unit() < task_.cancelled_share) {
      // Mostly early: while its memory comes in.
      const int64_t latest_ns = relative_ns >> world_.random.between(0, 7);
      later(now_ns + world_.random.between(0, latest_ns), [this, id = last_job_] { cancel(id); });
    }
  }
  schedule_release(0);
}

void Client::cancel(protocol::JobId id) {
  const auto it = jobs_.find(id);
  if (it == jobs_.end() || running_ == id) return;
  if (it->second.granted) {
    send(protocol::JobDone{id, 0});
  } else {
    send(protocol::CancelJob{id});  // it may cross Run
  }
  jobs_.erase(it);
  ++report_.cancelled;
  stop_when_done();
}

void Client::on(const protocol::Grant& message) { arena(message.arena).carry_out(message); }

void Client::on(const protocol::Revoke& message) { arena(message.arena).carry_out(message); }

void Client::on(const protocol::Run& message) {
  const auto it = jobs_.find(message.job);
  if (it == jobs_.end()) {
    send(protocol::JobDone{message.job, 0});
    return;
  }
  it->second.granted = true;
  it->second.first_chunks = message.first_chunks == 0 ? task_.arena_chunks : message.first_chunks;
  try_start();
}

void Client::on(const protocol::Dropped& message) {
  if (running_ == message.job) {
    break_off();
    return;
  }
  const auto it = jobs_.find(message.job);
  if (it == jobs_.end()) return;
  if (it->second.granted) send(protocol::JobDone{message.job, 0});
  jobs_.erase(it);
  ++report_.dropped;
  stop_when_done();
}

void Client::fail_next_restore() {
  for (SimArena& arena : arenas_) arena.fail_next_restore();
}

bool Client::wholly_resident() const {
  return std::all_of(arenas_.begin(), arenas_.end(),
                     [](const SimArena& arena) { return arena.whole(); });
}

bool Client::can_start(const PendingJob& job) const {
  if (!job.granted) return false;
  if (job.first_chunks < task_.arena_chunks) {
    return arenas_.front().landed() >= job.first_chunks && !arenas_.front().leaving();
  }
  // All of it, and nothing asked back.
  return wholly_resident() && std::all_of(arenas_.begin(), arenas_.end(),
                                          [](const SimArena& arena) { return arena.idle(); });
}

void Client::memory_changed() {
  try_start();
  go_on();
}

void Client::try_start() {
  if (running_) return;
  for (const auto& [id, job] : jobs_) {
    if (!can_start(job)) continue;
    running_ = id;
    break;
  }
  if (!running_) return;
  for (const SimArena& arena : arenas_) {
    const bool first = arena.id() == 1;
    world_.checker.started(session_, arena.id(),
                           first ? jobs_.at(*running_).first_chunks : arena.chunks());
  }
  execution_ns_ = task_.execution_max_ns == 0
                      ? task_.wcet_ns
                      : world_.random.between(task_.execution_min_ns, task_.execution_max_ns);
  layer_ = 0;
  layer_ends_ns_ = -1;
  go_on();
}

// Executes what the memory allows; the job ends when all is there, too.
void Client::go_on() {
  if (!running_ || layer_ends_ns_ >= 0) return;
  const size_t layers = std::max<size_t>(task_.layers.size(), 1);
  if (layer_ == layers) {
    if (wholly_resident()) end_job();
    return;
  }
  int64_t duration_ns = execution_ns_;
  if (!task_.layers.empty()) {
    const protocol::LayerNeed& layer = task_.layers[layer_];
    if (arenas_.front().landed() < layer.chunks) return;
    duration_ns = static_cast<int64_t>(static_cast<__int128>(layer.execution_ns) * execution_ns_ /
                                       task_.wcet_ns);
  }
  layer_ends_ns_ = world_.timeline.now_ns() + duration_ns;
  later(layer_ends_ns_, &Client::layer_ended);
}

void Client::layer_ended() {
  if (world_.timeline.now_ns() < layer_ends_ns_ || layer_ends_ns_ < 0)
    return;  // of a broken-off job
  layer_ends_ns_ = -1;
  ++layer_;
  go_on();
}

// The rest of its memory does not come.
void Client::break_off() {
  world_.checker.ended(session_);
  ++report_.dropped;
  send(protocol::JobDone{*running_, 0});
  jobs_.erase(*running_);
  running_.reset();
  layer_ends_ns_ = -1;
  stop_when_done();
}

void Client::end_job() {
  const int64_t now_ns = world_.timeline.now_ns();
  const PendingJob job = jobs_.at(*running_);
  world_.checker.ended(session_);
  const int64_t response_ns = now_ns - job.counts_from_ns;
  responses_.push_back(response_ns);
  int64_t at_release_ns = 0;
  int64_t largest_ns = 0;
  bool suspended = false;
  for (const Bound& bound : bounds_) {
    if (bound.from_ns <= job.release_ns) {
      at_release_ns = largest_ns = bound.bound_ns;
      suspended = false;
    }
    largest_ns = std::max(largest_ns, bound.bound_ns);
    suspended |= bound.suspended;
  }
  const bool as_promised = !suspended && execution_ns_ <= task_.wcet_ns;
  report_.above_bound += as_promised && at_release_ns > 0 && response_ns > largest_ns;
  ++(now_ns <= job.deadline_ns ? report_.met : report_.missed);
  report_.last_completion_ns = now_ns;
  send(protocol::JobDone{*running_, execution_ns_});
  jobs_.erase(*running_);
  running_.reset();
  try_start();
  stop_when_done();
}

SimTaskReport Client::report() const {
  SimTaskReport report = report_;
  for (const SimArena& arena : arenas_) {
    report.restored_bytes += arena.restored_bytes();
    report.evicted_bytes += arena.evicted_bytes();
  }
  if (!responses_.empty()) {
    std::vector<int64_t> sorted = responses_;
    std::sort(sorted.begin(), sorted.end());
    report.response_min_ns = sorted.front();
    report.response_median_ns = sorted[sorted.size() / 2];
    report.response_max_ns = sorted.back();
  }
  return report;
}

}  // namespace rtswap::simulation
