// A call must never get the plan of another: all levels of the plan cache, above all the recent
// plan of an op, which is compared with the next call of that op word by word.
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "lightning_core/dispatch.hpp"
#include "lightning_core/trace.hpp"
#include "runtime/config.hpp"
#include "runtime/plan.hpp"

namespace lc {
namespace {

const Tensor& f32() {
  static const Tensor t = Tensor::full({4, 4}, 0.5);
  return t;
}

OpCall call_of(const char* op, std::initializer_list<View> inputs) {
  OpCall call(get_op(op));
  int i = 0;
  for (const View& v : inputs) {
    if (call.op->variadic)
      call.push_input(v);
    else
      call.in[i++] = v;
  }
  return call;
}

struct Named {
  std::string name;
  OpCall call;
};

/// Every pair of calls one behind the other, both ways: each finds its own plan.
void expect_own_plans(std::vector<Named> calls) {
  std::vector<uint64_t> ids;
  for (const Named& c : calls) {
    OpCall call = c.call;
    ids.push_back(plan(call).id);
    for (size_t i = 0; i + 1 < ids.size(); ++i)
      EXPECT_NE(ids[i], ids.back()) << calls[i].name << " and " << c.name;
  }
  const uint64_t misses = plan_cache_stats().misses;
  for (size_t i = 0; i < calls.size(); ++i)
    for (size_t j = 0; j < calls.size(); ++j)
      for (const size_t k : {i, j, j}) {
        OpCall call = calls[k].call;
        EXPECT_EQ(plan(call).id, ids[k]) << calls[i].name << " then " << calls[j].name;
      }
  EXPECT_EQ(plan_cache_stats().misses, misses);
}

TEST(PlanCache, EveryPartOfACallCounts) {
  static const Tensor out = Tensor::empty({4, 4});
  static const Tensor wide = Tensor::full({4, 8}, 1);
  const View x = f32().view();
  const OpCall base = call_of("add", {x, x});
  std::vector<Named> calls = {{"base", base}};
  const auto add = [&](const char* name, auto change) {
    calls.push_back({name, base});
    change(calls.back().call);
  };
  add("shape", [&](OpCall& c) { c.in[0] = c.in[1] = f32().slice(0, 0, 2).view(); });
  add("broadcast", [&](OpCall& c) { c.in[1] = f32().slice(0, 0, 1).view(); });
  add("rank", [&](OpCall& c) { c.in[1] = f32().slice(0, 0, 1).reshape({4}).view(); });
  add("strides", [&](OpCall& c) { c.in[0] = f32().transpose(0, 1).view(); });
  add("strides of b", [&](OpCall& c) { c.in[1] = f32().transpose(0, 1).view(); });
  add("pitch", [&](OpCall& c) { c.in[0] = wide.slice(1, 0, 4).view(); });
  add("dtype", [&](OpCall& c) { c.in[0].dtype = c.in[1].dtype = DType::kFloat64; });
  add("out", [&](OpCall& c) { c.out[0] = out.view(); });
  add("strides of out", [&](OpCall& c) { c.out[0] = out.transpose(0, 1).view(); });
  add("device", [&](OpCall& c) { c.device = Device{DeviceKind::kNull, 0}; });
  add("absent device", [&](OpCall& c) { c.device = Device{DeviceKind::kMetal, 0}; });
  add("compute dtype", [&](OpCall& c) { c.compute_dtype = DType::kFloat32; });
  add("strict", [&](OpCall& c) { c.policy.strict = true; });
  add("upload", [&](OpCall& c) { c.policy.upload = 1; });
  add("download", [&](OpCall& c) { c.policy.download = 0; });
  add("sync", [&](OpCall& c) { c.policy.sync = SyncMode::kNever; });
  add("boundary", [&](OpCall& c) { c.policy.trace_sync_boundary = true; });
  add("precision", [&](OpCall& c) { c.policy.precision = Precision::kFast; });
  add("kernel", [&](OpCall& c) { c.policy.kernel = intern_kernel("reference"); });
  expect_own_plans(std::move(calls));
}

TEST(PlanCache, AttributesAndOptionalInputsCount) {
  static const Tensor bias = Tensor::full({4}, 1);
  const View x = f32().view();
  OpCall none = call_of("matmul", {x, x});
  OpCall with_bias = call_of("matmul", {x, x, bias.view()});
  OpCall scaled = none;
  scaled.attr_ref("alpha") = AttrValue::real(2);
  OpCall turned = none;
  turned.attr_ref("trans_b") = AttrValue::integer(1);
  OpCall relu = none;
  relu.attr_ref("activation") = AttrValue::integer(1);
  expect_own_plans({{"none", none},
                    {"bias", with_bias},
                    {"alpha", scaled},
                    {"trans_b", turned},
                    {"activation", relu}});
  std::vector<Named> sums;
  const std::vector<std::vector<int64_t>> lists = {{0}, {1}, {0, 1}, {}};
  for (const auto& axes : lists) {
    sums.push_back({"sum", call_of("sum", {x})});
    sums.back().call.attr_ref("axes") = AttrValue::list(axes);
  }
  sums.push_back({"sum of all", call_of("sum", {x})});
  expect_own_plans(std::move(sums));
  expect_own_plans({{"two", call_of("concat", {x, x})},
                    {"three", call_of("concat", {x, x, x})},
                    {"one", call_of("concat", {x})}});
}

TEST(PlanCache, ConfigurationAndClearingMakeNewPlans) {
  const auto id = [] {
    OpCall call = call_of("add", {f32().view(), f32().view()});
    return plan(call).id;
  };
  const uint64_t first = id();
  EXPECT_EQ(id(), first);
  set_config("LC_NUM_THREADS", "1");
  const uint64_t second = id();
  EXPECT_NE(second, first);
  EXPECT_EQ(id(), second);
  reload_config();
  const uint64_t third = id();
  EXPECT_NE(third, second);
  clear_plan_cache();
  const uint64_t fourth = id();
  EXPECT_NE(fourth, third);
  std::thread(clear_plan_cache).join();  // by another thread
  EXPECT_NE(id(), fourth);
}

TEST(PlanCache, AScopeOrADefaultPolicyTakesEffectAtOnce) {
  const auto name = [] {
    OpCall call = call_of("add", {f32().view(), f32().view()});
    return plan(call).kernel_name;
  };
  const std::string usual = name();
  Policy reference;
  reference.kernel = intern_kernel("reference");
  {
    const PolicyScope scope(reference);
    EXPECT_NE(name(), usual);
  }
  EXPECT_EQ(name(), usual);
  set_default_policy(reference);
  EXPECT_NE(name(), usual);
  set_default_policy(Policy{});
  EXPECT_EQ(name(), usual);
}

TEST(PlanCache, AWarmCallIsTracedOnceTracingIsOn) {
  const auto run_once = [] {
    OpCall call = call_of("add", {f32().view(), f32().view()});
    return call_op1(call);
  };
  (void)run_once();
  clear_trace();
  set_trace_enabled(true);
  (void)run_once();
  set_trace_enabled(false);
  (void)run_once();
  size_t dispatched = 0;
  for (const TraceEvent& event : trace_events()) dispatched += event.op == std::string("add");
  clear_trace();
  EXPECT_EQ(dispatched, 1u);
}

TEST(PlanCache, ThreadsThatEndMayStillCall) {
  struct CallsAtExit {
    bool* ran;
    ~CallsAtExit() {
      OpCall call = call_of("add", {f32().view(), f32().view()});
      *ran = call_op1(call).item(0) == 1.0;
    }
  };
  bool ran = false;
  std::thread([&] {
    thread_local CallsAtExit late{&ran};
    (void)late.ran;
    OpCall call = call_of("add", {f32().view(), f32().view()});
    (void)plan(call);
  }).join();
  EXPECT_TRUE(ran);
}

}  // namespace
}  // namespace lc
