// The arbiter's state machine, split over files by subject: sessions.cc, recovery.cc, arenas.cc,
// tasks.cc, admission.cc, jobs.cc, overload.cc, shedding.cc, dispatch.cc, stage.cc, memory.cc,
// deadlines.cc, spanning.cc, stats.cc.
//
// Every event is handled in two parts: `on` notes what it says, then `settle` decides what follows
// for each device. Handlers never dispatch, so that decisions see a consistent picture.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "csrc/arbiter/arbiter.h"
#include "csrc/arbiter/model.h"
#include "csrc/policy/admission.h"

namespace rtswap::arbiter {

class Arbiter::State {
 public:
  explicit State(Config config);
  std::vector<Effect> step(int64_t now_ns, const Event& event);
  Snapshot snapshot() const;
  void check() const;

 private:
  // --- events (sessions.cc, recovery.cc) ---------------------------------------------------------
  void on(const SessionOpened& event);
  void on(const FromClient& event);
  void on(const SessionDisconnected& event);
  void on(const SessionDied& event);
  void on(const RecoveryPeerDied& event);
  void on(const TimerFired& event);

  // --- messages ----------------------------------------------------------------------------------
  void on(Session& session, const protocol::Hello& message);          // sessions.cc
  void on(Session& session, const protocol::DeviceReport& message);   // sessions.cc
  void on(Session& session, const protocol::Goodbye& message);        // sessions.cc
  void on(Session& session, const protocol::OpenArena& message);      // arenas.cc
  void on(Session& session, const protocol::ResizeArena& message);    // arenas.cc
  void on(Session& session, const protocol::CloseArena& message);     // arenas.cc
  void on(Session& session, const protocol::Restored& message);       // arenas.cc
  void on(Session& session, const protocol::Evicted& message);        // arenas.cc
  void on(Session& session, const protocol::RestoreFailed& message);  // arenas.cc
  void on(Session& session, const protocol::OpenTask& message);       // tasks.cc
  void on(Session& session, const protocol::UpdateTask& message);     // tasks.cc
  void on(Session& session, const protocol::PauseTask& message);      // tasks.cc
  void on(Session& session, const protocol::ResumeTask& message);     // tasks.cc
  void on(Session& session, const protocol::CloseTask& message);      // tasks.cc
  void on(Session& session, const protocol::Release& message);        // jobs.cc
  void on(Session& session, const protocol::CancelJob& message);      // jobs.cc
  void on(Session& session, const protocol::JobDone& message);        // jobs.cc

  // --- sessions.cc -------------------------------------------------------------------------------
  void welcome(Session& session);
  // Ends the session for breaking the protocol; its memory stays its own until it dies.
  void violate(Session& session, ErrorCode code, const std::string& what);
  // Tasks and jobs go (a running job may stay on the device); memory stays.
  void retire_work(Session& session, bool keep_tasks);
  void remove_session(Session& session);
  void begin_when_all_are_there();

  // --- recovery.cc -------------------------------------------------------------------------------
  bool resume(Session& session, const protocol::Hello& hello);  // false: the session was ended
  bool take_over(Session& session, Session& old, const protocol::Hello& hello);
  bool recover(Session& session, const protocol::Hello& hello);
  bool recovering() const { return sessions_to_recover_ > 0; }

  // --- arenas.cc ---------------------------------------------------------------------------------
  Arena& make_arena(Session& session, ArenaId id, uint32_t device, uint32_t chunks,
                    uint32_t mutable_chunks);
  Arena* find_arena(Session& session, ArenaId id);  // nullptr: the session was ended
  void remove_arena(Arena& arena);
  Status admit_growth(Arena& arena);
  void tell_of_growth(Task& task);
  void drop_lost(Session& session, const Arena& arena, const Error& reason);

  // --- tasks.cc ----------------------------------------------------------------------------------
  Task* find_task(Session& session, TaskId id);  // nullptr: the session was ended
  void classify(Task& task);  // admitted, warming, best effort or refused by its timing and a test
  void refuse(Task& task, const Error& reason);
  void refuse_request(Task& task, const Error& reason);
  void note_request(Task& part);
  void answer(Task& part);         // unless it has to wait for memory
  void change_timing(Task& task);  // to task.next_timing, and answers
  void remove_task(Task& task);
  std::string origin_of_timing(const Task& task) const;
  void send_verdict(Task& part, bool request_refused, const Error& reason);

  // --- admission.cc ------------------------------------------------------------------------------
  // The set as the pure test knows it, with the records in the same order.
  struct Roll {
    policy::AdmissionInput input;
    std::vector<Task*> promised;
    std::vector<Task*> best_effort;
    std::vector<const Arena*> others;  // of nobody in the set: paused, closed, loading
  };
  struct Standing {
    TaskState state;
    const Timing* timing;
  };
  Roll roll(const Device& device, const std::function<Standing(const Task&)>& standing_of,
            const Task* candidate) const;
  // As they stand, with `joining`, if given, as what it wants to be.
  Roll roll_of_those_in(const Device& device, const Task* joining, const Task* candidate) const;
  // For a plan that suits those that are loading, too, and the timings that wait for it.
  Roll roll_of_all(const Device& device, const Task* candidate) const;
  bool idle(const Device& device) const;
  bool window_counts(const Device& device) const;
  policy::LinkModel link_of(const Device& device) const;
  policy::Plan in_force(const Device& device) const;
  policy::Prefixes guaranteed(const Device& device, const policy::Prefixes& prefixes) const;
  struct Assessment {
    Roll set;
    std::vector<policy::Exposure> exposed;  // as Device::arenas
    policy::Prefixes guarantee;
    policy::Decision decision;
  };
  Assessment assess(const Device& device, const policy::Plan& plan, const Task* joining,
                    policy::Effort* effort = nullptr) const;
  void note_exposed(const Device& device, const policy::Prefixes& prefixes,
                    Assessment& assessment) const;
  static void forget_window(Device& device);
  bool adopt(Device& device, const policy::Plan& plan, Task* joining);
  void put_in_force(Device& device, const policy::Plan& plan, const Assessment& found,
                    const Task* joining);
  void set_prefixes(Device& device, const policy::Plan& plan, const policy::Prefixes& guarantee);
  bool best_effort_allows(const Device& device, const policy::Decision& decision) const;
  bool join(Task& task, policy::Decision& refusal);
  bool find_place(Device& device, Task& task, policy::Decision& refusal);
  bool go_towards(Device& device, Roll& set, const policy::Plan& plan, policy::Effort* effort);
  void mark_resumed(Device& device, const Task& task, bool resumed);
  void enter(Task& task);
  void leave(Task& task);
  void promote(Device& device);
  void review(Device& device);
  uint32_t usable_chunks(const Device& device) const;

  // --- overload.cc -------------------------------------------------------------------------------
  struct Bandwidth {  // that promises count on
    uint64_t restore_bytes_per_s = 0;
    uint64_t evict_bytes_per_s = 0;
    bool operator==(const Bandwidth&) const = default;
  };
  static Bandwidth bandwidth_of(const Device& device);
  void note_bandwidth(Device& device, const Bandwidth& before);
  void suspend(Device& device, const Job* because_of, const std::string& why);
  void suspend_for_unknown_length(Device& device);
  void note_hold(Device& device, const Job& job);
  bool may_resume(const Device& device) const;
  void resume_promises_when_idle(Device& device);
  void tell_of_suspension(const Device& device);

  // --- shedding.cc -------------------------------------------------------------------------------
  void shed(Device& device, const std::string& why);
  static void put_in_question(Device& device, const std::string& why);
  void shed_some();
  void shed_some(Device& device);
  void try_next_plan(Device& device, policy::Effort& effort);
  static std::vector<Task*> in_question(const Device& device);
  struct Holding {
    policy::Plan plan;
    Assessment found;
  };
  std::optional<Holding> plan_that_holds(const Device& device, PlanSought sought,
                                         policy::PlanSearch& search, policy::Effort& effort) const;
  void end_promise(Device& device, Task& task, policy::Effort& effort);
  void end_shedding(Device& device);
  Error why_ended(const Device& device, const Task& task, bool seek_help) const;

  // --- jobs.cc -----------------------------------------------------------------------------------
  void set_order(Job& job);
  bool keeps_distance(const Task& task) const;
  void note_order(const Job& job);
  void note_idle(Device& device);
  void finish(Job& job, const protocol::JobDone& message);
  bool count_overrun(Task& task, const Job& job, int64_t execution_ns);
  void end_by_overruns(Task& task, int64_t execution_ns);
  void drop(Job& part, const Error& reason);
  void give_up(Job& job, const Error& reason);
  bool may_have_begun(const Job& job) const;
  void erase(Job& job);
  void drop_waiting(const Task& task, const Error& reason);

  // --- spanning.cc -------------------------------------------------------------------------------
  enum class Turn : uint8_t { now, soon, not_yet };
  bool add_parts(Task& lead, const std::vector<ArenaId>& further_arenas);
  void add_parts(Job& lead);
  TaskState state_of(const Task& task) const;
  int64_t block_of(const Task& task) const;
  int64_t hold_of(const Task& task) const;
  Error no_promise_for(const Task& task) const;
  void classify_spanning(Task& lead);
  Turn turn_of(const Job& job, std::map<const Job*, Turn>& known) const;
  void trace_begin(const Job& job);
  int64_t last_progress_ns(const Job& job) const;
  void send_run_if_due(Job& job);
  void settle_others(const Job& job);

  // --- dispatch.cc -------------------------------------------------------------------------------
  void settle_all();
  void expire(Device& device);
  void settle(Device& device);
  void reconsider(Device& device);
  bool take_next(Device& device);
  bool length_known(const Job& job) const;
  bool may_start(const Device& device, const Job& job) const;
  bool promised(const Job& job) const;
  std::vector<Job*> in_order(const Device& device) const;  // eligible waiting jobs, best first
  void hand_over(Device& device, Job& job);
  void note_progress(Device& device);

  // --- stage.cc ----------------------------------------------------------------------------------
  uint32_t lead_end(const Device& device, const Arena& arena) const;  // 0: it is direct
  bool staged(const Job& job) const;  // goes through the stage: promised, and its arena is staged
  bool staged_work_waits(const Device& device) const;
  void give_stage(Device& device);
  bool staged_may_start(const Device& device, const Job& job) const;
  int64_t earliest_start(const Device& device, const Job& job) const;
  void restore_lead(Device& device, uint32_t budget);

  // --- memory.cc ---------------------------------------------------------------------------------
  bool feasible(const Device& device, const Arena& arena, uint32_t chunks) const;
  bool feed_holder(Device& device);  // false: the holder was dropped, another may go
  void prefetch(Device& device);
  bool prefetch_plan(Device& device, uint32_t budget);
  bool can_restore(const Device& device, const Arena& arena) const;
  bool plan_comes_in(const Device& device) const;
  uint32_t restore(Device& device, Arena& arena, uint32_t chunks, int64_t later_than_ns);
  bool prefetch_into(Device& device, Arena& arena, uint32_t chunks, uint32_t budget,
                     int64_t deadline_ns, bool may_evict);
  void grant(Device& device, Arena& arena, uint32_t chunks, const char* why);
  uint32_t revoke(Device& device, const Arena& beneficiary, uint32_t shortfall,
                  int64_t later_than_ns);
  uint32_t most_in_flight(const Device& device) const;
  bool lands_and_leaves(const Device& device) const;
  bool strays_delay_blocks(const Device& device) const;
  bool strays_delay_leads(const Device& device) const;
  uint32_t incoming(const Device& device) const;
  uint32_t in_flight(const Device& device, const Arena* except) const;
  uint32_t evictable(const Device& device, const Arena& arena) const;  // chunks
  uint32_t kept(const Device& device, const Arena& arena) const;       // held and not asked back
  int64_t next_deadline(const Arena& arena) const;
  int64_t next_release(const Task& task) const;

  // --- deadlines.cc ------------------------------------------------------------------------------
  void expire_waiting(Device& device);
  void expire_silent(Device& device);
  void expire_lead(Device& device);
  void expire_holder(Device& device);
  int64_t hang_limit(const Task& task) const;
  void set_timer();

  // --- stats.cc ----------------------------------------------------------------------------------
  void trace(Trace::Kind kind, const Device& device, const std::string& detail);
  void trace(Trace::Kind kind, const Task& task, const std::string& detail);
  void trace(Trace::Kind kind, const Job& job, const std::string& detail);
  void trace(Trace::Kind kind, const Arena& arena, uint64_t chunks, const std::string& detail);
  void trace(Trace::Kind kind, const Session& session, const std::string& detail);
  Task* charged_task(const Arena& arena) const;  // to whom restored bytes count; may be nullptr
  uint64_t bytes(const Arena& arena, uint32_t chunks) const;

  void send(const Session& session, protocol::ArbiterMessage message);
  Device& device_of(const Arena& arena) { return devices_[arena.device]; }
  const Device& device_of(const Arena& arena) const { return devices_[arena.device]; }
  bool edf() const { return config_.discipline == Discipline::edf; }

  Config config_;
  std::deque<Device> devices_;
  std::map<SessionId, std::unique_ptr<Session>> sessions_;
  std::vector<Effect> effects_;
  int64_t now_ns_ = kNever_ns;
  int64_t timer_ns_ = kNoDeadline_ns;
  int64_t begin_ns_ = 0;  // common start, once known
  uint32_t sessions_to_recover_ = 0;
  Ledger::Holder last_key_ = 0;
  uint64_t last_sequence_ = 0;
};

}  // namespace rtswap::arbiter
