#include "csrc/engine/engine_thread.h"

#include <pthread.h>
#include <signal.h>

#include <system_error>
#include <utility>

namespace rtswap::engine {
namespace {

// Blocks signals of the calling thread, which a new thread inherits; restores them at the end.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t blocked;
    sigfillset(&blocked);
    // Those a thread causes itself stay open: blocked, they would end the process without a word.
    for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigdelset(&blocked, signal);
    pthread_sigmask(SIG_BLOCK, &blocked, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

std::thread start_engine_thread(const std::string& name, std::function<void()> body) {
  const SignalsBlocked blocked;
  std::thread thread(std::move(body));
  pthread_setname_np(thread.native_handle(), name.substr(0, 15).c_str());
  return thread;
}

Status run_attached(driver::Driver& driver, const std::function<Status()>& body) {
  Status result;
  try {
    start_engine_thread("rtswap-call", [&] {
      result = driver.attach_thread();
      if (result) result = body();
    }).join();
  } catch (const std::system_error& error) {
    return fail(ErrorCode::host_memory,
                std::string("no thread could be started for a driver call: ") + error.what());
  }
  return result;
}

}  // namespace rtswap::engine
