#include "lightning_core/trace.hpp"

#include <gtest/gtest.h>

#include <thread>

#include "runtime/memory.hpp"

namespace lc {
namespace {

class Trace : public testing::Test {
 protected:
  void SetUp() override {
    clear_trace();
    set_trace_enabled(true);
  }
  void TearDown() override {
    set_trace_sink({});
    set_trace_enabled(false);
    clear_trace();
  }
};

TraceEvent event(const char* op, uint64_t at, bool fallback = false) {
  TraceEvent e;
  e.op = op;
  e.timestamp_ns = at;
  e.fallback = fallback;
  e.size_bytes = at;
  return e;
}

TEST_F(Trace, RingKeepsTheNewest) {
  for (uint64_t i = 1; i <= kTraceCapacity + 10; ++i) trace(event("matmul", i));
  const auto events = trace_events();
  ASSERT_EQ(events.size(), kTraceCapacity);
  EXPECT_EQ(events.front().timestamp_ns, 11u);
  EXPECT_EQ(events.back().timestamp_ns, kTraceCapacity + 10);
}

TEST_F(Trace, OffMeansNothingIsKept) {
  set_trace_enabled(false);
  trace(event("matmul", 1));
  EXPECT_TRUE(trace_events().empty());
}

TEST_F(Trace, SinkSeesEveryEvent) {
  int seen = 0;
  set_trace_sink([&](const TraceEvent&) { ++seen; });
  trace(event("matmul", 1));
  trace(event("add", 2));
  EXPECT_EQ(seen, 2);
}

TEST_F(Trace, ThreadsMayTraceAtOnce) {
  std::thread threads[4];
  for (std::thread& t : threads)
    t = std::thread([] {
      for (int i = 0; i < 500; ++i) trace(event("add", 0));
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(trace_events().size(), 2000u);
}

TEST(Timeline, ComputesDeltasGroupsAndHotspots) {
  const std::vector<TraceEvent> events = {event("matmul", 100), event("add", 300, true),
                                          event("matmul", 350)};
  TimelineOptions options;
  options.group_by = "op_path";
  options.hotspot_top_k = 1;
  const Timeline t = timeline_of(events, options);
  EXPECT_EQ(t.window_ns, 250u);
  ASSERT_EQ(t.events.size(), 3u);
  EXPECT_EQ(t.events[1].offset_ns, 200u);
  EXPECT_EQ(t.events[1].delta_prev_ns, 200u);
  EXPECT_EQ(t.events[1].delta_next_ns, 50u);
  EXPECT_EQ(t.events[2].delta_next_ns, 0u);
  ASSERT_EQ(t.groups.size(), 2u);
  EXPECT_EQ(t.groups[0].key, "matmul|cpu|direct");
  EXPECT_EQ(t.groups[0].count, 2u);
  EXPECT_EQ(t.groups[0].total_delta_next_ns, 200u);
  EXPECT_DOUBLE_EQ(t.groups[0].window_share_pct, 80.0);
  EXPECT_EQ(t.groups[1].key, "add|cpu|fallback");
  ASSERT_EQ(t.hotspots.size(), 1u);
  EXPECT_EQ(t.hotspots[0].index, 0u);
}

TEST(Timeline, SortsByEveryWordAndRefusesOthers) {
  const std::vector<TraceEvent> events = {event("b", 10), event("a", 30), event("b", 70)};
  for (const char* word :
       {"index", "timestamp_ns", "offset_ns", "delta_prev_ns", "delta_next_ns", "size_bytes"}) {
    TimelineOptions options;
    options.event_sort_by = word;
    options.event_descending = true;
    EXPECT_EQ(timeline_of(events, options).events.size(), 3u) << word;
  }
  for (const char* word : {"key", "count", "total_delta_next_ns", "avg_delta_next_ns",
                           "max_delta_next_ns", "total_size_bytes"}) {
    TimelineOptions options;
    options.group_sort_by = word;
    options.group_by = "op";
    EXPECT_EQ(timeline_of(events, options).groups.size(), 2u) << word;
  }
  TimelineOptions bad;
  bad.group_by = "colour";
  EXPECT_THROW((void)timeline_of(events, bad), Error);
  EXPECT_NO_THROW((void)timeline_of({}, bad));  // nothing to group
  bad = {};
  bad.event_sort_by = "colour";
  EXPECT_THROW((void)timeline_of(events, bad), Error);
  bad = {};
  bad.group_sort_by = "colour";
  EXPECT_THROW((void)timeline_of(events, bad), Error);
}

TEST(Memory, BlocksAreAlignedAndReused) {
  for (const int64_t bytes : {1, 63, 64, 65, 1000, 65536, 70000, 5 << 20}) {
    void* p = pool_alloc(bytes, {});
    EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 64, 0u);
    pool_free(p, bytes, {});
    void* q = pool_alloc(bytes, {});
    EXPECT_EQ(p, q) << bytes;
    pool_free(q, bytes, {});
  }
  EXPECT_THROW((void)pool_alloc(int64_t{1} << 61, {}), Error);
}

TEST(Memory, ThreadsPassBlocksToEachOther) {
  std::vector<void*> blocks(64);
  std::thread maker([&] {
    for (void*& b : blocks) b = pool_alloc(4096, {});
  });
  maker.join();
  for (void* b : blocks) pool_free(b, 4096, {});
  EXPECT_GE(memory_stats({}).peak, memory_stats({}).in_use);
}

}  // namespace
}  // namespace lc
