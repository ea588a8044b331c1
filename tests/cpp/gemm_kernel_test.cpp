// The matrix products' kernels on operands of small whole numbers, whose sums are exact in float:
// every result must be equal to the plain loops', rounded once to the dtype, at any block size and
// any number of threads.
// Sizes lie around the edges of tiles, panels, groups of panels and blocks; memory around and
// between the operands' elements is NaN, so that reading any of it shows.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "backends/cpu/half.hpp"
#include "lightning_core/dispatch.hpp"
#include "ops/activation.hpp"
#include "pinned_run.hpp"
#include "runtime/config.hpp"
#include "runtime/plan.hpp"
#include "tensor/scalar.hpp"

namespace lc {
namespace {

using cpu::BFloat;
using cpu::Half;

template <typename T>
constexpr DType kType = std::is_same_v<T, float>    ? DType::kFloat32
                        : std::is_same_v<T, double> ? DType::kFloat64
                        : std::is_same_v<T, Half>   ? DType::kFloat16
                                                    : DType::kBFloat16;

template <typename T>
T from_double(double x) {
  if constexpr (std::is_same_v<T, Half>)
    return Half{double_to_half(x)};
  else if constexpr (std::is_same_v<T, BFloat>)
    return BFloat{double_to_bfloat(x)};
  else
    return static_cast<T>(x);
}

double to_double(double x) { return x; }
double to_double(Half x) { return static_cast<double>(half_to_float(x.bits)); }
double to_double(BFloat x) { return static_cast<double>(bfloat_to_float(x.bits)); }

template <typename T>
const T kNan = from_double<T>(std::numeric_limits<double>::quiet_NaN());

enum class Layout { kRows, kColumns, kGapRows, kGapColumns, kBothApart };
constexpr Layout kLayouts[] = {Layout::kRows, Layout::kColumns, Layout::kGapRows,
                               Layout::kGapColumns, Layout::kBothApart};

/// A matrix in NaN memory.
template <typename T>
struct Matrix {
  static constexpr int64_t kGuard = 67;
  int64_t rows, cols;
  int64_t row = 1, col = 1;
  std::vector<T> memory;

  Matrix(int64_t m, int64_t n, Layout layout) : rows(m), cols(n) {
    switch (layout) {
      case Layout::kRows:
      case Layout::kGapRows:
        col = 1;
        row = n + (layout == Layout::kGapRows ? 5 : 0);
        break;
      case Layout::kColumns:
      case Layout::kGapColumns:
        row = 1;
        col = m + (layout == Layout::kGapColumns ? 3 : 0);
        break;
      case Layout::kBothApart:
        col = 2;
        row = 2 * n + 3;
        break;
    }
    memory.assign(static_cast<size_t>(rows * row + cols * col + 2 * kGuard), kNan<T>);
  }
  T& at(int64_t i, int64_t j) { return memory[static_cast<size_t>(kGuard + i * row + j * col)]; }
  [[nodiscard]] View view() {
    return View(memory.data() + kGuard, kType<T>, Shape{rows, cols}, Strides{row, col});
  }
  void fill(std::mt19937& random) {
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < cols; ++j)
        at(i, j) = from_double<T>(static_cast<int>(random() % 5) - 2);
  }
  /// Elements that are not NaN: after a call, exactly those of the matrix.
  [[nodiscard]] int64_t numbers() const {
    int64_t n = 0;
    for (const T x : memory) n += !std::isnan(to_double(x));
    return n;
  }
};

struct Sizes {
  int64_t m, n, k;
};

template <typename T>
struct Problem {
  Sizes s;
  Matrix<T> a, b, out;
  std::vector<T> bias;  // every second value, if any
  bool relu;
  double alpha;
  std::vector<double> want;
  std::string name;

  Problem(Sizes sizes, Layout la, Layout lb, Layout lo, bool with_bias, bool with_relu,
          double scale, uint32_t seed)
      : s(sizes),
        a(s.m, s.k, la),
        b(s.k, s.n, lb),
        out(s.m, s.n, lo),
        relu(with_relu),
        alpha(scale) {
    std::mt19937 random(seed);
    a.fill(random);
    b.fill(random);
    if (with_bias)
      for (int64_t j = 0; j < 2 * s.n; ++j)
        bias.push_back(from_double<T>(static_cast<int>(random() % 9) - 4));
    name = cat(dtype_name(kType<T>), " m=", s.m, " n=", s.n, " k=", s.k, " layouts ",
               static_cast<int>(la), static_cast<int>(lb), static_cast<int>(lo),
               " bias=", with_bias, " relu=", relu, " alpha=", alpha, " seed=", seed);
    std::vector<double> row(static_cast<size_t>(s.n));
    for (int64_t i = 0; i < s.m; ++i) {
      std::fill(row.begin(), row.end(), 0.0);
      for (int64_t p = 0; p < s.k; ++p) {
        const double x = to_double(a.at(i, p));
        for (int64_t j = 0; j < s.n; ++j) row[static_cast<size_t>(j)] += x * to_double(b.at(p, j));
      }
      for (int64_t j = 0; j < s.n; ++j) {
        double y = row[static_cast<size_t>(j)] * alpha;
        if (with_bias) y += to_double(bias[static_cast<size_t>(2 * j)]);
        want.push_back(to_double(from_double<T>(relu ? std::max(y, 0.0) : y)));
      }
    }
  }

  /// False where the kernel refuses this problem.
  bool run_with(const char* kernel) {
    OpCall call(get_op("matmul"));
    call.in[0] = a.view();
    call.in[1] = b.view();
    if (!bias.empty()) call.in[2] = View(bias.data(), kType<T>, Shape{s.n}, Strides{2});
    call.out[0] = out.view();
    call.attr_ref("alpha").f = alpha;
    if (relu) call.attr_ref("activation").i[0] = static_cast<int64_t>(Activation::kRelu);
    return run_pinned(call, kernel);
  }

  void compare(const std::string& with) {
    int wrong = 0;
    for (int64_t i = 0; i < s.m; ++i)
      for (int64_t j = 0; j < s.n; ++j)
        if (!(to_double(out.at(i, j)) == want[static_cast<size_t>(i * s.n + j)]) && ++wrong <= 2)
          ADD_FAILURE() << with << ' ' << name << ": out[" << i << ',' << j
                        << "] = " << to_double(out.at(i, j)) << ", want "
                        << want[static_cast<size_t>(i * s.n + j)];
    EXPECT_EQ(out.numbers(), s.m * s.n) << with << ' ' << name << ": wrote beside its result";
  }
};

/// Every test leaves the thread count as the environment has it.
class GemmKernel : public testing::Test {
 protected:
  void TearDown() override { reload_config(); }
};

/// Candidates for products of T.
template <typename T>
std::vector<const char*> kernels_of() {
  if constexpr (std::is_same_v<T, BFloat>)
    return {"gemv_half", "dots_half", "direct_half", "packed_half", "bf16_dots", "bf16_dot"};
  else if constexpr (std::is_same_v<T, Half>)
    return {"gemv_half", "dots_half", "direct_half", "packed_half"};
  else
    return {"packed", "direct", "dots", "gemv"};
}

/// Runs a problem on each kernel that takes it with each number of threads; kernels that took it.
template <typename T>
int check(Problem<T>& problem, std::initializer_list<const char*> threads = {"1", "2", "5"}) {
  int taken = 0;
  for (const char* count : threads) {
    set_config("LC_NUM_THREADS", count);
    for (const char* kernel : kernels_of<T>()) {
      std::fill(problem.out.memory.begin(), problem.out.memory.end(), kNan<T>);
      if (!problem.run_with(kernel)) continue;
      ++taken;
      problem.compare(cat(kernel, " on ", count, " threads"));
    }
  }
  return taken;
}

template <typename T>
void check_random(int count, uint32_t seed) {
  constexpr int64_t kM[] = {1, 2, 5, 6, 7, 12, 13, 14, 15, 27, 28, 29, 43, 100, 129, 257};
  constexpr int64_t kN[] = {1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 65, 127, 128, 129, 260};
  constexpr int64_t kK[] = {1, 2, 3, 4, 5, 16, 17, 31, 33, 64, 100, 257};
  std::mt19937 random(seed);
  const auto one_of = [&](const auto& list) { return list[random() % std::size(list)]; };
  for (int i = 0; i < count && !testing::Test::HasFailure(); ++i) {
    Problem<T> problem({one_of(kM), one_of(kN), one_of(kK)}, one_of(kLayouts), one_of(kLayouts),
                       one_of(kLayouts), random() % 2 == 0, random() % 3 == 0,
                       random() % 3 == 0 ? -2.0 : 1.0, random());
    EXPECT_GT(check(problem), 0) << problem.name;
  }
}

TEST_F(GemmKernel, RandomProductsFloat) { check_random<float>(250, 1); }
TEST_F(GemmKernel, RandomProductsDouble) { check_random<double>(120, 2); }
TEST_F(GemmKernel, RandomProductsFloat16) { check_random<Half>(150, 3); }
TEST_F(GemmKernel, RandomProductsBFloat16) { check_random<BFloat>(200, 4); }

TEST_F(GemmKernel, SeveralBlocksOfEveryKind) {
  // Depth: several blocks, the last ones uneven. Rows: below and above the change from shared rows
  // to shared columns, more pieces than threads. Columns: past the widest packed block (4096).
  constexpr Sizes kSizes[] = {{255, 97, 1100}, {256, 97, 1100}, {257, 129, 2100}, {700, 65, 400},
                              {1300, 33, 65},  {256, 4230, 9},  {20, 4230, 30}};
  uint32_t seed = 100;
  for (const Sizes& s : kSizes)
    for (const Layout out : {Layout::kRows, Layout::kBothApart}) {
      const Layout b = seed % 2 ? Layout::kRows : Layout::kColumns;
      const auto several = [&](auto problem) {
        EXPECT_GT(check(problem, {"1", "2", "3", "7"}), 0) << problem.name;
      };
      several(Problem<float>(s, Layout::kRows, b, out, true, seed % 3 == 0, 1.0, seed));
      several(Problem<BFloat>(s, Layout::kRows, b, out, true, seed % 3 == 0, 1.0, seed));
      if (s.k < 1000) several(Problem<Half>(s, Layout::kRows, b, out, true, false, 1.0, seed));
      ++seed;
    }
}

TEST_F(GemmKernel, EachKernelTakesWhatItIsFor) {
  struct Expectation {
    Sizes s;
    Layout b;
    const char* kernel;
    bool takes;
  };
  constexpr Expectation kExpected[] = {
      {{1, 100, 50}, Layout::kRows, "gemv", true},
      {{1, 100, 50}, Layout::kColumns, "gemv", true},
      {{1, 100, 50}, Layout::kBothApart, "gemv", false},
      {{2, 100, 50}, Layout::kRows, "gemv", false},
      {{6, 100, 50}, Layout::kColumns, "dots", true},
      {{8, 100, 50}, Layout::kRows, "dots", false},
      {{7, 100, 50}, Layout::kColumns, "dots", false},
      {{8, 100, 50}, Layout::kRows, "direct", true},
      {{8, 100, 50}, Layout::kColumns, "direct", false},
      {{200, 200, 200}, Layout::kRows, "direct", true},
      {{300, 300, 300}, Layout::kRows, "direct", false},
      {{64, 2000, 100}, Layout::kRows, "direct", false},
      {{64, 64, 1024}, Layout::kRows, "direct", false},
      {{200, 200, 200}, Layout::kBothApart, "packed", true},
  };
  for (const Expectation& x : kExpected) {
    Problem<float> problem(x.s, Layout::kRows, x.b, Layout::kRows, false, false, 1.0, 7);
    EXPECT_EQ(problem.run_with(x.kernel), x.takes) << x.kernel << ' ' << problem.name;
  }
}

}  // namespace
}  // namespace lc
