// float16 and bfloat16: conversions over every value, plans that convert, promotion, the C API.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "lightning_core/dispatch.hpp"
#include "lightning_core/lightning_core.h"
#include "lightning_core/trace.hpp"
#include "runtime/case.hpp"
#include "runtime/plan.hpp"
#include "tensor/scalar.hpp"

namespace lc {
namespace {

constexpr DType kHalves[] = {DType::kFloat16, DType::kBFloat16};

Tensor cast(const Tensor& x, DType to) {
  OpCall call(get_op("cast"));
  call.in[0] = x.view();
  call.attr_ref("dtype") = AttrValue::integer(static_cast<int64_t>(to));
  return call_op1(call);
}

Tensor numbers(const Shape& shape, DType dtype) {
  std::vector<float> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 7) - 2.5f;
  return cast(Tensor::from(std::span<const float>(values), shape), dtype);
}

std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

double from_bits(uint16_t bits, DType dtype) {
  return static_cast<double>(dtype == DType::kFloat16 ? half_to_float(bits)
                                                      : bfloat_to_float(bits));
}

uint16_t to_bits(double x, DType dtype) {
  return dtype == DType::kFloat16 ? double_to_half(x) : double_to_bfloat(x);
}

bool is_nan(uint16_t bits, DType dtype) {
  const uint16_t infinity = dtype == DType::kFloat16 ? 0x7c00 : 0x7f80;
  return (bits & 0x7fff) > infinity;
}

TEST(HalfKernel, EveryHalfBecomesItsFloatAndComesBack) {
  for (const DType dtype : kHalves) {
    std::vector<uint16_t> all(65536);
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
    const Tensor half = Tensor::wrap(View(all.data(), dtype, Shape{65536}));
    const Tensor wide = cast(half, DType::kFloat32);
    const Tensor back = cast(wide, dtype);
    for (size_t i = 0; i < all.size(); ++i) {
      const auto want = static_cast<float>(from_bits(all[i], dtype));
      const float got = wide.data<float>()[i];
      if (is_nan(all[i], dtype)) {
        EXPECT_TRUE(std::isnan(got)) << dtype_name(dtype) << " " << i;
        EXPECT_TRUE(is_nan(back.data<uint16_t>()[i], dtype)) << dtype_name(dtype) << " " << i;
        continue;
      }
      ASSERT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(want)) << i;
      ASSERT_EQ(back.data<uint16_t>()[i], all[i]) << dtype_name(dtype);
    }
  }
}

/// Floats around every boundary of rounding: each half, the middle to the next one, and the floats
/// beside both; then floats of every exponent with random fractions.
std::vector<float> telling_floats(DType dtype) {
  std::vector<float> x;
  for (uint32_t i = 0; i < 65536; ++i) {
    const double a = from_bits(static_cast<uint16_t>(i), dtype);
    const double b = from_bits(static_cast<uint16_t>(i + 1), dtype);
    for (const double v : {a, (a + b) / 2}) {
      const auto f = static_cast<float>(v);
      x.push_back(f);
      x.push_back(std::nextafterf(f, INFINITY));
      x.push_back(std::nextafterf(f, -INFINITY));
    }
  }
  uint64_t state = 1;
  for (int i = 0; i < 500000; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    x.push_back(std::bit_cast<float>(static_cast<uint32_t>(state >> 32)));
  }
  for (const uint32_t bits : {0x7f800001u, 0xff800001u, 0x7fffffffu, 0x7fc00000u, 0x7f802000u})
    x.push_back(std::bit_cast<float>(bits));
  for (const float f : {65504.0f, 65519.99f, 65520.0f, 65536.0f, 3.3895314e38f, 3.4028235e38f})
    for (const float s : {f, -f}) x.push_back(s);
  return x;
}

TEST(HalfKernel, FloatsRoundToTheNearestHalfTiesToEven) {
  for (const DType dtype : kHalves) {
    const std::vector<float> x = telling_floats(dtype);
    const auto n = static_cast<int64_t>(x.size());
    const Tensor half = cast(Tensor::from(std::span<const float>(x), Shape{n}), dtype);
    for (size_t i = 0; i < x.size(); ++i) {
      const uint16_t got = half.data<uint16_t>()[i];
      if (std::isnan(x[i])) {
        ASSERT_TRUE(is_nan(got, dtype)) << std::bit_cast<uint32_t>(x[i]);
        ASSERT_TRUE((got & (dtype == DType::kFloat16 ? 0x200 : 0x40)) != 0) << "not quiet";
        continue;
      }
      ASSERT_EQ(got, to_bits(static_cast<double>(x[i]), dtype))
          << dtype_name(dtype) << " of " << x[i];
    }
  }
}

TEST(HalfKernel, ConversionsOfEveryLengthStayInside) {
  for (const DType dtype : kHalves)
    for (int64_t n = 1; n < 70; ++n) {
      std::vector<uint16_t> to(static_cast<size_t>(n) + 2, 0xabcd);
      const Tensor x = numbers({n}, DType::kFloat32);
      OpCall call(get_op("cast"));
      call.in[0] = x.view();
      call.attr_ref("dtype") = AttrValue::integer(static_cast<int64_t>(dtype));
      call.out[0] = View(to.data() + 1, dtype, Shape{n});
      run(plan(call), call);
      EXPECT_EQ(to.front(), 0xabcd);
      EXPECT_EQ(to.back(), 0xabcd);
      for (int64_t i = 0; i < n; ++i)
        ASSERT_EQ(from_bits(to[static_cast<size_t>(i) + 1], dtype), x.item(i));
    }
}

TEST(Half, PromotesAsNumPyDoes) {
  const Tensor f16 = numbers({6}, DType::kFloat16);
  const Tensor bf16 = numbers({6}, DType::kBFloat16);
  const Tensor f32 = numbers({6}, DType::kFloat32);
  const Tensor f64 = numbers({6}, DType::kFloat64);
  const auto sum = [](const Tensor& a, const Tensor& b) {
    OpCall call(get_op("add"));
    call.in[0] = a.view();
    call.in[1] = b.view();
    return call_op1(call);
  };
  EXPECT_EQ(sum(f16, f16).dtype(), DType::kFloat16);
  EXPECT_EQ(sum(bf16, bf16).dtype(), DType::kBFloat16);
  EXPECT_EQ(sum(f16, bf16).dtype(), DType::kFloat32);
  EXPECT_EQ(sum(f16, f32).dtype(), DType::kFloat32);
  EXPECT_EQ(sum(f64, bf16).dtype(), DType::kFloat64);
  EXPECT_EQ(sum(f16, bf16).item(3), 1.0);
}

TEST(Half, ConversionsAroundAFloat32KernelAreCountedAndRefusedWhenStrict) {
  const Tensor x = numbers({1, 2, 6, 6}, DType::kFloat16);
  const Tensor w = numbers({3, 2, 3, 3}, DType::kFloat16);
  OpCall call(get_op("conv2d"));
  call.in[0] = x.view();
  call.in[1] = w.view();
  OpCall strict = call;
  strict.policy.strict = true;
  const Plan& p = plan(call);
  ASSERT_EQ(p.kind, PlanKind::kKernel);
  ASSERT_EQ(p.converts.size(), 2u);
  ASSERT_EQ(p.out_temps.size(), 1u);
  // Each operand once as float16 and once as float32.
  EXPECT_EQ(p.convert_bytes, (2 + 4) * (x.numel() + w.numel() + 3 * 4 * 4));
  EXPECT_EQ(call_op1(call).dtype(), DType::kFloat16);
  const std::string message = error_of([&] { plan(strict); });
  EXPECT_NE(message.find("implicit copy"), std::string::npos) << message;
}

TEST(HalfKernel, TheseOpsTakeHalvesWithoutAConversionStep) {
  for (const char* line : {"add a=@:40x30 b=@:30",
                           "less a=@:40 b=@:40",
                           "gelu x=@:70",
                           "softmax x=@:5x70",
                           "softmax x=@:70x5 axis=0",
                           "log_softmax x=@:3x40000",
                           "layer_norm x=@:9x70 weight=@:70",
                           "rms_norm x=@:9x70",
                           "sum x=@:9x70 axes=1",
                           "mean x=@:70x9 axes=0",
                           "max x=@:70:s",
                           "argmin x=@:9x70 axis=0",
                           "where condition=bool:9 a=@:9 b=@:9",
                           "copy x=@:9x70:t",
                           "concat xs0=@:9 xs1=@:9",
                           "embedding indices=i64:4 weight=@:9x3",
                           "attention q=@:2x1x24 k=@:2x50x24 v=@:2x50x24 mask=@:50",
                           "attention q=@:2x9x24 k=@:2x50x24 v=@:2x50x24 mask=@:9x50",
                           "attention q=@:3x70x7 k=@:3x300x7 v=@:3x300x17 causal=1",
                           "matmul a=@:1x30 b=@:30x70",
                           "matmul a=@:9x30:t b=@:30x7 bias=@:7",
                           "matmul a=@:3x40x33 b=@:3x33x40:t",
                           "linear x=@:2x5x40 weight=@:9x40 bias=@:9:s",
                           "linear x=@:40x90 weight=@:50x90"})
    for (const DType dtype : kHalves) {
      std::string text = line;
      for (size_t at = 0; (at = text.find('@')) != std::string::npos;)
        text.replace(at, 1, dtype_short_name(dtype));
      std::vector<Tensor> storage;
      OpCall call = make_call(parse_case(text), storage);
      call.policy.strict = true;
      const Plan& p = plan(call);
      EXPECT_EQ(p.convert_bytes, 0) << text;
      EXPECT_TRUE(p.kind == PlanKind::kKernel || p.kind == PlanKind::kView) << text;
      const Comparison result = run_case(parse_case(text), {.policy = call.policy, .seed = 5});
      EXPECT_TRUE(result.ok) << result.text;
    }
}

TEST(Half, NoOpRoundsMoreThanOnce) {
  // 1 + 2^-11 + 2^-11 is 1 + 2^-10 in float16 only if the sum is not rounded in between.
  std::vector<uint16_t> x = {0x3c00, 0x1000, 0x1000};
  OpCall call(get_op("sum"));
  call.in[0] = View(x.data(), DType::kFloat16, Shape{3});
  EXPECT_EQ(call_op1(call).item(0), 1 + 0x1p-10);
  Policy composed;
  composed.kernel = intern_kernel("composed");
  std::vector<uint16_t> row = {0x3c00, 0x3c01, 0x3c02, 0x0000};
  double values[3];
  for (const char* pin : {"", "composed", "reference"}) {
    OpCall softmax(get_op("softmax"));
    softmax.in[0] = View(row.data(), DType::kFloat16, Shape{4});
    if (*pin != '\0') softmax.policy.kernel = intern_kernel(pin);
    values[*pin == '\0' ? 0 : *pin == 'c' ? 1 : 2] = call_op1(softmax).item(1);
  }
  EXPECT_EQ(values[0], values[1]);
  EXPECT_EQ(values[0], values[2]);
}

TEST(Half, InPlaceAndThroughTheCApi) {
  for (const DType dtype : kHalves) {
    const Tensor x = numbers({3000}, dtype);
    const Tensor want = x.copy();
    const int64_t n = x.numel();
    const lcArray a = lcArrayOf(x.view().data, static_cast<lcDType>(dtype), 1, &n);
    lcArray out = a;
    const lcArray in[] = {a, a};
    ASSERT_EQ(lcOpCall("add", in, 2, nullptr, 0, &out, 1, nullptr), LC_SUCCESS)
        << lcLastErrorMessage();
    for (int64_t i = 0; i < n; ++i) ASSERT_EQ(x.item(i), 2 * want.item(i));
  }
}

}  // namespace
}  // namespace lc
