#include "csrc/client/socket_choice.h"

#include <cstdlib>
#include <filesystem>
#include <vector>

namespace rtswap::client {
namespace {

std::string environment_value(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

}  // namespace

Result<std::optional<std::string>> choose_socket(
    const SocketWishes& wishes, const std::function<bool(const std::string&)>& exists) {
  if (wishes.choice == ArbiterChoice::embedded) return std::nullopt;
  if (!wishes.socket_path.empty()) return wishes.socket_path;
  if (!wishes.environment.empty()) return wishes.environment;
  std::vector<std::string> places;
  if (!wishes.runtime_dir.empty()) places.push_back(wishes.runtime_dir + "/rtswap/rtswapd.sock");
  places.emplace_back("/run/rtswap/rtswapd.sock");
  std::string looked_at;
  for (const std::string& place : places) {
    if (exists(place)) return place;
    looked_at += (looked_at.empty() ? "" : " and ") + place;
  }
  if (wishes.choice == ArbiterChoice::automatic) return std::nullopt;
  return fail(ErrorCode::daemon_unavailable,
              "no rtswapd is running: there is no socket at " + looked_at +
                  "; start rtswapd, or name its socket (socket=, RTSWAP_SOCKET)");
}

Result<std::optional<std::string>> choose_socket(const ConnectOptions& options) {
  const SocketWishes wishes{.choice = options.choice,
                            .socket_path = options.socket_path,
                            .environment = environment_value("RTSWAP_SOCKET"),
                            .runtime_dir = environment_value("XDG_RUNTIME_DIR")};
  return choose_socket(wishes, [](const std::string& path) {
    std::error_code ignored;
    return std::filesystem::exists(path, ignored);
  });
}

}  // namespace rtswap::client
