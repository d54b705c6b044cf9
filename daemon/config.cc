#include "daemon/config.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdlib>
#include <functional>
#include <map>

#include "daemon/toml_file.h"

namespace rtswap::daemon {
namespace {

// One setting: a flag `--name` and a key `name` of the file.
struct Setting {
  const char* name;
  const char* value;  // what it takes, for the help
  const char* help;
  bool repeatable;
  std::function<Status(Config&, const std::string&)> apply;
};

// Less was meant in another unit: no chunk is smaller, and on such a link jobs would wait for
// hours.
constexpr uint64_t kLeastSimulated_bytes = 2 << 20;
constexpr uint64_t kLeastLink_bytes_per_s = 1'000'000;

using Setter = std::function<Status(Config&, const std::string&)>;

Setter text(std::string Config::*member) {
  return [member](Config& config, const std::string& value) -> Status {
    if (value.empty()) return fail(ErrorCode::invalid_argument, "it must not be empty");
    config.*member = value;
    return {};
  };
}

Setter size(uint64_t Config::*member) {
  return [member](Config& config, const std::string& value) -> Status {
    RTSWAP_ASSIGN(config.*member, parse_size(value));
    return {};
  };
}

template <class T>
Setter choice(T Config::*member, std::map<std::string, T> choices) {
  return [member, choices](Config& config, const std::string& value) -> Status {
    const auto it = choices.find(value);
    if (it != choices.end()) {
      config.*member = it->second;
      return {};
    }
    std::string names;
    for (const auto& [name, unused] : choices) names += (names.empty() ? "" : ", ") + name;
    return fail(ErrorCode::invalid_argument, "\"" + value + "\" is not one of: " + names);
  };
}

Status set_budget(Config& config, const std::string& value) {
  RTSWAP_ASSIGN(config.budget, parse_budget(value));
  return {};
}

Status add_device(Config& config, const std::string& value) {
  config.devices.push_back(value);
  return {};
}

Status add_simulated(Config& config, const std::string& value) {
  RTSWAP_ASSIGN(const uint64_t bytes, parse_size(value));
  if (bytes < kLeastSimulated_bytes) {
    return fail(ErrorCode::invalid_argument,
                "\"" + value + "\" is " + std::to_string(bytes) +
                    " bytes and less than one chunk; write for example 1GiB");
  }
  config.simulated_bytes.push_back(bytes);
  return {};
}

Status set_link_bandwidth(Config& config, const std::string& value) {
  const bool per_second = value.size() > 2 && value.substr(value.size() - 2) == "/s";
  RTSWAP_ASSIGN(config.link_bytes_per_s,
                parse_size(per_second ? value.substr(0, value.size() - 2) : value));
  if (config.link_bytes_per_s < kLeastLink_bytes_per_s) {
    return fail(ErrorCode::invalid_argument, "\"" + value + "\" is " +
                                                 std::to_string(config.link_bytes_per_s) +
                                                 " bytes a second; write for example 24GB/s");
  }
  return {};
}

Status set_wait_for(Config& config, const std::string& value) {
  const char* const end = value.data() + value.size();
  const auto parsed = std::from_chars(value.data(), end, config.wait_for_tasks);
  if (parsed.ec == std::errc() && parsed.ptr == end) return {};
  return fail(ErrorCode::invalid_argument, "\"" + value + "\" is not a number of tasks");
}

const std::vector<Setting>& settings() {
  static const std::vector<Setting> all{
      {"budget", "SIZE|PERCENT", "size of the bank on each device (default: 80% of what is free)",
       false, set_budget},
      {"device", "UUID", "manage this GPU; repeatable (default: all)", true, add_device},
      {"simulate", "SIZE",
       "a simulated device with a bank of SIZE instead of GPUs (with --budget: "
       "a device of SIZE); repeatable",
       true, add_simulated},
      {"link-bandwidth", "BYTES/s", "copy bandwidth of simulated devices", false,
       set_link_bandwidth},
      {"chunk", "SIZE", "unit of memory (default: by budget, 2MiB to 32MiB)", false,
       size(&Config::chunk_bytes)},
      {"socket", "PATH", "where clients connect", false, text(&Config::socket_path)},
      {"tasks", "FILE", "settings of tasks that win over what clients declare", false,
       text(&Config::tasks_path)},
      {"wait-for", "N", "hold all clocks back until N tasks are there", false, set_wait_for},
      {"log-format", "text|json", "form of the log on stderr", false,
       choice<LogFormat>(&Config::log_format,
                         {{"text", LogFormat::text}, {"json", LogFormat::json}})},
      {"log-level", "LEVEL", "trace, debug, info, warning, error", false,
       choice<std::string>(&Config::log_level, {{"trace", "trace"},
                                                {"debug", "debug"},
                                                {"info", "info"},
                                                {"warning", "warning"},
                                                {"error", "error"}})},
      {"trace", "FILE", "write every decision to FILE, one JSON object a line", false,
       text(&Config::trace_path)},
      {"discipline", "edf|request-order", "request-order: the baseline of comparisons", false,
       choice<arbiter::Discipline>(&Config::discipline,
                                   {{"edf", arbiter::Discipline::edf},
                                    {"request-order", arbiter::Discipline::request_order}})},
      {"group", "NAME", "serve all members of this group instead of one user", false,
       text(&Config::group)},
  };
  return all;
}

Status apply(Config& config, const Setting& setting, const std::vector<std::string>& values,
             const std::string& where) {
  if (values.size() > 1 && !setting.repeatable) {
    return fail(ErrorCode::invalid_argument, where + " is given more than once");
  }
  for (const std::string& value : values) {
    if (const Status status = setting.apply(config, value); !status) {
      return fail(status.error().code, where + ": " + status.error().message);
    }
  }
  return {};
}

// Values by setting; the flags that were given are already in `given`.
Status apply_file(Config& config, const std::string& path,
                  const std::map<std::string, std::vector<std::string>>& given) {
  RTSWAP_ASSIGN(const TomlFile file, TomlFile::read(path));
  for (const TomlEntry& entry : file.entries()) {
    const auto setting =
        std::find_if(settings().begin(), settings().end(),
                     [&](const Setting& candidate) { return entry.key == candidate.name; });
    if (setting == settings().end()) {
      std::string names;
      for (const Setting& known : settings()) names += std::string(" ") + known.name;
      return fail(ErrorCode::invalid_argument,
                  entry.where + ": there is no setting \"" + entry.key + "\"; there are:" + names);
    }
    if (!given.at(entry.key).empty()) continue;  // the flag wins
    RTSWAP_ASSIGN(const auto values, entry.texts());
    RTSWAP_TRY(apply(config, *setting, values, entry.where + ": " + entry.key));
  }
  return {};
}

Result<std::string> default_socket_path() {
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  if (runtime != nullptr && *runtime != '\0') return std::string(runtime) + "/rtswap/rtswapd.sock";
  if (::geteuid() == 0) return std::string("/run/rtswap/rtswapd.sock");
  return fail(ErrorCode::invalid_argument,
              "XDG_RUNTIME_DIR is not set, so there is no default place for the socket; give one "
              "with --socket PATH (in a folder of yours, not in /tmp)");
}

Status check_together(const Config& config) {
  if (!config.simulated_bytes.empty() && !config.devices.empty()) {
    return fail(ErrorCode::invalid_argument,
                "--simulate replaces the GPUs, so it does not go with --device");
  }
  if (config.simulated_bytes.empty() && config.link_bytes_per_s > 0) {
    return fail(ErrorCode::invalid_argument,
                "--link-bandwidth is a property of simulated devices; a GPU's link is measured");
  }
  return {};
}

}  // namespace

Result<Arguments> parse_arguments(const std::vector<std::string>& arguments) {
  CLI::App app(
      "The rtswap arbiter: owns the memory of this host's GPUs and decides which task "
      "may hold it and run.",
      "rtswapd");
  std::map<std::string, std::vector<std::string>> given;
  for (const Setting& setting : settings()) {
    app.add_option(std::string("--") + setting.name, given[setting.name], setting.help)
        ->type_name(setting.value)
        ->expected(1)  // for each flag; apply() counts the flags
        ->allow_extra_args(false)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }
  std::string config_path;
  app.add_option("--config", config_path, "TOML file with the settings above")->type_name("FILE");
  app.set_version_flag("--version", std::string("rtswapd ") + RTSWAP_VERSION);
  CLI::App* check = app.add_subcommand(
      "check",
      "say what this machine offers and what the daemon would do; exit status 0: it works");
  check->fallthrough();

  Arguments result;
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::CallForHelp&) {
    result.print_and_exit = app.help();
    return result;
  } catch (const CLI::CallForVersion& version) {
    result.print_and_exit = std::string(version.what()) + "\n";
    return result;
  } catch (const CLI::ParseError& error) {
    return fail(ErrorCode::invalid_argument,
                std::string(error.what()) + " (rtswapd --help lists the flags)");
  }
  for (const Setting& setting : settings()) {
    RTSWAP_TRY(
        apply(result.config, setting, given[setting.name], std::string("--") + setting.name));
  }
  if (!config_path.empty()) RTSWAP_TRY(apply_file(result.config, config_path, given));
  if (result.config.socket_path.empty()) {
    RTSWAP_ASSIGN(result.config.socket_path, default_socket_path());
  }
  RTSWAP_TRY(check_together(result.config));
  result.check = check->parsed();
  return result;
}

}  // namespace rtswap::daemon
