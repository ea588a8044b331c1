// The ring, the sink, and the formats. Off, tracing costs one relaxed load a call; on, one short
// lock an event.
#include "lightning_core/trace.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "runtime/config.hpp"
#include "runtime/fork_mutex.hpp"
#include "runtime/json.hpp"
#include "runtime/trace_names.hpp"

namespace lc {
namespace {

using Sink = std::function<void(const TraceEvent&)>;

struct Ring {
  ForkMutex mutex{LockRank::kTrace};
  TraceEvent events[kTraceCapacity];
  uint64_t written = 0;
  std::shared_ptr<const Sink> sink;
};
Ring& ring() {
  static auto* r = new Ring;  // never destroyed: other threads may trace during exit
  return *r;
}

enum State : int { kOff, kOn, kUnread };
constinit std::atomic<int> g_state{kUnread};

struct Applied {
  ForkMutex mutex{LockRank::kTraceConfig};
  std::string text;      // LC_TRACE as last applied
  bool enabled = false;  // the choice in force
};
Applied& applied() {
  static auto* a = new Applied;
  return *a;
}

struct PlanText {
  std::string kernel;
  std::string call;
  std::string policy;
};
struct PlanTexts {
  ForkMutex mutex{LockRank::kPlanText};
  std::map<uint64_t, PlanText> texts;  // by id, so by age
};
PlanTexts& plan_texts() {
  static auto* t = new PlanTexts;
  return *t;
}

uint32_t thread_number() noexcept {
  static std::atomic<uint32_t> next{0};
  thread_local const uint32_t number = next.fetch_add(1, std::memory_order_relaxed);
  return number;
}

/// Appends whole lines; closed with its last user.
class LineFile {
 public:
  explicit LineFile(const std::string& path)
      : fd_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) {
    if (fd_ < 0)
      throw_arg("config", "LC_TRACE", "empty, 0, 1 or the path of a file to append to",
                cat("'", path, "' (", std::strerror(errno), ")"));
  }
  ~LineFile() { ::close(fd_); }
  LineFile(const LineFile&) = delete;
  LineFile& operator=(const LineFile&) = delete;
  void write(std::string line) const {
    line += '\n';
    // One write a line, so lines of several processes do not mix. A full disk loses lines.
    if (::write(fd_, line.data(), line.size()) < 0) return;
  }

 private:
  int fd_;
};

void replace_sink(std::shared_ptr<const Sink> sink) {
  Ring& r = ring();
  {
    const std::lock_guard lock(r.mutex);
    r.sink.swap(sink);
  }
  // The old one dies here, outside the lock.
}

/// With Applied's lock held.
void apply_locked(Applied& a) {
  const std::string text = config_string("LC_TRACE");
  if (text != a.text) {
    const bool off = text.empty() || text == "0" || text == "off";
    std::shared_ptr<const Sink> sink;
    if (!off && text != "1" && text != "on") {
      auto file = std::make_shared<const LineFile>(text);
      sink = std::make_shared<const Sink>(
          [file](const TraceEvent& event) { file->write(trace_line(event)); });
    }
    replace_sink(std::move(sink));
    a.enabled = !off;
    a.text = text;
  }
  g_state.store(a.enabled ? kOn : kOff, std::memory_order_relaxed);
}

bool read_state() noexcept {
  try {
    apply_trace_config();
  } catch (...) {
    return false;  // the next plan reports it
  }
  return g_state.load(std::memory_order_relaxed) == kOn;
}

std::string duration_text(uint64_t ns) {
  char buffer[32];
  const auto t = static_cast<double>(ns);
  if (ns < 1000)
    std::snprintf(buffer, sizeof buffer, "%dns", static_cast<int>(ns));
  else if (ns < 1000000)
    std::snprintf(buffer, sizeof buffer, "%.3gus", t * 1e-3);
  else if (ns < 1000000000)
    std::snprintf(buffer, sizeof buffer, "%.3gms", t * 1e-6);
  else
    std::snprintf(buffer, sizeof buffer, "%.6gs", t * 1e-9);
  return buffer;
}

}  // namespace

const char* trace_type_name(TraceType type) noexcept {
  switch (type) {
    case TraceType::kMallocDevice:
      return "malloc_device";
    case TraceType::kFreeDevice:
      return "free_device";
    case TraceType::kMemcpy:
      return "memcpy";
    case TraceType::kDeviceSynchronize:
      return "device_synchronize";
    case TraceType::kApplySyncPolicy:
      return "apply_sync_policy";
    case TraceType::kGetDeviceCount:
      return "get_device_count";
    case TraceType::kIsCudaAvailable:
      return "is_cuda_available";
    case TraceType::kIsMetalAvailable:
      return "is_metal_available";
    case TraceType::kPreferredDeviceFor:
      return "preferred_device_for";
    case TraceType::kBackendName:
      return "backend_name";
    case TraceType::kOpDispatch:
      return "op_dispatch";
  }
  return "unknown";
}

int64_t trace_op_code(const char* op) noexcept {
  static constexpr const char* kOps[] = {"unknown",          "matmul",     "vector_add",
                                         "matrix_sub",       "matrix_div", "conv2d_nchw",
                                         "attention_forward"};
  for (size_t i = 1; i < std::size(kOps); ++i)
    if (std::strcmp(op, kOps[i]) == 0) return static_cast<int64_t>(i);
  return 0;
}

uint64_t monotonic_ns() noexcept {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                   std::chrono::steady_clock::now().time_since_epoch())
                                   .count());
}

bool trace_enabled() noexcept {
  const int state = g_state.load(std::memory_order_relaxed);
  if (state == kUnread) [[unlikely]]
    return read_state();
  return state == kOn;
}

void set_trace_enabled(bool enabled) {
  Applied& a = applied();
  const std::lock_guard lock(a.mutex);
  if (enabled && g_state.load(std::memory_order_relaxed) == kUnread) apply_locked(a);
  a.enabled = enabled;
  g_state.store(enabled ? kOn : kOff, std::memory_order_relaxed);
}

void apply_trace_config() {
  if (g_state.load(std::memory_order_relaxed) != kUnread) return;
  Applied& a = applied();
  const std::lock_guard lock(a.mutex);
  if (g_state.load(std::memory_order_relaxed) == kUnread) apply_locked(a);
}

void forget_trace_config() noexcept { g_state.store(kUnread, std::memory_order_relaxed); }

void clear_trace() {
  Ring& r = ring();
  const std::lock_guard lock(r.mutex);
  r.written = 0;
}

std::vector<TraceEvent> trace_events() {
  std::vector<TraceEvent> events;
  {
    Ring& r = ring();
    const std::lock_guard lock(r.mutex);
    const uint64_t n = std::min<uint64_t>(r.written, kTraceCapacity);
    events.reserve(n);
    for (uint64_t i = r.written - n; i < r.written; ++i)
      events.push_back(r.events[i % kTraceCapacity]);
  }
  // Events are written when what they report ends; threads interleave. Ordered by their start.
  std::stable_sort(events.begin(), events.end(), [](const TraceEvent& a, const TraceEvent& b) {
    return a.timestamp_ns < b.timestamp_ns;
  });
  return events;
}

void trace(TraceEvent event) {
  if (!trace_enabled()) return;
  if (event.timestamp_ns == 0) event.timestamp_ns = monotonic_ns();
  event.thread = thread_number();
  std::shared_ptr<const Sink> sink;
  {
    Ring& r = ring();
    const std::lock_guard lock(r.mutex);
    r.events[r.written++ % kTraceCapacity] = event;
    sink = r.sink;
  }
  if (sink == nullptr) return;
  thread_local bool in_sink = false;  // what a sink does itself is not sent to it
  if (in_sink) return;
  in_sink = true;
  try {
    (*sink)(event);
  } catch (...) {
    // The traced call has succeeded; a sink's trouble must not undo that.
  }
  in_sink = false;
}

void set_trace_sink(std::function<void(const TraceEvent&)> sink) {
  apply_trace_config();  // else LC_TRACE, read later, would replace this one
  replace_sink(sink ? std::make_shared<const Sink>(std::move(sink)) : nullptr);
}

std::string trace_line(const TraceEvent& e) {
  if (e.type != TraceType::kOpDispatch)
    return cat("lc,event,", trace_type_name(e.type), ",", error_code_name(e.status),
               ",size=", e.size_bytes, ",detail0=", e.detail0, ",detail1=", e.detail1);
  std::string kernel = "-";
  std::string call = e.op;
  std::string policy;
  (void)plan_text(e.plan_id, &kernel, &call, &policy);
  std::string line =
      cat("lc,exec,", device_name(e.selected), ",", kernel, ",", call, ",",
          policy.empty() ? "-" : policy, ",up=", e.bytes_copied, ",", duration_text(e.duration_ns));
  if (e.fallback) line += cat(",fallback=", device_name(e.requested));
  if (e.status != ErrorCode::kSuccess) line += cat(",", error_code_name(e.status));
  return line;
}

std::string trace_chrome_json() {
  const std::vector<TraceEvent> events = trace_events();
  const auto pid = static_cast<int64_t>(::getpid());
  Json json;
  json.object().key("traceEvents").array();
  for (const TraceEvent& e : events) {
    const bool op = e.type == TraceType::kOpDispatch;
    json.object();
    json.key("name").string(op ? e.op : trace_type_name(e.type));
    json.key("cat").string(trace_type_name(e.type));
    json.key("ph").string("X");
    json.key("ts").number(static_cast<double>(e.timestamp_ns) * 1e-3);
    json.key("dur").number(static_cast<double>(e.duration_ns) * 1e-3);
    json.key("pid").number(pid);
    json.key("tid").number(static_cast<int64_t>(e.thread));
    json.key("args").object();
    json.key("status").string(error_code_name(e.status));
    json.key("size_bytes").number(e.size_bytes);
    if (op) {
      json.key("requested_device").string(device_name(e.requested));
      json.key("selected_device").string(device_name(e.selected));
      json.key("fallback").boolean(e.fallback);
      json.key("bytes_copied").number(e.bytes_copied);
      std::string kernel;
      std::string call;
      std::string policy;
      if (plan_text(e.plan_id, &kernel, &call, &policy)) {
        json.key("plan").number(e.plan_id);
        json.key("kernel").string(kernel);
        json.key("call").string(call);
        if (!policy.empty()) json.key("policy").string(policy);
      }
    } else {
      json.key("detail0").number(e.detail0);
      json.key("detail1").number(e.detail1);
    }
    json.end().end();
  }
  json.end().key("displayTimeUnit").string("ns");
  return json.end().str();
}

void register_plan_text(uint64_t id, std::string kernel, std::string call, std::string policy) {
  PlanTexts& t = plan_texts();
  const std::lock_guard lock(t.mutex);
  t.texts.insert_or_assign(id, PlanText{std::move(kernel), std::move(call), std::move(policy)});
  while (t.texts.size() > kPlanTexts) t.texts.erase(t.texts.begin());
}

bool plan_text(uint64_t id, std::string* kernel, std::string* call, std::string* policy) {
  PlanTexts& t = plan_texts();
  const std::lock_guard lock(t.mutex);
  const auto it = t.texts.find(id);
  if (it == t.texts.end()) return false;
  if (kernel != nullptr) *kernel = it->second.kernel;
  if (call != nullptr) *call = it->second.call;
  if (policy != nullptr) *policy = it->second.policy;
  return true;
}

LC_AT_LOAD((ring(), applied(), plan_texts()))

}  // namespace lc
