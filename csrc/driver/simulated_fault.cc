#include "csrc/driver/simulated_fault.h"

#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <mutex>

namespace rtswap::driver {
namespace {

// The one table of the project that belongs to the process and not to an object: signal handlers
// belong to the process, get no context argument and may not take a lock, so what the handler reads
// must be at a fixed place, without indirection that a destructor could invalidate.
struct Range {
  std::atomic<uint64_t> begin{0};  // 0: free; kClaimed: being filled in; else valid
  std::atomic<uint64_t> bytes{0};
  std::atomic<pid_t> owner{0};
  std::array<std::atomic<char>, 64> label{};
};
constexpr uint64_t kClaimed = 1;
constinit std::array<Range, 1024> g_ranges;

struct PreviousHandlers {
  struct sigaction on_segv {};
  struct sigaction on_bus {};
};
PreviousHandlers g_previous;
std::once_flag g_installed;

struct sigaction& previous_of(int signal) {
  return signal == SIGBUS ? g_previous.on_bus : g_previous.on_segv;
}

// A line put together without memory allocation.
class Line {
 public:
  void add(const char* text) {
    while (*text != '\0' && length_ < text_.size()) text_[length_++] = *text++;
  }
  void add(const std::array<std::atomic<char>, 64>& text) {
    for (const auto& c : text) {
      const char value = c.load(std::memory_order_relaxed);
      if (value == '\0' || length_ == text_.size()) break;
      text_[length_++] = value;
    }
  }
  void add_hex(uint64_t value) {
    add("0x");
    int shift = 60;
    while (shift > 0 && ((value >> shift) & 0xf) == 0) shift -= 4;
    for (; shift >= 0 && length_ < text_.size(); shift -= 4) {
      text_[length_++] = "0123456789abcdef"[(value >> shift) & 0xf];
    }
  }
  // One write(), so that lines of several processes do not mix.
  void print() const {
    [[maybe_unused]] const ssize_t ignored = write(STDERR_FILENO, text_.data(), length_);
  }

 private:
  std::array<char, 512> text_;
  size_t length_ = 0;
};

const Range* range_of(uint64_t address) {
  for (const Range& range : g_ranges) {
    const uint64_t begin = range.begin.load(std::memory_order_acquire);
    if (begin > kClaimed && address >= begin &&
        address - begin < range.bytes.load(std::memory_order_relaxed)) {
      return &range;
    }
  }
  return nullptr;
}

enum class Direction { read, write, unknown };

Direction direction_of([[maybe_unused]] const void* context) {
#if defined(__x86_64__)
  constexpr greg_t kWriteBit = 2;  // of the page fault error code
  const auto& registers = static_cast<const ucontext_t*>(context)->uc_mcontext.gregs;
  return (registers[REG_ERR] & kWriteBit) != 0 ? Direction::write : Direction::read;
#else
  return Direction::unknown;
#endif
}

// Without touching it: the kernel reads a signal set from there, and then rejects the first
// argument.
bool is_readable(uint64_t address) {
  constexpr size_t kKernelSignalSetBytes = 8;
  const auto* set = reinterpret_cast<const void*>(address & ~uint64_t{7});
  return syscall(SYS_rt_sigprocmask, ~0, set, nullptr, kKernelSignalSetBytes) != 0 &&
         errno != EFAULT;
}

void explain(const Range& range, uint64_t address, Direction direction) {
  Line line;
  line.add("rtswap: illegal ");
  line.add(direction == Direction::read    ? "read"
           : direction == Direction::write ? "write"
                                           : "access");
  line.add(" of ");
  line.add_hex(address);
  line.add(", offset ");
  line.add_hex(address - range.begin.load(std::memory_order_relaxed));
  line.add(" of arena '");
  line.add(range.label);
  if (range.owner.load(std::memory_order_relaxed) != getpid()) {
    line.add("': memory of the device is not there in a forked process.\n");
  } else if (direction != Direction::read && is_readable(address)) {
    line.add(
        "': the memory is mapped read-only (it was evicted, and a guard lies in its place). "
        "Use the tensors of a task inside its job only.\n");
  } else {
    line.add(
        "': no memory is mapped there (it was evicted, or never loaded). "
        "Use the tensors of a task inside its job only.\n");
  }
  line.print();
}

void on_fault(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  const auto address = reinterpret_cast<uint64_t>(info->si_addr);
  struct sigaction& previous = previous_of(signal);
  const bool has_function = (previous.sa_flags & SA_SIGINFO) != 0 ||
                            (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN);
  if (const Range* range = range_of(address); range != nullptr) {
    explain(*range, address, direction_of(context));
  } else if (has_function) {
    // Not ours, and the handler before us may know how to go on (a JIT, a garbage collector): stay
    // installed for the next one.
    errno = saved_errno;
    if ((previous.sa_flags & SA_SIGINFO) != 0) {
      previous.sa_sigaction(signal, info, context);
    } else {
      previous.sa_handler(signal);
    }
    return;
  }
  // The instruction runs again, faults again, and the previous handler has its turn.
  sigaction(signal, &previous, nullptr);
  errno = saved_errno;
}

void install() {
  // Read first: a fault in another thread may come before the second call returns.
  sigaction(SIGSEGV, nullptr, &g_previous.on_segv);
  sigaction(SIGBUS, nullptr, &g_previous.on_bus);
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  // On the alternate stack where a thread has one: a fault may be a stack overflow of its own.
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);
}

}  // namespace

void report_faults_in(uint64_t begin, uint64_t bytes, std::string_view label) noexcept {
  std::call_once(g_installed, install);
  for (Range& range : g_ranges) {
    uint64_t expected = 0;
    if (!range.begin.compare_exchange_strong(expected, kClaimed)) continue;
    const size_t length = std::min(label.size(), range.label.size() - 1);
    for (size_t i = 0; i < range.label.size(); ++i) {
      range.label[i].store(i < length ? label[i] : '\0', std::memory_order_relaxed);
    }
    range.owner.store(getpid(), std::memory_order_relaxed);
    range.bytes.store(bytes, std::memory_order_relaxed);
    range.begin.store(begin, std::memory_order_release);
    return;
  }
}

void forget_fault_range(uint64_t begin) noexcept {
  for (Range& range : g_ranges) {
    uint64_t expected = begin;
    if (range.begin.compare_exchange_strong(expected, 0)) return;
  }
}

}  // namespace rtswap::driver
