// Accuracy of vector_math-inl.h on the instruction set in use (ctest runs it under each
// LC_MAX_ISA), in units in the last place against long double.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "lightning_core/device.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "vector_math_test.cpp"
#include "hwy/foreach_target.h"
#include "backends/cpu/vector_math-inl.h"
#include "hwy/highway.h"

// clang-format off
#define LC_TEST_UNARY(X)                                                                          \
  X(VExp)                                                                                         \
  X(VExpFast)                                                                                     \
  X(VExp2Fast)                                                                                    \
  X(VExpm1)                                                                                       \
  X(VLog) X(VLog1p) X(VSin) X(VCos) X(VTanh) X(VSigmoid) X(VErf) X(VGelu) X(VGeluTanh) X(VSilu)   \
      X(VSoftplus) X(VFloor) X(VCeil) X(VRound) X(VRsqrt) X(VSqrt) X(VReciprocal) X(VRelu)        \
          X(VSign) X(VAbs) X(VNeg) X(VSquare)
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#define LC_CASE(f) \
  if (index == k++) return hn::StoreU(f(d, hn::LoadU(d, x)), d, y);

template <typename T>
void UnaryVector(int index, const T* x, T* y) {
  const hn::ScalableTag<T> d;
  int k = 0;
  LC_TEST_UNARY(LC_CASE)
}

template <typename T>
void Unary(int index, const T* x, T* y, size_t n) {
  const size_t lanes = hn::Lanes(hn::ScalableTag<T>());
  for (size_t i = 0; i + lanes <= n; i += lanes) UnaryVector(index, x + i, y + i);
}

/// 0 pow, 1 maximum, 2 minimum, 3 + i: Activate(Activation(i)), 13 + i: ActivateT of the same.
template <typename T>
void Binary(int op, const T* a, const T* b, T* y) {
  const hn::ScalableTag<T> d;
  const auto x = hn::LoadU(d, a);
  const auto z = hn::LoadU(d, b);
  auto r = x;
  switch (op) {
    case 0:
      r = VPow(d, x, z);
      break;
    case 1:
      r = VMaximum(d, x, z);
      break;
    case 2:
      r = VMinimum(d, x, z);
      break;
    case 13:
      r = ActivateT<Activation::kNone>(d, x);
      break;
    case 14:
      r = ActivateT<Activation::kRelu>(d, x);
      break;
    case 15:
      r = ActivateT<Activation::kGelu>(d, x);
      break;
    case 16:
      r = ActivateT<Activation::kGeluTanh>(d, x);
      break;
    case 17:
      r = ActivateT<Activation::kSilu>(d, x);
      break;
    case 18:
      r = ActivateT<Activation::kSigmoid>(d, x);
      break;
    case 19:
      r = ActivateT<Activation::kTanh>(d, x);
      break;
    default:
      r = Activate(d, static_cast<Activation>(op - 3), x);
      break;
  }
  hn::StoreU(r, d, y);
}

template <typename T>
void Tails(const T* x, T* y, size_t count) {
  const hn::ScalableTag<T> d;
  StoreTail(LoadTail(d, x, count, T{7}), d, y, count);
}
size_t LanesF32() { return hn::Lanes(hn::ScalableTag<float>()); }
size_t LanesF64() { return hn::Lanes(hn::ScalableTag<double>()); }

void UnaryF32(int i, const float* x, float* y, size_t n) { Unary(i, x, y, n); }
void UnaryF64(int i, const double* x, double* y, size_t n) { Unary(i, x, y, n); }
void BinaryF32(int op, const float* a, const float* b, float* y) { Binary(op, a, b, y); }
void BinaryF64(int op, const double* a, const double* b, double* y) { Binary(op, a, b, y); }
void TailsF32(const float* x, float* y, size_t n) { Tails(x, y, n); }
void TailsF64(const double* x, double* y, size_t n) { Tails(x, y, n); }

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lc::cpu {

HWY_EXPORT(UnaryF32);
HWY_EXPORT(UnaryF64);
HWY_EXPORT(BinaryF32);
HWY_EXPORT(BinaryF64);
HWY_EXPORT(TailsF32);
HWY_EXPORT(TailsF64);
HWY_EXPORT(LanesF32);
HWY_EXPORT(LanesF64);

namespace {

using Wide = long double;

void unary(int i, const float* x, float* y, size_t n) {
  HWY_DYNAMIC_DISPATCH(UnaryF32)(i, x, y, n);
}
void unary(int i, const double* x, double* y, size_t n) {
  HWY_DYNAMIC_DISPATCH(UnaryF64)(i, x, y, n);
}
void binary(int op, const float* a, const float* b, float* y) {
  HWY_DYNAMIC_DISPATCH(BinaryF32)(op, a, b, y);
}
void binary(int op, const double* a, const double* b, double* y) {
  HWY_DYNAMIC_DISPATCH(BinaryF64)(op, a, b, y);
}
void tails(const float* x, float* y, size_t n) { HWY_DYNAMIC_DISPATCH(TailsF32)(x, y, n); }
void tails(const double* x, double* y, size_t n) { HWY_DYNAMIC_DISPATCH(TailsF64)(x, y, n); }
size_t lanes(float) { return HWY_DYNAMIC_DISPATCH(LanesF32)(); }
size_t lanes(double) { return HWY_DYNAMIC_DISPATCH(LanesF64)(); }

Wide sigmoid(Wide x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }

struct Function {
  const char* name;
  Wide (*exact)(Wide);
  double ulp;          ///< bound
  double floor = 0;    ///< results below this need only be as good as results at it
  double top = 1e308;  ///< largest argument
};

// In the order of LC_TEST_UNARY.
const Function kFunctions[] = {
    {"exp", [](Wide x) { return std::exp(x); }, 1.5},
    {"exp_fast", [](Wide x) { return std::exp(x); }, 2.5, -1, 88},
    {"exp2_fast", [](Wide x) { return std::exp2(x); }, 2.5, -1, 126},
    {"expm1", [](Wide x) { return std::expm1(x); }, 2.5},
    {"log", [](Wide x) { return std::log(x); }, 1.5},
    {"log1p", [](Wide x) { return std::log1p(x); }, 1.5},
    {"sin", [](Wide x) { return std::sin(x); }, 2},
    {"cos", [](Wide x) { return std::cos(x); }, 2},
    {"tanh", [](Wide x) { return std::tanh(x); }, 3},
    {"sigmoid", [](Wide x) { return sigmoid(x); }, 3},
    {"erf", [](Wide x) { return std::erf(x); }, 2.5},
    // The tails come from an exponential of a rounded argument.
    {"gelu", [](Wide x) { return x * std::erfc(-x * std::sqrt(Wide(0.5))) / 2; }, 6, 0.05},
    {"gelu_tanh",
     [](Wide x) {
       return x * sigmoid(2 * Wide(0.79788456080286535587989L) * (x + Wide(0.044715L) * x * x * x));
     },
     6, 0.05},
    {"silu", [](Wide x) { return x * sigmoid(x); }, 4, 1e-30},
    {"softplus", [](Wide x) { return std::fmax(x, Wide(0)) + std::log1p(std::exp(-std::fabs(x))); },
     2.5},
    {"floor", [](Wide x) { return std::floor(x); }, 0},
    {"ceil", [](Wide x) { return std::ceil(x); }, 0},
    {"round", [](Wide x) { return std::nearbyint(x); }, 0},
    {"rsqrt", [](Wide x) { return 1 / std::sqrt(x); }, 1.6},
    {"sqrt", [](Wide x) { return std::sqrt(x); }, 0.501},
    {"reciprocal", [](Wide x) { return 1 / x; }, 0.501},
    {"relu", [](Wide x) { return x < 0 ? Wide(0) : x; }, 0},
    {"sign", [](Wide x) { return std::isnan(x) ? x : Wide((x > 0) - (x < 0)); }, 0},
    {"abs", [](Wide x) { return std::fabs(x); }, 0},
    {"neg", [](Wide x) { return -x; }, 0},
    {"square", [](Wide x) { return x * x; }, 0.501},
};

template <typename T>
std::vector<T> arguments(size_t n) {
  using Limits = std::numeric_limits<T>;
  std::vector<T> x = {T(0),
                      T(-0.0),
                      Limits::infinity(),
                      -Limits::infinity(),
                      T(1),
                      T(-1),
                      Limits::quiet_NaN(),
                      Limits::denorm_min(),
                      T(0.5),
                      -Limits::denorm_min(),
                      Limits::min(),
                      -Limits::min(),
                      T(1.5),
                      Limits::max(),
                      -Limits::max(),
                      Limits::epsilon(),
                      T(88.7228),
                      T(-87.34),
                      T(-103.97),
                      T(-104.5),
                      T(709.78),
                      T(-708.4),
                      T(-745.1),
                      T(-746.5),
                      T(0.9),
                      T(-0.9),
                      T(0.34),
                      T(-0.34),
                      T(3.14159265358979),
                      T(1.5707963267949),
                      T(29999.9),
                      T(1e5)};
  std::mt19937_64 random(1);
  const auto uniform = [&](double reach) {
    return static_cast<T>((static_cast<double>(random() >> 11) / 4503599627370496.0 - 1) * reach);
  };
  while (x.size() < n) {
    x.push_back(uniform(1));
    x.push_back(uniform(12));
    x.push_back(uniform(sizeof(T) == 4 ? 110 : 750));
    x.push_back(uniform(60000));
    T any;  // any bits: all magnitudes
    const uint64_t bits = random();
    std::memcpy(&any, &bits, sizeof(T));
    x.push_back(any);
  }
  x.resize(n);
  return x;
}

template <typename T>
void check(int index) {
  const Function& f = kFunctions[index];
  const std::vector<T> x = arguments<T>(1 << 16);
  std::vector<T> y(x.size());
  unary(index, x.data(), y.data(), x.size());
  double worst = 0;
  double worst_at = 0;
  int wrong = 0;
  const auto report = [&](size_t i, const char* what, Wide want) {
    if (++wrong <= 5)
      ADD_FAILURE() << f.name << '(' << x[i] << "): " << what << ", got " << y[i] << ", want "
                    << static_cast<double>(want);
  };
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] > f.top) continue;
    const Wide want = f.exact(x[i]);
    const T rounded = static_cast<T>(want);
    if (std::isnan(want) || std::isnan(y[i])) {
      // x sigma(x) at -inf: NaN, like -inf * 0.
      if (std::isnan(want) != std::isnan(y[i])) report(i, "NaN", want);
      continue;
    }
    if (std::isinf(rounded) || std::isinf(y[i])) {
      if (rounded != y[i]) report(i, "infinity", want);
      continue;
    }
    Wide floor = f.floor;
    if (f.floor < 0) {  // the fast ones: results below the smallest normal number may be 0
      floor = 0;
      if (want < 2 * std::numeric_limits<T>::min()) {
        if (!(y[i] == 0 || std::fabs(y[i] - want) <= std::numeric_limits<T>::min()))
          report(i, "tiny", want);
        continue;
      }
    }
    if (want == 0 && y[i] != 0) report(i, "zero", want);
    int exponent = 0;
    std::frexp(std::fmax(std::fabs(want), floor), &exponent);
    const Wide ulp = std::fmax(std::ldexp(Wide(1), exponent - std::numeric_limits<T>::digits),
                               Wide(std::numeric_limits<T>::denorm_min()));
    const double error = static_cast<double>(std::fabs(y[i] - want) / ulp);
    if (error > worst) {
      worst = error;
      worst_at = static_cast<double>(x[i]);
    }
  }
  EXPECT_LE(worst, f.ulp) << f.name << " at " << worst_at;
}

class VectorMath : public testing::TestWithParam<int> {
 protected:
  // The backend chooses the instruction set when it is first asked.
  static void SetUpTestSuite() { (void)device_info(Device{}); }
};

TEST_P(VectorMath, Float32) { check<float>(GetParam()); }
TEST_P(VectorMath, Float64) { check<double>(GetParam()); }

INSTANTIATE_TEST_SUITE_P(Unary, VectorMath,
                         testing::Range(0, static_cast<int>(std::size(kFunctions))),
                         [](const auto& tested) {
                           return std::string(kFunctions[tested.param].name);
                         });

template <typename T>
void check_signs() {
  // -0 and tiny arguments keep their sign where the function is odd.
  for (const char* name :
       {"expm1", "log1p", "sin", "tanh", "erf", "floor", "ceil", "round", "neg"}) {
    int index = 0;
    while (std::string(kFunctions[index].name) != name) ++index;
    std::vector<T> x(64, T(-0.0)), y(64);
    unary(index, x.data(), y.data(), x.size());
    EXPECT_EQ(std::signbit(y[0]), std::string(name) != "neg") << name;
    EXPECT_EQ(y[0], T(0)) << name;
  }
  int cos = 0;
  while (std::string(kFunctions[cos].name) != "cos") ++cos;
  std::vector<T> x(64, T(0)), y(64);
  unary(cos, x.data(), y.data(), x.size());
  EXPECT_EQ(y[0], T(1));
}

TEST_F(VectorMath, SignsOfZero) {
  check_signs<float>();
  check_signs<double>();
}

template <typename T>
void check_binary() {
  const T inf = std::numeric_limits<T>::infinity();
  const T nan = std::numeric_limits<T>::quiet_NaN();
  const T values[] = {T(0),   T(-0.0), T(1), T(-1), T(2), T(-2),
                      T(0.5), T(3),    inf,  -inf,  nan,  T(1e30)};
  std::vector<T> a(64), b(64), y(64);
  const auto run = [&](int op, T x, T z) {
    std::fill(a.begin(), a.end(), x);
    std::fill(b.begin(), b.end(), z);
    binary(op, a.data(), b.data(), y.data());
    return y[0];
  };
  for (const T x : values)
    for (const T z : values) {
      const T power = std::pow(x, z);
      const T got = run(0, x, z);
      EXPECT_TRUE(std::isnan(power) ? std::isnan(got) : got == power) << x << " ^ " << z;
      for (const bool most : {true, false}) {
        const T m = run(most ? 1 : 2, x, z);
        if (std::isnan(x) || std::isnan(z))
          EXPECT_TRUE(std::isnan(m)) << x << ' ' << z;
        else
          EXPECT_EQ(m, most ? std::max(x, z) : std::min(x, z)) << x << ' ' << z;
      }
    }
  for (int activation = 0; activation < 7; ++activation)
    for (const T x : {T(-3), T(-0.25), T(0), T(0.5), T(4)}) {
      const double want = activate(static_cast<Activation>(activation), x);
      EXPECT_NEAR(run(3 + activation, x, 0), want, 4 * std::numeric_limits<T>::epsilon())
          << activation;
      EXPECT_EQ(run(3 + activation, x, 0), run(13 + activation, x, 0)) << activation;
    }
}

TEST_F(VectorMath, Binary) {
  check_binary<float>();
  check_binary<double>();
}

template <typename T>
void check_tails() {
  const size_t n = lanes(T());
  for (size_t count = 0; count < n; ++count) {
    // Exactly `count` readable elements: a sanitizer sees any access past them.
    std::vector<T> x(count), y(count);
    for (size_t i = 0; i < count; ++i) x[i] = static_cast<T>(i + 1);
    tails(x.data(), y.data(), count);
    EXPECT_EQ(x, y);
  }
}

TEST_F(VectorMath, Tails) {
  check_tails<float>();
  check_tails<double>();
}

}  // namespace
}  // namespace lc::cpu
#endif  // HWY_ONCE
