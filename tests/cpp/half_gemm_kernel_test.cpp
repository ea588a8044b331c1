// Products of float16 and bfloat16 where rounding and exponents decide: subnormal operands, sums
// and results, which the processor's bfloat16 instruction takes for zero; long sums; equal bits on
// any number of threads.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "lightning_core/dispatch.hpp"
#include "pinned_run.hpp"
#include "runtime/config.hpp"
#include "runtime/plan.hpp"
#include "tensor/scalar.hpp"

namespace lc {
namespace {

constexpr const char* kKernels[] = {"gemv_half",   "dots_half", "direct_half",
                                    "packed_half", "bf16_dots", "bf16_dot"};

uint16_t to_bits(double x, DType dtype) {
  return dtype == DType::kFloat16 ? double_to_half(x) : double_to_bfloat(x);
}

double from_bits(uint16_t bits, DType dtype) {
  return static_cast<double>(dtype == DType::kFloat16 ? half_to_float(bits)
                                                      : bfloat_to_float(bits));
}

/// a[m, k] times b[k, n], b stored as given or transposed.
struct HalfProduct {
  DType dtype;
  int64_t m, k, n;
  bool transposed;
  std::vector<uint16_t> a, b, out;

  HalfProduct(DType type, int64_t rows, int64_t depth, int64_t cols, bool trans_b)
      : dtype(type),
        m(rows),
        k(depth),
        n(cols),
        transposed(trans_b),
        a(static_cast<size_t>(m * k)),
        b(static_cast<size_t>(k * n)) {}
  void set_a(int64_t i, int64_t p, double x) {
    a[static_cast<size_t>(i * k + p)] = to_bits(x, dtype);
  }
  void set_b(int64_t p, int64_t j, double x) {
    b[static_cast<size_t>(transposed ? j * k + p : p * n + j)] = to_bits(x, dtype);
  }
  bool run_with(const char* kernel) {
    out.assign(static_cast<size_t>(m * n), 0x7fff);  // NaN
    OpCall call(get_op("matmul"));
    call.in[0] = View(a.data(), dtype, Shape{m, k});
    call.in[1] = View(b.data(), dtype, transposed ? Shape{n, k} : Shape{k, n});
    call.attr_ref("trans_b").i[0] = transposed;
    call.out[0] = View(out.data(), dtype, Shape{m, n});
    return run_pinned(call, kernel);
  }
  [[nodiscard]] double result(int64_t i, int64_t j) const {
    return from_bits(out[static_cast<size_t>(i * n + j)], dtype);
  }
  [[nodiscard]] std::string name() const {
    return cat(dtype_name(dtype), " ", m, "x", k, "x", n, transposed ? " transposed" : "");
  }
};

class HalfGemmKernel : public testing::Test {
 protected:
  void TearDown() override { reload_config(); }
};

/// f(product, kernel) after each kernel that takes one of the layouts; `fill` sets the elements.
template <typename Fill, typename F>
void on_every_kernel(DType dtype, const Fill& fill, const F& f) {
  int taken = 0;
  for (const int64_t m : {1, 7, 16, 40})
    for (const bool transposed : {false, true}) {
      HalfProduct x(dtype, m, 75, 101, transposed);
      fill(x);
      for (const char* kernel : kKernels)
        if (x.run_with(kernel)) {
          ++taken;
          f(x, kernel);
        }
    }
  EXPECT_GT(taken, 8) << dtype_name(dtype);
}

/// Products with two terms, x0 y0 + x1 y1, in row and column `at` and nothing else but ordinary
/// numbers around them.
void check_terms(DType dtype, double x0, double y0, double x1, double y1) {
  const auto is_special = [](int64_t i) { return i % 5 == 0; };
  on_every_kernel(
      dtype,
      [&](HalfProduct& x) {
        for (int64_t i = 0; i < x.m; ++i)
          for (int64_t p = 0; p < x.k; ++p)
            x.set_a(i, p, !is_special(i) ? 1 : p == 3 ? x0 : p == 74 ? x1 : 0);
        for (int64_t p = 0; p < x.k; ++p)
          for (int64_t j = 0; j < x.n; ++j)
            x.set_b(p, j, !is_special(j) ? 1 : p == 3 ? y0 : p == 74 ? y1 : 0);
      },
      [&](const HalfProduct& x, const char* kernel) {
        const auto rounded = [&](double v) { return from_bits(to_bits(v, dtype), dtype); };
        for (int64_t i = 0; i < x.m; ++i)
          for (int64_t j = 0; j < x.n; ++j) {
            const double want = is_special(i) && is_special(j) ? x0 * y0 + x1 * y1
                                : is_special(i)                ? x0 + x1
                                : is_special(j)                ? y0 + y1
                                                               : 75;
            ASSERT_EQ(x.result(i, j), rounded(want))
                << kernel << ' ' << x.name() << ' ' << i << ' ' << j;
          }
      });
}

TEST_F(HalfGemmKernel, SubnormalOperandsCount) {
  check_terms(DType::kBFloat16, 0x1p-130, 0x1p120, 0, 0);
  check_terms(DType::kBFloat16, 0x1p120, 0x1p-133, 0, 0);
  check_terms(DType::kBFloat16, 0x1p-130, 1, 0x1p-128, 1);
  check_terms(DType::kFloat16, 0x1p-24, 0x1p10, 0, 0);
  check_terms(DType::kFloat16, 0x1p-20, 1, 0x1p-24, 1);
}

TEST_F(HalfGemmKernel, SubnormalResultsOfOrdinaryOperandsAreKept) {
  check_terms(DType::kBFloat16, 0x1p-70, 0x1p-63, 0, 0);
  check_terms(DType::kBFloat16, 0x1.02p-64, 0x1p-64, 0, 0);
  check_terms(DType::kFloat16, 0x1p-12, 0x1p-12, 0, 0);
}

TEST_F(HalfGemmKernel, SubnormalDifferencesOfOrdinaryProductsAreKept) {
  check_terms(DType::kBFloat16, 0x1.02p-60, 0x1p-60, 0x1p-60, -0x1p-60);
  check_terms(DType::kBFloat16, 0x1.02p-60, 0x1.02p-60, 0x1.04p-60, -0x1p-60);  // 2^-134: to zero
  check_terms(DType::kBFloat16, 0x1.02p-56, 0x1.02p-56, 0x1.04p-56, -0x1p-56);  // 2^-126
}

TEST_F(HalfGemmKernel, LongSumsAreRoundedOnce) {
  // 1 + 2^-8 is halfway between two bfloat16: further small terms decide, if the sum is wide.
  for (const bool transposed : {false, true})
    for (const int64_t m : {1, 5, 12, 33}) {
      HalfProduct x(DType::kBFloat16, m, 4099, 50, transposed);
      for (int64_t i = 0; i < m; ++i)
        for (int64_t p = 0; p < x.k; ++p) x.set_a(i, p, p == 0 ? 1 : p == 1 ? 0x1p-8 : 0x1p-22);
      std::fill(x.b.begin(), x.b.end(), to_bits(1, x.dtype));
      for (const char* kernel : kKernels) {
        if (!x.run_with(kernel)) continue;
        for (int64_t i = 0; i < m * x.n; ++i)
          ASSERT_EQ(x.result(0, i), 1 + 0x1p-7) << kernel << ' ' << x.name();
      }
    }
}

TEST_F(HalfGemmKernel, EqualBitsOnAnyNumberOfThreads) {
  std::mt19937 random(1);
  std::normal_distribution<double> normal;
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16})
    for (const int64_t m : {1, 9, 100, 300})
      for (const bool transposed : {false, true}) {
        HalfProduct x(dtype, m, 1501, 210, transposed);
        for (uint16_t& v : x.a) v = to_bits(normal(random), dtype);
        for (uint16_t& v : x.b) v = to_bits(normal(random), dtype);
        for (const char* kernel : kKernels) {
          set_config("LC_NUM_THREADS", "1");
          if (!x.run_with(kernel)) continue;
          const std::vector<uint16_t> alone = x.out;
          for (const char* threads : {"2", "5"}) {
            set_config("LC_NUM_THREADS", threads);
            ASSERT_TRUE(x.run_with(kernel));
            EXPECT_TRUE(x.out == alone) << kernel << ' ' << x.name() << ' ' << threads;
          }
        }
      }
}

TEST_F(HalfGemmKernel, PackedColumnsPastHalfOfTheLastCache) {
  // b[p, j] = u[p] v[j], so that the wanted product takes m k + m n steps.
  HalfProduct x(DType::kBFloat16, 257, 8201, 1111, false);
  std::mt19937 random(2);
  std::vector<int> u(static_cast<size_t>(x.k)), v(static_cast<size_t>(x.n));
  for (int& e : u) e = static_cast<int>(random() % 3) - 1;
  for (int& e : v) e = static_cast<int>(random() % 9) - 4;
  std::vector<int> sums(static_cast<size_t>(x.m));
  for (int64_t i = 0; i < x.m; ++i)
    for (int64_t p = 0; p < x.k; ++p) {
      const int e = static_cast<int>(random() % 3) - 1;
      x.set_a(i, p, e);
      sums[static_cast<size_t>(i)] += e * u[static_cast<size_t>(p)];
    }
  for (int64_t p = 0; p < x.k; ++p)
    for (int64_t j = 0; j < x.n; ++j)
      x.set_b(p, j, u[static_cast<size_t>(p)] * v[static_cast<size_t>(j)]);
  for (const char* kernel : {"bf16_dot", "packed_half"}) {
    if (!x.run_with(kernel)) continue;
    for (int64_t i = 0; i < x.m; ++i)
      for (int64_t j = 0; j < x.n; ++j) {
        const int want = sums[static_cast<size_t>(i)] * v[static_cast<size_t>(j)];
        ASSERT_EQ(x.result(i, j), from_bits(to_bits(want, x.dtype), x.dtype))
            << kernel << ' ' << i << ' ' << j;
      }
  }
}

}  // namespace
}  // namespace lc
