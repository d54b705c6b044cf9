// The session as Python holds it.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <utility>

#include "csrc/client/session.h"
#include "csrc/python/errors.h"

namespace rtswap::python {

class SessionObject {
 public:
  explicit SessionObject(std::shared_ptr<client::Session> session) : session_(std::move(session)) {}
  client::Session* operator->() const { return session_.get(); }
  const std::shared_ptr<client::Session>& shared() const { return session_; }

 private:
  std::shared_ptr<client::Session> session_;
};

class TaskObject {
 public:
  explicit TaskObject(std::shared_ptr<client::Task> task) : task_(std::move(task)) {}
  client::Task* operator->() const { return task_.get(); }

 private:
  std::shared_ptr<client::Task> task_;
};

class JobObject {
 public:
  explicit JobObject(std::shared_ptr<client::Job> job) : job_(std::move(job)) {}
  // For calls without the GIL, during which another thread may let it go. InvalidArgument when it
  // is over. With the GIL, as everything here.
  std::shared_ptr<client::Job> native() const {
    if (!job_) raise({ErrorCode::invalid_argument, "This job is over."});
    return job_;
  }

  bool over() const { return job_ == nullptr; }
  client::JobInfo info() const { return job_ ? job_->info() : last_; }
  // It is over: its facts stay, and its task is not kept open by it any longer. Idempotent.
  void let_go() {
    last_ = info();
    job_.reset();
  }

 private:
  std::shared_ptr<client::Job> job_;
  client::JobInfo last_;
};

}  // namespace rtswap::python
