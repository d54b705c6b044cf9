// A TOML file with errors that name file and line; no exceptions leave it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "csrc/base/result.h"

namespace rtswap::daemon {

// One key with a value.
struct TomlEntry {
  enum class Type { text, number, boolean, list, other };

  std::string key;
  std::string where;  // "FILE:LINE"
  Type type = Type::other;
  std::vector<std::string> values;  // of text or number: one; of a list: each, if all are plain
  double number = 0;
  bool boolean = false;

  // The value as the texts that flags would have: one, or each of a list.
  Result<std::vector<std::string>> texts() const;
};

class TomlFile {
 public:
  // `invalid_argument` when it cannot be read or is not TOML.
  static Result<TomlFile> read(const std::string& path);

  // Keys at the top level; the tables named `name` are not among them.
  const std::vector<TomlEntry>& entries() const noexcept { return entries_; }
  // The tables of [[name]], each with its entries.
  struct Table {
    std::string where;
    std::vector<TomlEntry> entries;
  };
  Result<std::vector<Table>> tables(const std::string& name) const;

 private:
  struct Parsed;
  std::shared_ptr<const Parsed> parsed_;
  std::vector<TomlEntry> entries_;
};

}  // namespace rtswap::daemon
