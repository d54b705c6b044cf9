// Runs an Arbiter in real time on a thread of its own: events in through a queue, timers, effects
// out through a sink. The daemon and the embedded arbiter both use it. A thread that brings an
// event may run it itself, and saves its sender the time in which another thread wakes up.
#pragma once

#include <memory>

#include "csrc/arbiter/arbiter.h"

namespace rtswap::arbiter {

// Carries out effects. Called by one thread at a time, the loop's or one in run_queued(); must not
// block and must not call the loop's snapshot() or run_queued().
class EffectSink {
 public:
  virtual ~EffectSink() = default;
  virtual void send(SessionId session, protocol::ArbiterMessage message) = 0;
  virtual void close_session(SessionId session, const Error& reason) = 0;
  virtual void trace(const Trace& event) = 0;
  // The arbiter broke one of its invariants (a bug): the loop has stopped.
  virtual void failed(const std::string& what) = 0;
};

class Loop {
 public:
  // `sink` outlives the loop.
  Loop(Config config, EffectSink& sink);
  ~Loop();  // stops and joins; queued events are discarded
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Any thread; never blocks beyond a short queue lock. Events are applied in the order posted.
  void post(Event event);
  // Posted together: no other event comes between them.
  void post(std::vector<Event> events);

  // As post(), for a caller that calls run_queued() next, after it has released its locks.
  void queue(Event event);
  // Applies what is queued, on the calling thread unless another is already at it. REQUIRES: the
  // caller holds no lock that the sink takes.
  void run_queued();

  // A consistent picture, taken by the loop between two events; blocks until then. After a failure
  // or stop: the last one.
  Snapshot snapshot();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace rtswap::arbiter
