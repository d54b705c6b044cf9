#include "daemon/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

#include <nlohmann/json.hpp>

namespace rtswap::daemon {
namespace {

// One JSON object a line: time (RFC 3339, UTC), level, message.
class JsonFormatter final : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
    const auto since_epoch = message.time.time_since_epoch();
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since_epoch);
    const auto us = std::chrono::duration_cast<std::chrono::microseconds>(since_epoch - seconds);
    const std::time_t calendar = seconds.count();
    std::tm utc{};
    gmtime_r(&calendar, &utc);
    char date[32];
    const size_t length = std::strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &utc);
    const auto level = spdlog::level::to_string_view(message.level);
    const nlohmann::ordered_json line{
        {"time", fmt::format("{}.{:06}Z", std::string_view(date, length), us.count())},
        {"level", std::string(level.data(), level.size())},
        {"message", std::string(message.payload.data(), message.payload.size())}};
    const std::string text =
        line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    out.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<JsonFormatter>();
  }
};

}  // namespace

void start_log(LogFormat format, const std::string& level) {
  auto logger = spdlog::stderr_color_mt("rtswapd");
  if (format == LogFormat::json) {
    logger->set_formatter(std::make_unique<JsonFormatter>());
  } else {
    logger->set_pattern("%Y-%m-%d %H:%M:%S.%e %^%l%$ %v");
  }
  logger->set_level(spdlog::level::from_str(level));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace rtswap::daemon
