// Policies in force: a process default and one innermost scope a thread.
#include "lightning_core/policy.hpp"

#include <atomic>
#include <deque>
#include <mutex>

#include "lightning_core/error.hpp"
#include "runtime/config.hpp"
#include "runtime/fork_mutex.hpp"
#include "runtime/hot_thread_local.hpp"

namespace lc {
namespace {

ForkMutex g_mutex(LockRank::kPolicy);

std::deque<std::string>& pins() {
  static auto* names = new std::deque<std::string>{"auto"};
  return *names;
}

Policy g_default;
bool g_default_set = false;
std::atomic<uint32_t> g_default_epoch{1};

struct ThreadPolicy {
  Policy value;
  uint32_t epoch = 0;  // of the default it copies
  uint32_t config = ~0u;
  bool scoped = false;
};
LC_HOT_THREAD_LOCAL ThreadPolicy t_policy;

uint64_t mix(uint64_t h, uint64_t v) {
  h ^= v;
  h *= 0x9e3779b97f4a7c15ull;
  return h ^ (h >> 32);
}

}  // namespace

KernelPin intern_kernel(std::string_view name) {
  if (name.empty() || name == "auto") return 0;
  const std::lock_guard lock(g_mutex);
  auto& names = pins();
  for (size_t i = 0; i < names.size(); ++i)
    if (names[i] == name) return static_cast<KernelPin>(i);
  names.emplace_back(name);
  return static_cast<KernelPin>(names.size() - 1);
}

std::string kernel_pin_name(KernelPin pin) {
  const std::lock_guard lock(g_mutex);
  return pin < pins().size() ? pins()[pin] : "auto";
}

uint64_t Policy::hash() const noexcept {
  uint64_t h = mix(0x6c63, uint64_t{upload} << 32 | download);
  h = mix(h, static_cast<uint64_t>(sync) | static_cast<uint64_t>(precision) << 8 |
                 uint64_t{strict} << 16 | uint64_t{trace_sync_boundary} << 17);
  return mix(h, kernel);
}

std::string Policy::str() const {
  std::string text;
  const auto add = [&text](const std::string& part) {
    if (!text.empty()) text += ",";
    text += part;
  };
  if (upload != ~0u) add(cat("upload=", upload));
  if (download != ~0u) add(cat("download=", download));
  if (sync == SyncMode::kAlways) add("sync=always");
  if (sync == SyncMode::kNever) add("sync=never");
  if (precision == Precision::kFast) add("fast");
  if (strict) add("strict");
  if (trace_sync_boundary) add("trace_sync_boundary");
  if (kernel != 0) add(cat("kernel=", kernel_pin_name(kernel)));
  return text.empty() ? "auto" : text;
}

Policy default_policy() {
  Policy policy;
  policy.strict = config_bool("LC_STRICT");  // before the lock
  const std::lock_guard lock(g_mutex);
  return g_default_set ? g_default : policy;
}

void set_default_policy(const Policy& policy) {
  const std::lock_guard lock(g_mutex);
  g_default = policy;
  g_default_set = true;
  g_default_epoch.fetch_add(1, std::memory_order_relaxed);
}

const Policy& current_policy() {
  ThreadPolicy& t = t_policy;
  if (t.scoped) return t.value;
  const uint32_t epoch = g_default_epoch.load(std::memory_order_relaxed);
  const uint32_t config = config_epoch();
  if (t.epoch != epoch || t.config != config) {
    t.value = default_policy();
    t.epoch = epoch;
    t.config = config;
  }
  return t.value;
}

PolicyScope::PolicyScope(const Policy& policy)
    : previous_(t_policy.value), had_previous_(t_policy.scoped) {
  t_policy.value = policy;
  t_policy.scoped = true;
}

PolicyScope::~PolicyScope() {
  t_policy.value = previous_;
  t_policy.scoped = had_previous_;
  if (!had_previous_) t_policy.epoch = 0;
}

LC_AT_LOAD(pins())

}  // namespace lc
