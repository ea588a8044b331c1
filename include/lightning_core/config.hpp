// The one table of environment variables, each with its value in force. Every variable is read
// through it and nowhere else.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace lc {

enum class ConfigKind : uint8_t { kBool, kInt, kFloat, kString, kWords };

struct ConfigVar {
  const char* name;  ///< "LC_NUM_THREADS"
  ConfigKind kind;
  const char* fallback;  ///< default, as text
  const char* words;     ///< kWords: accepted, separated by '|'
  double min, max;       ///< kInt, kFloat
  const char* doc;
};

/// All of them, sorted by name; docs/env.md is generated from it.
[[nodiscard]] std::span<const ConfigVar> config_table();

// Parsed values of a table row; read from the environment on first use, again after
// reload_config(). Bools: "0", "false", "off", "no" are off, "1", "true", "on", "yes" are on, empty
// is the default. A value that does not parse throws kInvalidValue naming variable, value and what
// is accepted.
[[nodiscard]] bool config_bool(std::string_view name);
[[nodiscard]] int64_t config_int(std::string_view name);
[[nodiscard]] double config_float(std::string_view name);
[[nodiscard]] std::string config_string(std::string_view name);
/// Overrides a variable in this process; throws like the getters.
void set_config(std::string_view name, std::string_view value);
/// Forgets overrides and reads the environment again. Plans made before are made anew.
void reload_config();

}  // namespace lc
