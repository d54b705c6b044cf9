// The daemon's log: lines of text for a person, or one JSON object a line for a collector. Goes to
// stderr; stdout carries the readiness line alone.
//
// Threads: any. spdlog's default logger is the one global of the daemon.
#pragma once

#include <spdlog/spdlog.h>

#include <string>

namespace rtswap::daemon {

enum class LogFormat { text, json };

// REQUIRES: called once, before the first line. `level` is one of spdlog's names.
void start_log(LogFormat format, const std::string& level);

}  // namespace rtswap::daemon
