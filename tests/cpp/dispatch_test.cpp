#include "lightning_core/dispatch.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "lightning_core/trace.hpp"
#include "runtime/config.hpp"
#include "runtime/plan.hpp"

namespace lc {
namespace {

Tensor ramp(const Shape& shape, double scale = 1.0) {
  std::vector<float> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(static_cast<double>(i) * scale);
  return Tensor::from(std::span<const float>(values), shape);
}

OpCall binary(const char* op, const Tensor& a, const Tensor& b) {
  OpCall call(get_op(op));
  call.in[0] = a.view();
  call.in[1] = b.view();
  return call;
}

std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Dispatch, RunsAnOp) {
  const Tensor a = ramp({2, 3});
  OpCall call = binary("add", a, a);
  const Tensor sum = call_op1(call);
  for (int64_t i = 0; i < 6; ++i) EXPECT_EQ(sum.item(i), 2.0 * static_cast<double>(i));
}

TEST(Dispatch, FindsAWarmPlanAgain) {
  const Tensor a = ramp({4, 5});
  OpCall first = binary("add", a, a);
  const Plan* p = &plan(first);
  const uint64_t hits = plan_cache_stats().hits;
  OpCall second = binary("add", a, a);
  EXPECT_EQ(&plan(second), p);
  EXPECT_EQ(plan_cache_stats().hits, hits + 1);
  OpCall transposed = binary("add", a.transpose(0, 1), a.transpose(0, 1));
  EXPECT_NE(&plan(transposed), p);
}

TEST(Dispatch, PolicyIsPartOfTheKey) {
  const Tensor a = ramp({4, 5});
  OpCall first = binary("add", a, a);
  const uint64_t id = plan(first).id;
  OpCall second = binary("add", a, a);
  second.policy.strict = true;
  EXPECT_NE(plan(second).id, id);
}

TEST(Dispatch, FallsBackAndSaysSo) {
  const Tensor a = ramp({4});
  OpCall call = binary("add", a, a);
  call.device = Device{DeviceKind::kMetal, 0};
  const Plan& p = plan(call);
  EXPECT_TRUE(p.fallback);
  EXPECT_EQ(p.selected.kind, DeviceKind::kCpu);
  EXPECT_NE(p.fallback_reason.find("metal"), std::string::npos);
  OpCall strict = binary("add", a, a);
  strict.device = Device{DeviceKind::kMetal, 0};
  strict.policy.strict = true;
  EXPECT_NE(error_of([&] { plan(strict); }).find("[add] device"), std::string::npos);
}

TEST(Dispatch, PinsTheReferenceAndComposedForms) {
  const Tensor a = ramp({3, 4}, 0.1);
  OpCall fast(get_op("softmax"));
  fast.in[0] = a.view();
  const Tensor want = call_op1(fast);
  for (const char* pin : {"reference", "softmax:composed"}) {
    OpCall call(get_op("softmax"));
    call.in[0] = a.view();
    call.policy.kernel = intern_kernel(pin);
    EXPECT_NE(plan(call).kernel_name.find(std::string(pin).substr(std::string(pin).find(':') + 1)),
              std::string::npos);
    const Tensor got = call_op1(call);
    for (int64_t i = 0; i < 12; ++i) EXPECT_NEAR(got.item(i), want.item(i), 1e-6) << pin;
  }
  OpCall unknown = binary("add", a, a);
  unknown.policy.kernel = intern_kernel("no_such_kernel");
  const std::string message = error_of([&] { plan(unknown); });
  EXPECT_NE(message.find("no_such_kernel"), std::string::npos);
  EXPECT_NE(message.find("cpu/add:"), std::string::npos);
  OpCall other = binary("add", a, a);
  other.policy.kernel = intern_kernel("matmul:no_such_kernel");  // speaks of another op
  EXPECT_NO_THROW(plan(other));
}

TEST(Dispatch, RefusesOverlapBeforeWriting) {
  const Tensor a = ramp({8});
  OpCall call = binary("add", a.slice(0, 0, 4), a.slice(0, 4, 8));
  call.out[0] = a.slice(0, 2, 6).view();
  EXPECT_NE(error_of([&] { call_op(call); }).find("overlap"), std::string::npos);
  for (int64_t i = 0; i < 8; ++i) EXPECT_EQ(a.item(i), static_cast<double>(i));
  OpCall in_place = binary("add", a, a);
  in_place.out[0] = a.view();
  EXPECT_NO_THROW(call_op(in_place));
  EXPECT_EQ(a.item(7), 14.0);
  const Tensor m = ramp({3, 3});
  OpCall product = binary("matmul", m, m);
  product.out[0] = m.view();
  EXPECT_NE(error_of([&] { call_op(product); }).find("overlap"), std::string::npos);
}

TEST(Dispatch, RefusesBadOutputs) {
  const Tensor a = ramp({4});
  const auto refuse = [&](const Tensor& out, const char* part) {
    OpCall call = binary("add", a, a);
    call.out[0] = out.view();
    EXPECT_NE(error_of([&] { call_op(call); }).find(part), std::string::npos) << part;
  };
  refuse(Tensor::empty({5}), "shape (4,)");
  refuse(Tensor::empty({4}, DType::kFloat64), "float32");
  const Tensor one = ramp({1});
  OpCall call = binary("add", a, a);
  call.out[0] = one.view().broadcast_to({4});
  EXPECT_NE(error_of([&] { call_op(call); }).find("more than once"), std::string::npos);
}

TEST(Dispatch, PromotesAndForcesDtypes) {
  const Tensor a = ramp({4});
  const Tensor b = a.to(DType::kFloat64);
  OpCall call = binary("add", a, b);
  const Tensor sum = call_op1(call);
  EXPECT_EQ(sum.dtype(), DType::kFloat64);
  EXPECT_EQ(sum.item(3), 6.0);
  OpCall forced = binary("add", b, b);
  forced.compute_dtype = DType::kFloat32;
  EXPECT_EQ(call_op1(forced).dtype(), DType::kFloat32);
  OpCall strict = binary("add", a, b);
  strict.policy.strict = true;
  EXPECT_NE(error_of([&] { plan(strict); }).find("implicit copy"), std::string::npos);
  OpCall integers = binary("add", a, a.to(DType::kInt64));
  EXPECT_NE(error_of([&] { plan(integers); }).find("int64"), std::string::npos);
}

TEST(Dispatch, NoDownloadLeavesTheCallersArrayAlone) {
  const Tensor a = ramp({4});
  const Tensor out = Tensor::full({4}, -1.0);
  OpCall call = binary("add", a, a);
  call.out[0] = out.view();
  call.policy.download = 0;
  call_op(call);
  for (int64_t i = 0; i < 4; ++i) EXPECT_EQ(out.item(i), -1.0);
}

TEST(Dispatch, MissingResidentOperandIsNamed) {
  const Tensor a = ramp({4});
  OpCall call = binary("add", a, a);
  call.in[1].data = nullptr;
  call.policy.upload = 1;
  const std::string message = error_of([&] { call_op(call); });
  EXPECT_NE(message.find("[add] b"), std::string::npos);
  EXPECT_NE(message.find("resident"), std::string::npos);
}

TEST(Dispatch, ViewsNeedNoWork) {
  const Tensor a = ramp({2, 3});
  OpCall call(get_op("transpose"));
  call.in[0] = a.view();
  const Tensor t = call_op1(call, &a.storage());
  EXPECT_EQ(t.data<float>(), a.data<float>());
  EXPECT_EQ(t.shape(), Shape({3, 2}));
  OpCall copying(get_op("transpose"));
  copying.in[0] = a.view();
  const Tensor c = call_op1(copying);
  EXPECT_NE(c.data<float>(), a.data<float>());
  EXPECT_EQ(c.item(1), 3.0);
}

TEST(Dispatch, TracesOneEventACall) {
  clear_trace();
  set_trace_enabled(true);
  const Tensor a = ramp({2, 3});
  OpCall call = binary("add", a, a);
  call.trace_as = "vector_add";
  call_op(call);
  set_trace_enabled(false);
  const std::vector<TraceEvent> events = trace_events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_STREQ(events[0].op, "vector_add");
  EXPECT_EQ(events[0].size_bytes, 6u);
  EXPECT_EQ(events[0].detail0, 2);
  EXPECT_NE(trace_line(events[0]).find("cpu/add:"), std::string::npos);
  clear_trace();
}

TEST(Dispatch, ExplainsEveryCandidate) {
  const Tensor a = ramp({8, 8});
  OpCall call = binary("matmul", a, a.transpose(0, 1));
  const std::string text = explain(call);
  EXPECT_NE(text.find("candidate cpu/matmul:"), std::string::npos) << text;
  EXPECT_NE(text.find("chosen"), std::string::npos) << text;
  EXPECT_EQ(explain_json(call).front(), '{');
}

TEST(Dispatch, NullDevicePlansWithoutComputing) {
  const Tensor a = ramp({8, 8});
  OpCall call = binary("matmul", a, a);
  call.device = Device{DeviceKind::kNull, 0};
  const Plan& p = plan(call);
  EXPECT_FALSE(p.fallback);
  EXPECT_EQ(p.selected.kind, DeviceKind::kNull);
  EXPECT_EQ(call.out[0].shape, Shape({8, 8}));
}

TEST(Dispatch, AllocationFailureWritesNothing) {
  const Tensor a = ramp({64, 64});
  const Tensor out = Tensor::full({64, 64}, -1.0);
  set_config("LC_TEST_FAIL_ALLOC_ABOVE", "1024");
  std::string message;
  try {
    OpCall mixed = binary("add", a, a);
    mixed.out[0] = out.view();
    mixed.policy.download = 0;  // needs a temporary
    call_op(mixed);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kOutOfMemory);
    message = e.what();
  }
  set_config("LC_TEST_FAIL_ALLOC_ABOVE", "0");
  EXPECT_FALSE(message.empty());
  for (int64_t i = 0; i < out.numel(); ++i) ASSERT_EQ(out.item(i), -1.0);
}

TEST(Dispatch, ThreadsShareThePlansSafely) {
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&wrong, t] {
      for (int64_t n = 1; n < 200; ++n) {
        const Tensor a = ramp({n});
        OpCall call = binary(t % 2 == 0 ? "add" : "mul", a, a);
        const Tensor r = call_op1(call);
        const auto x = static_cast<double>(n - 1);
        if (r.item(n - 1) != (t % 2 == 0 ? 2 * x : x * x)) ++wrong;
        if (n % 50 == 0) clear_plan_cache();
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Policy, ScopesNest) {
  Policy strict;
  strict.strict = true;
  EXPECT_FALSE(current_policy().strict);
  {
    const PolicyScope outer(strict);
    EXPECT_TRUE(current_policy().strict);
    {
      const PolicyScope inner{Policy{}};
      EXPECT_FALSE(current_policy().strict);
    }
    EXPECT_TRUE(current_policy().strict);
  }
  EXPECT_FALSE(current_policy().strict);
  EXPECT_NE(strict.hash(), Policy{}.hash());
  EXPECT_EQ(strict.str(), "strict");
}

TEST(Registry, NamesNearOpsInItsError) {
  EXPECT_NE(error_of([] { (void)get_op("matmull"); }).find("matmul"), std::string::npos);
  EXPECT_EQ(find_op("no_such_op"), nullptr);
}

}  // namespace
}  // namespace lc
