#include "daemon/trace_file.h"

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

namespace rtswap::daemon {

std::string trace_line(const arbiter::Trace& event) {
  nlohmann::ordered_json line{{"at_ns", event.at_ns},
                              {"kind", arbiter::to_string(event.kind)},
                              {"device", event.device},
                              {"task", event.task},
                              {"job", event.job},
                              {"bytes", event.bytes},
                              {"release_ns", event.release_ns},
                              {"deadline_ns", event.deadline_ns},
                              {"detail", event.detail}};
  return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Result<std::unique_ptr<TraceFile>> TraceFile::create(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "we");
  if (file == nullptr) {
    return fail(ErrorCode::invalid_argument,
                "cannot write the trace to " + path + ": " + std::strerror(errno));
  }
  return std::unique_ptr<TraceFile>(new TraceFile(file));
}

TraceFile::~TraceFile() { std::fclose(file_); }

void TraceFile::write(const arbiter::Trace& event) {
  std::fputs((trace_line(event) + "\n").c_str(), file_);
  std::fflush(file_);
}

}  // namespace rtswap::daemon
