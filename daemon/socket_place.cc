#include "daemon/socket_place.h"

#include <grp.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <vector>

#include "csrc/rpc/unix_socket.h"

namespace rtswap::daemon {
namespace {

namespace fs = std::filesystem;

Status check_length(const std::string& path) {
  constexpr size_t kMost = sizeof(sockaddr_un::sun_path) - 1;
  if (path.size() <= kMost) return {};
  return fail(ErrorCode::invalid_argument, "the socket's path has " + std::to_string(path.size()) +
                                               " bytes, at most " + std::to_string(kMost) +
                                               " are possible; choose a shorter one with "
                                               "--socket: " +
                                               path);
}

// What an ended daemon left is replaced; what somebody else keeps there is not ours to remove.
Status check_nothing_else_is_there(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0 || S_ISSOCK(info.st_mode)) return {};
  return fail(ErrorCode::invalid_argument,
              "there is something at " + path +
                  " that is not a socket, and it is left alone; choose another place with "
                  "--socket, or remove it");
}

Status check_folder(const std::string& socket_path) {
  fs::path folder = fs::path(socket_path).parent_path();
  if (folder.empty()) folder = ".";
  std::error_code error;
  while (!fs::exists(folder, error) && folder.has_relative_path()) {
    folder = folder.has_parent_path() ? folder.parent_path() : fs::path(".");
  }
  if (::access(folder.c_str(), W_OK | X_OK) == 0 && fs::is_directory(folder, error)) return {};
  return fail(ErrorCode::invalid_argument,
              "no socket can be made at " + socket_path + ": " + folder.string() +
                  (fs::is_directory(folder, error) ? " cannot be written" : " is not a folder") +
                  "; choose another place with --socket");
}

}  // namespace

Status check_place(const std::string& socket_path, const SocketAccess& access) {
  for (const std::string& path : {socket_path, rpc::descriptor_socket_path(socket_path)}) {
    RTSWAP_TRY(check_length(path));
    RTSWAP_TRY(check_nothing_else_is_there(path));
  }
  RTSWAP_TRY(check_folder(socket_path));
  if (!access.group.empty()) {
    if (const auto group = find_group(access.group); !group) return fail(group.error());
  }
  return {};
}

Status prepare_folder(const std::string& socket_path, const SocketAccess& access) {
  const fs::path folder = fs::path(socket_path).parent_path();
  std::error_code error;
  if (folder.empty() || fs::is_directory(folder, error)) return {};
  // The parents' modes are not ours to choose; the folder itself is.
  fs::create_directories(folder.parent_path(), error);
  const mode_t mode = access.group.empty() ? 0700 : 0755;
  if (::mkdir(folder.c_str(), mode) != 0 && errno != EEXIST) {
    return fail(ErrorCode::invalid_argument, "cannot make the folder of the socket, " +
                                                 folder.string() + ": " + std::strerror(errno) +
                                                 "; choose another with --socket");
  }
  return {};
}

Result<gid_t> find_group(const std::string& name) {
  std::vector<char> buffer(1 << 16);
  group entry{};
  group* found = nullptr;
  if (::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found) == 0 &&
      found != nullptr) {
    return entry.gr_gid;
  }
  return fail(ErrorCode::invalid_argument, "there is no group \"" + name +
                                               "\"; make it (groupadd) "
                                               "or name another with --group");
}

}  // namespace rtswap::daemon
