#include "daemon/tasks_file.h"

#include <cmath>

#include "daemon/sizes.h"
#include "daemon/toml_file.h"

namespace rtswap::daemon {
namespace {

constexpr double kLargest_ms = 1e9;  // some eleven days: more is a mistake of units

Error at(const std::string& where, const std::string& what) {
  return {ErrorCode::invalid_argument, where + ": " + what};
}

Result<int64_t> positive_ns(const TomlEntry& entry, double ns_per_unit) {
  const double ns = entry.number * ns_per_unit;
  if (entry.type != TomlEntry::Type::number || !(ns >= 1) || ns > kLargest_ms * 1e6) {
    return fail(at(entry.where, entry.key + " takes a positive number of milliseconds"));
  }
  return std::llround(ns);
}

struct Task {
  std::string name;
  arbiter::TaskOverride settings;
  // For planning (`rtswap plan`): clients know their own memory.
  uint64_t size_bytes = 0;
  uint64_t mutable_bytes = 0;
};

Result<uint64_t> size_of(const TomlEntry& entry) {
  if (entry.type == TomlEntry::Type::text || entry.type == TomlEntry::Type::number) {
    if (entry.values.size() == 1) {
      if (const auto bytes = parse_size(entry.values[0])) return *bytes;
    }
  }
  return fail(at(entry.where, entry.key + " takes a size, such as \"512MiB\" or \"4GB\""));
}

Result<int32_t> importance_of(const TomlEntry& entry) {
  constexpr double kMost = protocol::kMostImportance;
  const bool whole = entry.type == TomlEntry::Type::number && entry.values.size() == 1;
  if (!whole || entry.number < -kMost || entry.number > kMost) {
    const std::string most = std::to_string(protocol::kMostImportance);
    return fail(at(entry.where, "importance takes a whole number from -" + most + " to " + most));
  }
  return static_cast<int32_t>(entry.number);
}

Status apply(const TomlEntry& entry, Task& task) {
  protocol::Timing& timing = task.settings.timing;
  if (entry.key == "name") {
    if (entry.type != TomlEntry::Type::text || entry.values[0].empty()) {
      return fail(at(entry.where, "name takes the name of a task"));
    }
    task.name = entry.values[0];
  } else if (entry.key == "period_ms" || entry.key == "rate_hz") {
    if (timing.period_ns != 0) {
      return fail(at(entry.where, "give either period_ms or rate_hz, not both"));
    }
    if (entry.key == "period_ms") {
      RTSWAP_ASSIGN(timing.period_ns, positive_ns(entry, 1e6));
    } else if (entry.type != TomlEntry::Type::number || !(entry.number >= 1e-6) ||
               entry.number > 1e6) {
      return fail(at(entry.where, "rate_hz takes a positive number of releases per second"));
    } else {
      timing.period_ns = std::llround(1e9 / entry.number);
    }
  } else if (entry.key == "deadline_ms") {
    RTSWAP_ASSIGN(timing.deadline_ns, positive_ns(entry, 1e6));
  } else if (entry.key == "wcet_ms") {
    RTSWAP_ASSIGN(timing.wcet_ns, positive_ns(entry, 1e6));
  } else if (entry.key == "size") {
    RTSWAP_ASSIGN(task.size_bytes, size_of(entry));
  } else if (entry.key == "mutable") {
    RTSWAP_ASSIGN(task.mutable_bytes, size_of(entry));
  } else if (entry.key == "model" || entry.key == "profile") {  // for planning, like the sizes
    if (entry.type != TomlEntry::Type::text || entry.values[0].empty()) {
      return fail(at(entry.where, entry.key == "model"
                                      ? "model takes the name of a model that tasks share"
                                      : "profile takes the name of a file"));
    }
  } else if (entry.key == "resident") {
    if (entry.type != TomlEntry::Type::boolean) {
      return fail(at(entry.where, "resident takes true or false"));
    }
    task.settings.resident = entry.boolean;
  } else if (entry.key == "late") {
    const std::string value = entry.values.empty() ? "" : entry.values[0];
    if (value != "drop" && value != "run") {
      return fail(at(entry.where, "late takes \"drop\" or \"run\""));
    }
    task.settings.late = value == "run" ? protocol::LatePolicy::run : protocol::LatePolicy::drop;
  } else if (entry.key == "importance") {
    RTSWAP_ASSIGN(task.settings.importance, importance_of(entry));
  } else {
    return fail(at(entry.where, "a task has no setting \"" + entry.key +
                                    "\"; there are: name period_ms rate_hz deadline_ms wcet_ms "
                                    "resident late importance size mutable model profile"));
  }
  return {};
}

}  // namespace

Result<std::map<std::string, arbiter::TaskOverride>> read_tasks_file(const std::string& path) {
  RTSWAP_ASSIGN(const TomlFile file, TomlFile::read(path));
  for (const TomlEntry& entry : file.entries()) {
    if (entry.key != "task") {
      if (entry.type == TomlEntry::Type::other || entry.type == TomlEntry::Type::list) {
        return fail(at(entry.where, "write [[task]], not \"" + entry.key + "\""));
      }
      return fail(at(entry.where, "\"" + entry.key + "\" belongs into a [[task]]"));
    }
  }
  RTSWAP_ASSIGN(const auto tables, file.tables("task"));
  std::map<std::string, arbiter::TaskOverride> overrides;
  for (const TomlFile::Table& table : tables) {
    Task task;
    for (const TomlEntry& entry : table.entries) RTSWAP_TRY(apply(entry, task));
    if (task.name.empty()) return fail(at(table.where, "this task has no name"));
    const protocol::Timing& timing = task.settings.timing;
    if (timing.period_ns > 0 && timing.deadline_ns > timing.period_ns) {
      return fail(
          at(table.where, "the deadline of \"" + task.name + "\" is longer than its period"));
    }
    const int64_t due_ns = timing.deadline_ns > 0 ? timing.deadline_ns : timing.period_ns;
    if (due_ns > 0 && timing.wcet_ns > due_ns) {
      return fail(at(table.where, "a job of \"" + task.name + "\" takes longer than its deadline"));
    }
    if (task.size_bytes > 0 && task.mutable_bytes > task.size_bytes) {
      return fail(at(table.where, "\"" + task.name + "\" has more mutable memory than memory"));
    }
    if (!overrides.emplace(task.name, task.settings).second) {
      return fail(at(table.where, "task \"" + task.name + "\" is described twice"));
    }
  }
  return overrides;
}

}  // namespace rtswap::daemon
