// What rtswapd is asked to do: flags, and a TOML file with keys of the same names. A flag wins over
// the file; a key that does not exist is an error.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "csrc/arbiter/arbiter.h"
#include "csrc/base/result.h"
#include "daemon/log.h"
#include "daemon/sizes.h"

namespace rtswap::daemon {

struct Config {
  std::optional<Budget> budget;      // per device; none: 80 % of what is free, or the whole of a
                                     // simulated device
  std::vector<std::string> devices;  // UUIDs; none: every CUDA device
  std::vector<uint64_t> simulated_bytes;  // not empty: these devices instead of GPUs
  uint64_t link_bytes_per_s = 0;          // of simulated devices; 0: the simulated driver's default
  uint64_t chunk_bytes = 0;               // 0: by budget
  std::string socket_path;                // never empty after parse_arguments()
  std::string tasks_path;                 // empty: none
  std::string trace_path;                 // empty: none
  std::string group;                      // empty: user mode
  uint32_t wait_for_tasks = 0;
  LogFormat log_format = LogFormat::text;
  std::string log_level = "info";
  arbiter::Discipline discipline = arbiter::Discipline::edf;
};

struct Arguments {
  Config config;
  bool check = false;          // the subcommand `check`
  std::string print_and_exit;  // --help, --version: nothing else is to be done
};

// `arguments` without the program's name. `invalid_argument` names the flag, or file and line.
Result<Arguments> parse_arguments(const std::vector<std::string>& arguments);

}  // namespace rtswap::daemon
