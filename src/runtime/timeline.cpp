// Reports over trace events: rows with the time to their neighbours, groups, hotspots.
#include <algorithm>
#include <map>
#include <string_view>

#include "lightning_core/trace.hpp"

namespace lc {
namespace {

template <typename Row>
struct Column {
  const char* name;
  bool (*less)(const Row&, const Row&);
};

constexpr Column<TimelineRow> kEventColumns[] = {
    {"index", [](const TimelineRow& a, const TimelineRow& b) { return a.index < b.index; }},
    {"timestamp_ns",
     [](const TimelineRow& a, const TimelineRow& b) {
       return a.event.timestamp_ns < b.event.timestamp_ns;
     }},
    {"offset_ns",
     [](const TimelineRow& a, const TimelineRow& b) { return a.offset_ns < b.offset_ns; }},
    {"delta_prev_ns",
     [](const TimelineRow& a, const TimelineRow& b) { return a.delta_prev_ns < b.delta_prev_ns; }},
    {"delta_next_ns",
     [](const TimelineRow& a, const TimelineRow& b) { return a.delta_next_ns < b.delta_next_ns; }},
    {"size_bytes", [](const TimelineRow& a,
                      const TimelineRow& b) { return a.event.size_bytes < b.event.size_bytes; }},
};

constexpr Column<TimelineGroup> kGroupColumns[] = {
    {"key", [](const TimelineGroup& a, const TimelineGroup& b) { return a.key < b.key; }},
    {"count", [](const TimelineGroup& a, const TimelineGroup& b) { return a.count < b.count; }},
    {"total_delta_next_ns",
     [](const TimelineGroup& a, const TimelineGroup& b) {
       return a.total_delta_next_ns < b.total_delta_next_ns;
     }},
    {"avg_delta_next_ns",
     [](const TimelineGroup& a, const TimelineGroup& b) {
       return a.avg_delta_next_ns < b.avg_delta_next_ns;
     }},
    {"max_delta_next_ns",
     [](const TimelineGroup& a, const TimelineGroup& b) {
       return a.max_delta_next_ns < b.max_delta_next_ns;
     }},
    {"total_size_bytes",
     [](const TimelineGroup& a, const TimelineGroup& b) {
       return a.total_size_bytes < b.total_size_bytes;
     }},
};

std::string op_key(const TraceEvent& e, std::string (*key)(const TraceEvent&)) {
  return e.type == TraceType::kOpDispatch ? key(e) : "non_op";
}

struct Grouping {
  const char* name;
  std::string (*key)(const TraceEvent&);
};
constexpr Grouping kGroupings[] = {
    {"type", [](const TraceEvent& e) { return std::string(trace_type_name(e.type)); }},
    {"status", [](const TraceEvent& e) { return std::string(error_code_name(e.status)); }},
    {"type_status",
     [](const TraceEvent& e) {
       return std::string(trace_type_name(e.type)) + '|' + error_code_name(e.status);
     }},
    {"op",
     [](const TraceEvent& e) {
       return op_key(e, [](const TraceEvent& o) { return std::string(o.op); });
     }},
    {"op_selected_device",
     [](const TraceEvent& e) {
       return op_key(e, [](const TraceEvent& o) {
         return std::string(o.op) + '|' + device_name(o.selected);
       });
     }},
    {"op_path",
     [](const TraceEvent& e) {
       return op_key(e, [](const TraceEvent& o) {
         return std::string(o.op) + '|' + device_name(o.selected) +
                (o.fallback ? "|fallback" : "|direct");
       });
     }},
};

template <typename Table>
const auto& find_word(const Table& table, const char* argument, std::string_view word) {
  std::string words;
  for (const auto& entry : table) {
    if (word == entry.name) return entry;
    words += (words.empty() ? "" : ", ");
    words += entry.name;
  }
  throw_arg("trace_timeline", argument, "one of " + words, cat("'", word, "'"));
}

/// By `less`, ties by `tie`, both in the given direction.
template <typename Row>
void sort_rows(std::vector<Row>& rows, bool (*less)(const Row&, const Row&),
               bool (*tie)(const Row&, const Row&), bool descending) {
  std::sort(rows.begin(), rows.end(), [&](const Row& x, const Row& y) {
    const Row& a = descending ? y : x;
    const Row& b = descending ? x : y;
    if (less(a, b)) return true;
    if (less(b, a)) return false;
    return tie(a, b);
  });
}

/// Later minus earlier, 0 where the clock of another thread came first.
uint64_t since(uint64_t earlier, uint64_t later) { return later > earlier ? later - earlier : 0; }

}  // namespace

Timeline timeline_of(const std::vector<TraceEvent>& events, const TimelineOptions& options) {
  Timeline timeline;
  timeline.notes =
      "delta_next_ns is the time from an event's start to the next event's start, in capture "
      "order; "
      "the last event has 0. window_share_pct is a group's part of the whole window.";
  if (events.empty()) return timeline;
  const auto& event_order = find_word(kEventColumns, "event_sort_by", options.event_sort_by);
  const auto& grouping = find_word(kGroupings, "group_by", options.group_by);
  const auto& group_order = find_word(kGroupColumns, "group_sort_by", options.group_sort_by);

  const uint64_t first = events.front().timestamp_ns;
  timeline.window_ns = since(first, events.back().timestamp_ns);
  timeline.events.reserve(events.size());
  for (size_t i = 0; i < events.size(); ++i) {
    TimelineRow row;
    row.event = events[i];
    row.index = i;
    row.offset_ns = since(first, events[i].timestamp_ns);
    if (i > 0) row.delta_prev_ns = since(events[i - 1].timestamp_ns, events[i].timestamp_ns);
    if (i + 1 < events.size())
      row.delta_next_ns = since(events[i].timestamp_ns, events[i + 1].timestamp_ns);
    timeline.events.push_back(row);
  }

  std::map<std::string, TimelineGroup> groups;
  for (const TimelineRow& row : timeline.events) {
    std::string key = grouping.key(row.event);
    TimelineGroup& g = groups[key];
    if (g.count == 0) {
      g.key = std::move(key);
      g.first_timestamp_ns = g.last_timestamp_ns = row.event.timestamp_ns;
    }
    ++g.count;
    g.total_delta_next_ns += row.delta_next_ns;
    g.max_delta_next_ns = std::max(g.max_delta_next_ns, row.delta_next_ns);
    g.total_size_bytes += row.event.size_bytes;
    g.total_duration_ns += row.event.duration_ns;
    g.first_timestamp_ns = std::min(g.first_timestamp_ns, row.event.timestamp_ns);
    g.last_timestamp_ns = std::max(g.last_timestamp_ns, row.event.timestamp_ns);
  }
  for (auto& [key, g] : groups) {
    const auto total = static_cast<double>(g.total_delta_next_ns);
    g.avg_delta_next_ns = total / static_cast<double>(g.count);
    if (timeline.window_ns > 0)
      g.window_share_pct = 100.0 * total / static_cast<double>(timeline.window_ns);
    timeline.groups.push_back(std::move(g));
  }

  const auto by_index = kEventColumns[0].less;
  const auto by_key = kGroupColumns[0].less;
  timeline.hotspots = timeline.events;
  sort_rows(timeline.hotspots, find_word(kEventColumns, "", "delta_next_ns").less, by_index, true);
  if (options.hotspot_top_k > 0 && timeline.hotspots.size() > options.hotspot_top_k)
    timeline.hotspots.resize(options.hotspot_top_k);
  sort_rows(timeline.events, event_order.less, by_index, options.event_descending);
  sort_rows(timeline.groups, group_order.less, by_key, options.group_descending);
  return timeline;
}

Timeline trace_timeline(const TimelineOptions& options) {
  return timeline_of(trace_events(), options);
}

}  // namespace lc
