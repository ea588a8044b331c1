// Results written past the caches: every element, and no other, at any alignment.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "backends/cpu/convert.hpp"
#include "lightning_core/dispatch.hpp"
#include "runtime/plan.hpp"

namespace lc {
namespace {

constexpr int64_t kPad = 70;  // elements around each array
constexpr float kUntouched = -77;
const int64_t kCount = cpu::kMaxL3Share / 6 + 12345;  // any pass over it is streamed

float value(int64_t i, int which) {
  return static_cast<float>((i * (which + 3)) % 1009) * 0.25f + 0.5f;
}

/// An array with room around it, its first element `offset` elements off a line of cache.
struct Padded {
  std::vector<float> memory;
  float* data;
  Padded(int64_t offset, int which) : memory(static_cast<size_t>(kCount + 2 * kPad), kUntouched) {
    data = memory.data();
    while (reinterpret_cast<uintptr_t>(data) % 64 != 0) ++data;
    data += offset + 16;
    for (int64_t i = 0; i < kCount; ++i) data[i] = which < 0 ? kUntouched : value(i, which);
  }
  [[nodiscard]] View view() { return View(data, DType::kFloat32, Shape{kCount}); }
  void expect_rest_untouched() const {
    for (const float* p = memory.data(); p < data; ++p) ASSERT_EQ(*p, kUntouched);
    for (const float* p = data + kCount; p < memory.data() + memory.size(); ++p)
      ASSERT_EQ(*p, kUntouched);
  }
};

void run_call(const char* op, const View& a, const View* b, const View& out) {
  OpCall call(get_op(op));
  call.in[0] = a;
  if (b != nullptr) call.in[1] = *b;
  call.out[0] = out;
  const Plan& p = plan(call);
  EXPECT_EQ(p.kind, PlanKind::kKernel);
  run(p, call);
}

TEST(StreamKernel, LargeResultsAtAnyAlignment) {
  for (const int64_t offset : {0, 1, 13}) {
    Padded a(3, 0);
    Padded b(offset, 1);
    Padded out(offset, -1);
    const View second = b.view();
    run_call("sub", a.view(), &second, out.view());
    for (int64_t i = 0; i < kCount; ++i)
      ASSERT_EQ(out.data[i], value(i, 0) - value(i, 1)) << i << " offset " << offset;
    out.expect_rest_untouched();
    run_call("neg", a.view(), nullptr, out.view());
    for (int64_t i = 0; i < kCount; ++i) ASSERT_EQ(out.data[i], -value(i, 0)) << i;
    out.expect_rest_untouched();
  }
}

TEST(StreamKernel, InPlace) {
  Padded a(5, 0);
  Padded b(2, 1);
  const View second = b.view();
  run_call("add", a.view(), &second, a.view());
  for (int64_t i = 0; i < kCount; ++i) ASSERT_EQ(a.data[i], value(i, 0) + value(i, 1)) << i;
  run_call("relu", b.view(), nullptr, b.view());
  for (int64_t i = 0; i < kCount; ++i) ASSERT_EQ(b.data[i], value(i, 1)) << i;
  a.expect_rest_untouched();
  b.expect_rest_untouched();
}

TEST(StreamKernel, OneValueForAll) {
  Padded a(1, 0);
  Padded out(7, -1);
  float two = 2;
  const View scalar(&two, DType::kFloat32, Shape{});
  run_call("mul", a.view(), &scalar, out.view());
  for (int64_t i = 0; i < kCount; ++i) ASSERT_EQ(out.data[i], value(i, 0) * 2) << i;
  const View dividends = a.view();
  run_call("div", scalar, &dividends, out.view());
  for (int64_t i = 0; i < kCount; ++i) ASSERT_EQ(out.data[i], 2 / value(i, 0)) << i;
  out.expect_rest_untouched();
}

TEST(StreamKernel, FunctionsTooDearToBeLimitedByMemory) {
  Padded a(1, 0);  // through a tile, from twice the size on
  Padded b(4, 1);
  Padded out(3, -1);
  const View second = b.view();
  run_call("pow", a.view(), &second, out.view());
  for (int64_t i = 0; i < kCount; i += 997) {
    const double want = std::pow(static_cast<double>(value(i, 0)), value(i, 1));
    if (want < 1e30) {
      ASSERT_NEAR(out.data[i] / want, 1, 1e-5) << i;
    }
  }
  out.expect_rest_untouched();
}

}  // namespace
}  // namespace lc
