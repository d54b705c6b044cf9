#include "daemon/toml_file.h"

#include <fmt/format.h>
#include <toml++/toml.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

namespace rtswap::daemon {
namespace {

std::string at(const std::string& path, const toml::source_region& source) {
  return path + ":" + std::to_string(source.begin.line);
}

bool plain_text(const toml::node& node, std::string& text) {
  if (const auto* string = node.as_string()) {
    text = string->get();
  } else if (const auto* integer = node.as_integer()) {
    text = std::to_string(integer->get());
  } else {
    return false;
  }
  return true;
}

TomlEntry entry_of(const std::string& path, const toml::key& key, const toml::node& node) {
  TomlEntry entry;
  entry.key = std::string(key.str());
  entry.where = at(path, key.source());
  std::string text;
  if (plain_text(node, text)) {
    entry.type = node.is_string() ? TomlEntry::Type::text : TomlEntry::Type::number;
    entry.values.push_back(text);
  }
  if (node.is_number()) {
    entry.type = TomlEntry::Type::number;
    entry.number = node.value<double>().value_or(0);
  } else if (const auto* boolean = node.as_boolean()) {
    entry.type = TomlEntry::Type::boolean;
    entry.boolean = boolean->get();
  } else if (const auto* array = node.as_array()) {
    entry.type = TomlEntry::Type::list;
    for (const toml::node& element : *array) {
      if (!plain_text(element, text)) {
        entry.type = TomlEntry::Type::other;
        break;
      }
      entry.values.push_back(text);
    }
  }
  return entry;
}

std::vector<TomlEntry> entries_of(const std::string& path, const toml::table& table) {
  std::vector<TomlEntry> entries;
  for (const auto& [key, node] : table) entries.push_back(entry_of(path, key, node));
  return entries;
}

}  // namespace

struct TomlFile::Parsed {
  std::string path;
  toml::table root;
};

Result<std::vector<std::string>> TomlEntry::texts() const {
  if (values.empty()) {
    return fail(ErrorCode::invalid_argument,
                where + ": " + key + " takes a text or a whole number, or a list of them");
  }
  return values;
}

Result<TomlFile> TomlFile::read(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {  // would read as an empty file
    return fail(ErrorCode::invalid_argument, path + " is a folder, not a file");
  }
  if (::access(path.c_str(), R_OK) != 0) {
    return fail(ErrorCode::invalid_argument,
                "the file " + path + " cannot be read: " + std::strerror(errno));
  }
  try {
    auto parsed = std::make_shared<Parsed>(Parsed{path, toml::parse_file(path)});
    TomlFile file;
    file.entries_ = entries_of(path, parsed->root);
    file.parsed_ = std::move(parsed);
    return file;
  } catch (const toml::parse_error& error) {
    const bool has_line = error.source().begin.line > 0;
    return fail(ErrorCode::invalid_argument, (has_line ? at(path, error.source()) : path) + ": " +
                                                 std::string(error.description()));
  }
}

Result<std::vector<TomlFile::Table>> TomlFile::tables(const std::string& name) const {
  std::vector<Table> tables;
  const toml::node* node = parsed_->root.get(name);
  if (node == nullptr) return tables;
  const toml::array* array = node->as_array();
  const auto is_table = [](const toml::node& element) { return element.is_table(); };
  if (array == nullptr || !std::all_of(array->begin(), array->end(), is_table)) {
    return fail(ErrorCode::invalid_argument,
                at(parsed_->path, node->source()) + ": write [[" + name + "]] for each " + name);
  }
  for (const toml::node& element : *array) {
    tables.push_back(
        {at(parsed_->path, element.source()), entries_of(parsed_->path, *element.as_table())});
  }
  return tables;
}

}  // namespace rtswap::daemon
