// Devices, capabilities, trace and timeline as Python sees them.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "bindings.hpp"
#include "lightning_core/peak.hpp"
#include "lightning_core/trace.hpp"
#include "runtime/capabilities.hpp"
#include "runtime/trace_names.hpp"

namespace nb = nanobind;

namespace lc::python {
namespace {

nb::dict capabilities(const BackendCapabilities& c) {
  nb::dict d;
  d["device"] = device_name(c.device);
  d["built"] = c.built;
  d["available"] = c.available;
  d["compute_surface"] = c.compute_surface;
  d["memory_surface"] = c.memory_surface;
  d["sync_surface"] = c.sync_surface;
  d["profiling_surface"] = c.profiling_surface;
  d["runtime_trace_surface"] = c.runtime_trace_surface;
  d["sync_policy_surface"] = c.sync_policy_surface;
  d["memory_model"] = memory_model_name(c.memory_model);
  return d;
}

nb::dict interfaces(const BackendInterfaces& i) {
  nb::dict compute, memory, sync, profiler, d;
  compute["available"] = i.compute.available;
  compute["op_dispatch_trace_surface"] = i.compute.op_dispatch_trace_surface;
  compute["driver_tag"] = i.compute.driver_tag;
  memory["available"] = i.memory.available;
  memory["allocator_surface"] = i.memory.allocator_surface;
  memory["memcpy_surface"] = i.memory.memcpy_surface;
  memory["memory_model"] = memory_model_name(i.memory.memory_model);
  memory["driver_tag"] = i.memory.driver_tag;
  sync["available"] = i.sync.available;
  sync["sync_policy_surface"] = i.sync.sync_policy_surface;
  sync["trace_sync_boundary_surface"] = i.sync.trace_sync_boundary_surface;
  sync["driver_tag"] = i.sync.driver_tag;
  profiler["available"] = i.profiler.available;
  profiler["runtime_trace_surface"] = i.profiler.runtime_trace_surface;
  profiler["op_dispatch_trace_surface"] = i.profiler.op_dispatch_trace_surface;
  profiler["trace_capacity"] = i.profiler.trace_capacity;
  profiler["driver_tag"] = i.profiler.driver_tag;
  d["device"] = device_name(i.device);
  d["capabilities"] = capabilities(i.capabilities);
  d["compute"] = compute;
  d["memory"] = memory;
  d["sync"] = sync;
  d["profiler"] = profiler;
  return d;
}

nb::dict event_dict(const TraceEvent& e) {
  const bool op = e.type == TraceType::kOpDispatch;
  nb::dict d;
  d["type"] = trace_type_name(e.type);
  d["status"] = error_code_name(e.status);
  d["timestamp_ns"] = e.timestamp_ns;
  d["size_bytes"] = e.size_bytes;
  d["detail0"] = e.detail0;
  d["detail1"] = e.detail1;
  d["op"] = op ? e.op : "";
  d["requested_device"] = op ? device_name(e.requested) : "";
  d["selected_device"] = op ? device_name(e.selected) : "";
  d["fallback"] = op && e.fallback;
  d["duration_ns"] = e.duration_ns;
  d["bytes_copied"] = e.bytes_copied;
  d["thread"] = e.thread;
  std::string kernel;
  std::string call;
  plan_text(e.plan_id, &kernel, &call);
  d["kernel"] = kernel;
  d["call"] = call;
  return d;
}

nb::dict row_dict(const TimelineRow& row) {
  nb::dict d = event_dict(row.event);
  d["index"] = row.index;
  d["offset_ns"] = row.offset_ns;
  d["delta_prev_ns"] = row.delta_prev_ns;
  d["delta_next_ns"] = row.delta_next_ns;
  return d;
}

nb::dict timeline(const std::string& event_sort_by, bool event_descending,
                  const std::string& group_by, const std::string& group_sort_by,
                  bool group_descending, size_t hotspot_top_k) {
  const Timeline t = trace_timeline(
      {event_sort_by, event_descending, group_by, group_sort_by, group_descending, hotspot_top_k});
  nb::list events, groups, hotspots;
  for (const TimelineRow& row : t.events) events.append(row_dict(row));
  for (const TimelineRow& row : t.hotspots) hotspots.append(row_dict(row));
  for (const TimelineGroup& g : t.groups) {
    nb::dict d;
    d["key"] = g.key;
    d["count"] = g.count;
    d["total_delta_next_ns"] = g.total_delta_next_ns;
    d["avg_delta_next_ns"] = g.avg_delta_next_ns;
    d["max_delta_next_ns"] = g.max_delta_next_ns;
    d["total_size_bytes"] = g.total_size_bytes;
    d["first_timestamp_ns"] = g.first_timestamp_ns;
    d["last_timestamp_ns"] = g.last_timestamp_ns;
    d["window_share_pct"] = g.window_share_pct;
    d["total_duration_ns"] = g.total_duration_ns;
    groups.append(d);
  }
  nb::dict d;
  d["event_count"] = t.events.size();
  d["event_sort_by"] = event_sort_by;
  d["event_descending"] = event_descending;
  d["group_by"] = group_by;
  d["group_sort_by"] = group_sort_by;
  d["group_descending"] = group_descending;
  d["hotspot_top_k"] = hotspot_top_k;
  d["notes"] = t.notes;
  d["window_ns"] = t.window_ns;
  d["events"] = events;
  d["groups"] = groups;
  d["hotspots"] = hotspots;
  return d;
}

}  // namespace

void bind_runtime(nb::module_& m) {
  m.def("backend_name", &backend_name, "'metal', 'cuda' or 'cpu': the best device that exists.");
  m.def("metal_available", &metal_available, "True where a Metal device answers.");
  m.def("cuda_available", &cuda_available, "True where a CUDA device answers.");
  m.def(
      "memory_model_name", [] { return memory_model_name(memory_model()); },
      "'host-managed-compat' or 'native-device'.");
  m.def(
      "runtime_sync_policy_set",
      [](const std::string& mode, bool trace) {
        set_default_sync_policy({parse_sync_mode(mode), trace});
      },
      nb::arg("mode") = "auto", nb::arg("trace_sync_boundary") = false,
      "Sets the process's sync policy. ValueError for a mode other than auto, always, never.");
  m.def(
      "runtime_sync_policy_get",
      [] {
        const SyncPolicy p = default_sync_policy();
        nb::dict d;
        d["mode"] = sync_mode_name(p.mode);
        d["trace_sync_boundary"] = p.trace_sync_boundary;
        return d;
      },
      "The process's sync policy: mode, trace_sync_boundary.");
  m.def(
      "runtime_sync_apply",
      [](const std::string& mode, bool trace) {
        apply_sync_policy({parse_sync_mode(mode), trace});
      },
      nb::arg("mode") = "auto", nb::arg("trace_sync_boundary") = false,
      "Applies a sync policy now.");
  m.def("runtime_sync_apply_default", &apply_default_sync_policy,
        "Applies the process's sync policy now.");
  m.def(
      "runtime_backend_capabilities",
      [](const std::string& device) {
        return capabilities(backend_capabilities(parse_device(device).kind));
      },
      nb::arg("device"), "What a device's backend offers, as a dict of flags.");
  m.def(
      "runtime_active_backend_capabilities",
      [] { return capabilities(active_backend_capabilities()); },
      "Capabilities of the preferred device.");
  m.def(
      "runtime_backend_interfaces",
      [](const std::string& device) {
        return interfaces(backend_interfaces(parse_device(device).kind));
      },
      nb::arg("device"), "Compute, memory, sync and profiler interfaces of a device's backend.");
  m.def(
      "runtime_active_backend_interfaces", [] { return interfaces(active_backend_interfaces()); },
      "Interfaces of the preferred device.");
  m.def("runtime_trace_enable", &set_trace_enabled, nb::arg("enabled"),
        "Turns the trace on or off.");
  m.def("runtime_trace_enabled", &trace_enabled, "True while the trace is on.");
  m.def("runtime_trace_clear", &clear_trace, "Empties the trace.");
  m.def("runtime_trace_capacity", [] { return kTraceCapacity; }, "Events the ring holds.");
  m.def(
      "runtime_trace_events",
      [] {
        nb::list events;
        for (const TraceEvent& e : trace_events()) events.append(event_dict(e));
        return events;
      },
      "Events, oldest first, as dicts.");
  m.def("runtime_trace_timeline", &timeline, nb::arg("event_sort_by") = "timestamp_ns",
        nb::arg("event_descending") = false, nb::arg("group_by") = "type",
        nb::arg("group_sort_by") = "total_delta_next_ns", nb::arg("group_descending") = true,
        nb::arg("hotspot_top_k") = 8,
        "Rows, groups and hotspots of the trace. ValueError for an unknown sort or group word.");
  m.def("trace_chrome_json", &trace_chrome_json,
        "The trace in Chrome's format, for chrome://tracing or Perfetto.");
  m.def(
      "trace_lines",
      [] {
        nb::list lines;
        for (const TraceEvent& e : trace_events()) lines.append(trace_line(e));
        return lines;
      },
      "The trace as text, a line an event.");
  m.def(
      "device_info",
      [](const std::string& device) {
        const DeviceInfo& i = device_info(parse_device(device));
        nb::dict d;
        d["name"] = i.name;
        d["isa"] = i.isa;
        d["threads"] = i.threads;
        d["l1_bytes"] = i.l1_bytes;
        d["l2_bytes"] = i.l2_bytes;
        d["l3_bytes"] = i.l3_bytes;
        d["memory_bytes"] = i.memory_bytes;
        d["unified_memory"] = i.unified_memory;
        return d;
      },
      nb::arg("device") = "cpu", "What a device is. RuntimeError where it is not available.");
  m.def(
      "measure_peak",
      [](double seconds) {
        nb::dict d;
        Peak p;
        {
          const nb::gil_scoped_release release;
          p = measure_peak(seconds);
        }
        d["flops"] = p.flops;
        d["bandwidth"] = p.bandwidth;
        return d;
      },
      nb::arg("seconds") = 0.2, "measure_flops() and measure_bandwidth(), about `seconds` each.");
  m.def(
      "measure_flops", [](double seconds) { return measure_flops(seconds); },
      nb::arg("seconds") = 0.1, nb::call_guard<nb::gil_scoped_release>(),
      "FLOP/s of float32 fused multiply-adds on registers, all threads: the median over about "
      "`seconds`.");
  m.def(
      "measure_bandwidth", [](double seconds) { return measure_bandwidth(seconds); },
      nb::arg("seconds") = 0.1, nb::call_guard<nb::gil_scoped_release>(),
      "Bytes/s of a copy past the caches, read plus written, all threads: the median over about "
      "`seconds`, at least one copy of 256 MiB.");
}

}  // namespace lc::python
