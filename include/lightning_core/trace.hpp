// Trace: what ran, where, for how long. A ring of events, sinks, and reports over them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "lightning_core/device.hpp"
#include "lightning_core/error.hpp"

namespace lc {

enum class TraceType : uint8_t {
  kMallocDevice,
  kFreeDevice,
  kMemcpy,
  kDeviceSynchronize,
  kApplySyncPolicy,
  kGetDeviceCount,
  kIsCudaAvailable,
  kIsMetalAvailable,
  kPreferredDeviceFor,
  kBackendName,
  kOpDispatch,
};
/// The reference's words: "malloc_device", ..., "op_dispatch".
[[nodiscard]] const char* trace_type_name(TraceType type) noexcept;

/// The reference's number of an op name: matmul 1, vector_add 2, matrix_sub 3, matrix_div 4,
/// conv2d_nchw 5, attention_forward 6; 0 for every other.
[[nodiscard]] int64_t trace_op_code(const char* op) noexcept;

/// One event; 4096 live in the ring, the oldest is overwritten.
struct TraceEvent {
  TraceType type = TraceType::kOpDispatch;
  ErrorCode status = ErrorCode::kSuccess;
  uint64_t timestamp_ns = 0;  ///< monotonic, at the start of what it reports
  uint64_t size_bytes = 0;    ///< op_dispatch: the reference's workload hint, not bytes
  int64_t detail0 = 0;        ///< meaning by type, see docs/trace.md
  int64_t detail1 = 0;
  const char* op = "";  ///< the name events are reported under: "matmul", "conv2d_nchw"
  DeviceKind requested = DeviceKind::kCpu;
  DeviceKind selected = DeviceKind::kCpu;
  bool fallback = false;
  // Ours, beyond the reference's fields.
  uint64_t duration_ns = 0;
  uint64_t bytes_copied = 0;  ///< by implicit conversions and copies of this call
  uint64_t plan_id = 0;       ///< 0: no plan
  uint32_t thread = 0;        ///< small number of the calling thread
};

inline constexpr size_t kTraceCapacity = 4096;

[[nodiscard]] bool trace_enabled() noexcept;
void set_trace_enabled(bool enabled);
void clear_trace();
/// Oldest first.
[[nodiscard]] std::vector<TraceEvent> trace_events();
/// Adds an event if tracing is on; takes the time itself when `timestamp_ns` is 0.
void trace(TraceEvent event);
/// "lc,exec,cpu,cpu/matmul:packed@avx512,matmul a=f32:8x8 b=f32:8x8,auto,up=0,12us"
[[nodiscard]] std::string trace_line(const TraceEvent& event);
/// Chrome trace format (also read by Perfetto), whole ring.
[[nodiscard]] std::string trace_chrome_json();
/// Called with each event on the thread that made it; empty removes it. LC_TRACE=PATH installs
/// one that appends trace_line() to a file.
void set_trace_sink(std::function<void(const TraceEvent&)> sink);
[[nodiscard]] uint64_t monotonic_ns() noexcept;

struct TimelineOptions {
  std::string event_sort_by = "timestamp_ns";
  bool event_descending = false;
  std::string group_by = "type";
  std::string group_sort_by = "total_delta_next_ns";
  bool group_descending = true;
  size_t hotspot_top_k = 8;
};

struct TimelineRow {
  TraceEvent event;
  size_t index = 0;
  uint64_t offset_ns = 0;
  uint64_t delta_prev_ns = 0;
  uint64_t delta_next_ns = 0;
};

struct TimelineGroup {
  std::string key;
  size_t count = 0;
  uint64_t total_delta_next_ns = 0;
  double avg_delta_next_ns = 0;
  uint64_t max_delta_next_ns = 0;
  uint64_t total_size_bytes = 0;
  uint64_t first_timestamp_ns = 0;
  uint64_t last_timestamp_ns = 0;
  double window_share_pct = 0;
  uint64_t total_duration_ns = 0;  ///< ours: time inside the calls, not until the next one
};

struct Timeline {
  std::vector<TimelineRow> events;
  std::vector<TimelineGroup> groups;
  std::vector<TimelineRow> hotspots;
  uint64_t window_ns = 0;
  std::string notes;
};

/// API_REFERENCE's timeline: rows, groups and hotspots of the ring. Throws kInvalidValue for an
/// unknown sort or group word.
[[nodiscard]] Timeline trace_timeline(const TimelineOptions& options = {});
/// Of given events; the pure function behind trace_timeline().
[[nodiscard]] Timeline timeline_of(const std::vector<TraceEvent>& events,
                                   const TimelineOptions& options);

}  // namespace lc
