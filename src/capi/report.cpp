// lcReport(): the runtime's reports as text for C programs and tools.
#include <algorithm>
#include <charconv>
#include <cstring>

#include "capi/last_call.hpp"
#include "lightning_core/lightning_core.h"
#include "lightning_core/memory.hpp"
#include "lightning_core/trace.hpp"
#include "runtime/capabilities.hpp"
#include "runtime/config.hpp"
#include "runtime/explain.hpp"
#include "runtime/json.hpp"
#include "runtime/last_error.hpp"

namespace lc::capi {
namespace {

void event_fields(Json& json, const TraceEvent& e) {
  const bool op = e.type == TraceType::kOpDispatch;
  json.key("type").string(trace_type_name(e.type));
  json.key("status").string(error_code_name(e.status));
  json.key("timestamp_ns").number(e.timestamp_ns);
  json.key("size_bytes").number(e.size_bytes);
  json.key("detail0").number(e.detail0);
  json.key("detail1").number(e.detail1);
  json.key("op").string(op ? e.op : "");
  json.key("requested_device").string(op ? device_name(e.requested) : "");
  json.key("selected_device").string(op ? device_name(e.selected) : "");
  json.key("fallback").boolean(op && e.fallback);
  json.key("duration_ns").number(e.duration_ns);
  json.key("bytes_copied").number(e.bytes_copied);
  json.key("plan_id").number(e.plan_id);
  json.key("thread").number(uint64_t{e.thread});
}

std::string trace_json() {
  Json json;
  json.array();
  for (const TraceEvent& e : trace_events()) {
    json.object();
    event_fields(json, e);
    json.end();
  }
  return json.end().str();
}

std::string trace_text() {
  std::string text;
  for (const TraceEvent& e : trace_events()) text += trace_line(e) + "\n";
  return text;
}

void write_rows(Json& json, const char* name, const std::vector<TimelineRow>& rows) {
  json.key(name).array();
  for (const TimelineRow& row : rows) {
    json.object();
    json.key("index").number(static_cast<uint64_t>(row.index));
    event_fields(json, row.event);
    json.key("offset_ns").number(row.offset_ns);
    json.key("delta_prev_ns").number(row.delta_prev_ns);
    json.key("delta_next_ns").number(row.delta_next_ns);
    json.end();
  }
  json.end();
}

constexpr const char* kTimelineOptions =
    "group_by, group_sort_by, group_descending, event_sort_by, event_descending or hotspot_top_k";

void set_timeline_option(TimelineOptions& options, std::string_view name, std::string_view value) {
  const auto number = [&](uint64_t most) {
    uint64_t n = 0;
    const auto [stop, error] = std::from_chars(value.data(), value.data() + value.size(), n);
    if (error != std::errc() || stop != value.data() + value.size() || n > most)
      throw_arg("lcReport", name, most == 1 ? "0 or 1" : "a whole number", cat("'", value, "'"));
    return n;
  };
  if (name == "group_by")
    options.group_by = value;
  else if (name == "group_sort_by")
    options.group_sort_by = value;
  else if (name == "group_descending")
    options.group_descending = number(1) != 0;
  else if (name == "event_sort_by")
    options.event_sort_by = value;
  else if (name == "event_descending")
    options.event_descending = number(1) != 0;
  else if (name == "hotspot_top_k")
    options.hotspot_top_k = number(SIZE_MAX);
  else
    throw_arg("lcReport", "timeline", cat("NAME=VALUE with a NAME of ", kTimelineOptions),
              cat("'", name, "'"));
}

/// "op_path", or "group_by=op_path,hotspot_top_k=3": what follows "timeline:".
TimelineOptions timeline_options(std::string_view text) {
  TimelineOptions options;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::string_view word = text.substr(0, comma);
    const size_t equals = word.find('=');
    if (equals == std::string_view::npos)
      set_timeline_option(options, "group_by", word);
    else
      set_timeline_option(options, word.substr(0, equals), word.substr(equals + 1));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return options;
}

std::string timeline_json(const TimelineOptions& options) {
  const Timeline t = trace_timeline(options);
  Json json;
  json.object();
  json.key("event_count").number(static_cast<uint64_t>(t.events.size()));
  json.key("event_sort_by").string(options.event_sort_by);
  json.key("event_descending").boolean(options.event_descending);
  json.key("group_by").string(options.group_by);
  json.key("group_sort_by").string(options.group_sort_by);
  json.key("group_descending").boolean(options.group_descending);
  json.key("hotspot_top_k").number(static_cast<uint64_t>(options.hotspot_top_k));
  json.key("notes").string(t.notes);
  json.key("window_ns").number(t.window_ns);
  write_rows(json, "events", t.events);
  json.key("groups").array();
  for (const TimelineGroup& g : t.groups) {
    json.object();
    json.key("key").string(g.key);
    json.key("count").number(static_cast<uint64_t>(g.count));
    json.key("total_delta_next_ns").number(g.total_delta_next_ns);
    json.key("avg_delta_next_ns").number(g.avg_delta_next_ns);
    json.key("max_delta_next_ns").number(g.max_delta_next_ns);
    json.key("total_size_bytes").number(g.total_size_bytes);
    json.key("first_timestamp_ns").number(g.first_timestamp_ns);
    json.key("last_timestamp_ns").number(g.last_timestamp_ns);
    json.key("window_share_pct").number(g.window_share_pct);
    json.key("total_duration_ns").number(g.total_duration_ns);
    json.end();
  }
  json.end();
  write_rows(json, "hotspots", t.hotspots);
  return json.end().str();
}

void write_default(Json& json, const AttrSpec& spec) {
  const AttrValue& v = spec.default_value;
  switch (spec.kind) {
    case AttrKind::kBool:
      json.boolean(v.flag());
      return;
    case AttrKind::kInt:
      json.number(v.i[0]);
      return;
    case AttrKind::kFloat:
      json.number(v.f);
      return;
    case AttrKind::kEnum:
      json.string(spec.words[static_cast<size_t>(v.i[0])]);
      return;
    case AttrKind::kDType:
      json.string(dtype_name(static_cast<DType>(v.i[0])));
      return;
    case AttrKind::kInts:
      break;
  }
  if (!v.given()) {
    json.raw("null");
    return;
  }
  json.array();
  for (const int64_t i : v.ints()) json.number(i);
  json.end();
}

std::string ops_json() {
  static constexpr const char* kKinds[] = {"bool", "int", "float", "ints", "enum", "dtype"};
  Json json;
  json.array();
  for (const OpDef* op : all_ops()) {
    json.object();
    json.key("name").string(op->name);
    json.key("doc").string(op->doc);
    json.key("variadic").boolean(op->variadic);
    json.key("inplace").boolean(op->inplace);
    json.key("view").boolean(op->view != nullptr);
    json.key("inputs").array();
    for (const ArgSpec& in : op->inputs) {
      json.object();
      json.key("name").string(in.name);
      json.key("optional").boolean(in.optional);
      json.key("dtypes").array();
      for (int d = 1; d < kDTypes; ++d)
        if ((in.dtypes >> d & 1u) != 0) json.string(dtype_name(static_cast<DType>(d)));
      json.end();
      json.key("doc").string(in.doc);
      json.end();
    }
    json.end();
    json.key("outputs").array();
    for (const char* out : op->outputs) json.string(out);
    json.end();
    json.key("attrs").array();
    for (const AttrSpec& a : op->attrs) {
      json.object();
      json.key("name").string(a.name);
      json.key("kind").string(kKinds[static_cast<int>(a.kind)]);
      json.key("required").boolean(a.required);
      json.key("default");
      if (a.required)
        json.raw("null");
      else
        write_default(json, a);
      json.key("words").array();
      for (const char* word : a.words) json.string(word);
      json.end();
      json.key("doc").string(a.doc);
      json.end();
    }
    json.end();
    json.end();
  }
  return json.end().str();
}

std::string config_json() {
  static constexpr const char* kKinds[] = {"bool", "int", "float", "string", "words"};
  Json json;
  json.array();
  for (const ConfigVar& row : config_table()) {
    json.object();
    json.key("name").string(row.name);
    json.key("kind").string(kKinds[static_cast<int>(row.kind)]);
    json.key("default").string(row.fallback);
    json.key("doc").string(row.doc);
    json.key("value");
    try {
      switch (row.kind) {
        case ConfigKind::kBool:
          json.boolean(config_bool(row.name));
          break;
        case ConfigKind::kInt:
          json.number(config_int(row.name));
          break;
        case ConfigKind::kFloat:
          json.number(config_float(row.name));
          break;
        case ConfigKind::kString:
        case ConfigKind::kWords:
          json.string(config_string(row.name));
          break;
      }
    } catch (const Error& e) {  // a value in the environment that does not parse
      json.raw("null");
      json.key("error").string(e.what());
    }
    json.end();
  }
  return json.end().str();
}

std::string plan_cache_json() {
  const PlanCacheStats s = plan_cache_stats();
  Json json;
  json.object();
  json.key("hits").number(s.hits);
  json.key("shared_hits").number(s.shared_hits);
  json.key("misses").number(s.misses);
  json.key("entries").number(static_cast<uint64_t>(s.entries));
  return json.end().str();
}

std::string memory_json() {
  Json json;
  json.object();
  for (int kind = 0; kind < kDeviceKinds; ++kind) {
    const auto device = static_cast<DeviceKind>(kind);
    if (!device_available(device)) continue;
    const MemoryStats s = memory_stats(Device{device, 0});
    json.key(device_name(device)).object();
    json.key("in_use").number(s.in_use);
    json.key("cached").number(s.cached);
    json.key("peak").number(s.peak);
    json.key("allocs").number(s.allocs);
    json.key("hits").number(s.hits);
    json.end();
  }
  return json.end().str();
}

const Plan& explained() {
  const PlanPtr& plan = last_plan();
  if (plan == nullptr)
    throw_arg(ErrorCode::kNotInitialized, "lcReport", "explain", "an op call on this thread",
              "none", "call lcOpCall() or lcOpInfer() first");
  return *plan;
}

std::string make_report(std::string_view kind) {
  if (kind == "trace") return trace_json();
  if (kind == "trace_text") return trace_text();
  if (kind == "chrome") return trace_chrome_json();
  if (kind == "timeline") return timeline_json({});
  if (kind.substr(0, 9) == "timeline:") return timeline_json(timeline_options(kind.substr(9)));
  if (kind == "capabilities") return capabilities_json();
  if (kind == "interfaces") return interfaces_json();
  if (kind == "devices") return devices_json();
  if (kind == "explain") return explain_plan_json(explained());
  if (kind == "explain_text") return explain_plan(explained());
  if (kind == "ops") return ops_json();
  if (kind == "config") return config_json();
  if (kind == "plan_cache") return plan_cache_json();
  if (kind == "memory") return memory_json();
  throw_arg("lcReport", "kind",
            "trace, trace_text, chrome, timeline[:OPTIONS], capabilities, interfaces, devices, "
            "explain, explain_text, ops, config, plan_cache or memory",
            kind);
}

lcError_t report(const char* kind, char* buffer, size_t capacity, size_t* needed) {
  if (buffer != nullptr && capacity > 0) buffer[0] = '\0';
  return static_cast<lcError_t>(guarded([&] {
    if (kind == nullptr) throw_arg("lcReport", "kind", "a report's name", "a null pointer");
    const std::string text = make_report(kind);
    const size_t bytes = text.size() + 1;
    if (needed != nullptr) *needed = bytes;
    if (buffer == nullptr) {
      if (needed == nullptr || capacity > 0)
        throw_arg("lcReport", "buffer", "memory, or null with capacity 0 and a place for the size",
                  "a null pointer");
      return;
    }
    if (capacity < bytes) throw_arg("lcReport", "capacity", cat(bytes, " or more"), cat(capacity));
    std::memcpy(buffer, text.c_str(), bytes);
  }));
}

}  // namespace
}  // namespace lc::capi

extern "C" {

lcError_t lcReport(const char* kind, char* buffer, size_t capacity, size_t* needed) {
  return lc::capi::report(kind, buffer, capacity, needed);
}

lcError_t lcTraceEnable(int enabled) {
  return static_cast<lcError_t>(lc::guarded([&] { lc::set_trace_enabled(enabled != 0); }));
}

lcError_t lcTraceClear(void) {
  return static_cast<lcError_t>(lc::guarded([] { lc::clear_trace(); }));
}

}  // extern "C"
