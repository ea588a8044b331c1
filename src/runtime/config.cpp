#include "runtime/config.hpp"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <vector>

#include "lightning_core/error.hpp"
#include "runtime/fork_mutex.hpp"
#include "runtime/trace_names.hpp"

namespace lc {
namespace {

constexpr ConfigKind kBool = ConfigKind::kBool;
constexpr ConfigKind kInt = ConfigKind::kInt;
constexpr ConfigKind kFloat = ConfigKind::kFloat;
constexpr ConfigKind kString = ConfigKind::kString;
constexpr ConfigKind kWords = ConfigKind::kWords;
constexpr double kMany = 9007199254740992.0;  // 2^53: exact in a double

// Sorted by name. The CJ_ rows are the reference's names for settings of its Metal path.
constexpr ConfigVar kTable[] = {
    {"CJ_CONV2D_CPU_CROSSOVER_DYNAMIC", kBool, "0", "", 0, 0,
     "Read CJ_CONV2D_CPU_CROSSOVER_MACS at every call instead of once. Metal builds only."},
    {"CJ_CONV2D_CPU_CROSSOVER_MACS", kInt, "260000", "", 0, kMany,
     "Multiply-adds at or below which a convolution asked for on Metal (3x3, stride 1, padding 1, "
     "batch <= 64, in <= 16, out <= 32 channels) runs on the CPU. Metal builds only."},
    {"CJ_GRAPH_POLICY_CACHE_FILE", kString, "", "", 0, 0,
     "File that keeps learned placements of model graphs; empty: they are kept in memory."},
    {"CJ_MATMUL_DISABLE_PROMOTED_BUCKETS", kBool, "0", "", 0, 0,
     "Tune every matrix product, also the shapes whose kernel is known in advance. Metal builds "
     "only."},
    {"CJ_MATMUL_MPS_HYST_PCT", kFloat, "0.0", "", 0, 100,
     "Percent by which the vendor's matrix product must be faster before it replaces ours. Metal "
     "builds only."},
    {"CJ_MATMUL_PREFER_MPS_ON_LARGE", kBool, "1", "", 0, 0,
     "Start large matrix products on the vendor's kernel. Metal builds only."},
    {"CJ_MATMUL_TRY_KERNEL_ON_LARGE", kBool, "1", "", 0, 0,
     "Also measure our kernel for large matrix products. Metal builds only."},
    {"CJ_MATMUL_TUNE_CACHE_FILE", kString, "", "", 0, 0,
     "File of measured matrix product choices; empty: one in the user's cache directory. Metal "
     "builds only."},
    {"CJ_VECTORADD_CPU_CROSSOVER_N", kInt, "8388608", "", 0, kMany,
     "Elements at or below which a vector sum asked for on Metal runs on the CPU. Metal builds "
     "only."},
    {"LC_BENCH_TIMING_RUNS", kInt, "3", "", 1, 1000,
     "Repetitions of each benchmark measurement; `lightning-core bench` takes three turns each."},
    {"LC_DEVICE", kWords, "auto", "auto|cpu|cuda|metal|null", 0, 0,
     "Device of calls that name none; auto: metal, else cuda, else cpu. A device that is absent "
     "falls back to the CPU, as the trace shows."},
    {"LC_MAX_ISA", kWords, "auto", "auto|avx512|avx2|baseline|neon", 0, 0,
     "Best instruction set the CPU kernels may use; auto: the best this processor has."},
    {"LC_MEMORY_CACHE_MB", kInt, "512", "", 0, 1 << 20,
     "Freed memory kept for reuse, MiB a device; 0: none is kept."},
    {"LC_NUM_THREADS", kInt, "0", "", 0, 1024,
     "Threads of the CPU kernels, the caller included; 0: as many processors as affinity and "
     "container quota allow."},
    {"LC_PLAN_CACHE_ENTRIES", kInt, "4096", "", 1, 1 << 20,
     "Plans kept before the cache starts anew."},
    {"LC_SPIN_US", kInt, "200", "", 0, 900,
     "Microseconds an idle worker waits for more work before it sleeps; 0: sleeps at once."},
    {"LC_STRICT", kBool, "0", "", 0, 0,
     "Implicit copies and device fallbacks become errors in calls under the default policy."},
    {"LC_TEST_FAIL_ALLOC_ABOVE", kInt, "0", "", 0, kMany,
     "For tests: allocations of more bytes than this fail; 0: none do."},
    {"LC_TRACE", kString, "", "", 0, 0,
     "Tracing from the start; empty or 0: off, 1: events are kept in the ring, else the path of a "
     "file to which a line per event is appended."},
};
constexpr size_t kRows = std::size(kTable);

/// Parsed value of a row; strings and words are kept as text.
struct Value {
  std::string text;
  int64_t i = 0;
  double f = 0;
};

struct State {
  ForkMutex mutex{LockRank::kConfig};
  std::optional<Value> values[kRows];  // parsed
  std::optional<std::string> overrides[kRows];
};
State& state() {
  static auto* s = new State;
  return *s;
}
constinit std::atomic<uint32_t> g_epoch{1};

std::string accepted(const ConfigVar& v) {
  // Integer bounds without an exponent.
  const auto bound = [](double b) { return std::to_string(static_cast<int64_t>(b)); };
  switch (v.kind) {
    case ConfigKind::kBool:
      return "0, 1, false, true, off, on, no or yes";
    case ConfigKind::kInt:
      return cat("a whole number from ", bound(v.min), " to ", bound(v.max));
    case ConfigKind::kFloat:
      return cat("a number from ", bound(v.min), " to ", bound(v.max));
    case ConfigKind::kString:
      return "text";
    case ConfigKind::kWords: {
      std::string words = v.words;
      for (size_t at = 0; (at = words.find('|', at)) != std::string::npos; at += 2)
        words.replace(at, 1, ", ");
      return "one of " + words;
    }
  }
  return "";
}

[[noreturn]] void refuse(const ConfigVar& v, std::string_view text) {
  throw_arg("config", v.name, accepted(v), cat("'", text, "'"));
}

bool has_word(std::string_view words, std::string_view word) {
  if (word.empty() || word.find('|') != std::string_view::npos) return false;
  while (!words.empty()) {
    const size_t bar = std::min(words.find('|'), words.size());
    if (words.substr(0, bar) == word) return true;
    words.remove_prefix(std::min(bar + 1, words.size()));
  }
  return false;
}

Value parse(const ConfigVar& v, std::string_view given) {
  const std::string_view text = given.empty() ? std::string_view(v.fallback) : given;
  Value value;
  value.text = text;
  const char* end = text.data() + text.size();
  switch (v.kind) {
    case ConfigKind::kBool:
      if (has_word("1|true|on|yes", text))
        value.i = 1;
      else if (!has_word("0|false|off|no", text))
        refuse(v, text);
      break;
    case ConfigKind::kInt: {
      const auto [stop, error] = std::from_chars(text.data(), end, value.i);
      const auto number = static_cast<double>(value.i);
      if (error != std::errc() || stop != end || number < v.min || number > v.max) refuse(v, text);
      break;
    }
    case ConfigKind::kFloat: {
      char* stop = nullptr;
      value.f = std::strtod(value.text.c_str(), &stop);
      if (value.text.empty() || std::isspace(static_cast<unsigned char>(value.text[0])) != 0 ||
          *stop != '\0' || !(value.f >= v.min && value.f <= v.max))
        refuse(v, text);
      break;
    }
    case ConfigKind::kString:
      break;
    case ConfigKind::kWords:
      if (!has_word(v.words, text)) refuse(v, text);
      break;
  }
  return value;
}

size_t row_of(std::string_view name) {
  const auto* it = std::lower_bound(
      std::begin(kTable), std::end(kTable), name,
      [](const ConfigVar& v, std::string_view n) { return std::string_view(v.name) < n; });
  if (it != std::end(kTable) && name == it->name) return static_cast<size_t>(it - kTable);
  std::string names;
  for (const ConfigVar& v : kTable) names += cat(names.empty() ? "" : ", ", v.name);
  throw_arg("config", "name", "one of " + names, cat("'", name, "'"));
}

Value value_of(std::string_view name, ConfigKind kind, ConfigKind or_kind) {
  const size_t row = row_of(name);
  const ConfigVar& v = kTable[row];
  if (v.kind != kind && v.kind != or_kind)
    throw_arg("config", name, accepted(v), "a getter of another type");
  State& s = state();
  const std::lock_guard lock(s.mutex);
  if (!s.values[row]) {
    const char* environment = std::getenv(v.name);
    s.values[row] = parse(v, s.overrides[row] ? *s.overrides[row]
                             : environment    ? std::string_view(environment)
                                              : std::string_view());
  }
  return *s.values[row];
}

}  // namespace

std::span<const ConfigVar> config_table() { return kTable; }

bool config_bool(std::string_view name) { return value_of(name, kBool, kBool).i != 0; }
int64_t config_int(std::string_view name) { return value_of(name, kInt, kInt).i; }
double config_float(std::string_view name) { return value_of(name, kFloat, kFloat).f; }
std::string config_string(std::string_view name) { return value_of(name, kString, kWords).text; }

void set_config(std::string_view name, std::string_view value) {
  const size_t row = row_of(name);
  Value parsed = parse(kTable[row], value);
  State& s = state();
  std::optional<std::string> previous;
  {
    const std::lock_guard lock(s.mutex);
    previous = std::move(s.overrides[row]);
    s.overrides[row] = std::string(value);
    s.values[row] = std::move(parsed);
    g_epoch.fetch_add(1, std::memory_order_acq_rel);
  }
  if (std::string_view(kTable[row].name) != "LC_TRACE") return;
  forget_trace_config();
  try {
    apply_trace_config();
  } catch (...) {
    {
      const std::lock_guard lock(s.mutex);
      s.overrides[row] = std::move(previous);
      s.values[row].reset();
      g_epoch.fetch_add(1, std::memory_order_acq_rel);
    }
    forget_trace_config();
    throw;
  }
}

void reload_config() {
  State& s = state();
  {
    const std::lock_guard lock(s.mutex);
    for (size_t row = 0; row < kRows; ++row) {
      s.values[row].reset();
      s.overrides[row].reset();
    }
    g_epoch.fetch_add(1, std::memory_order_acq_rel);
  }
  forget_trace_config();
}

uint32_t config_epoch() noexcept { return g_epoch.load(std::memory_order_acquire); }

LC_AT_LOAD(state())

}  // namespace lc
