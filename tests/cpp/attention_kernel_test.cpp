// The attention kernels through plan() and run(), against plain loops in double.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "lightning_core/dispatch.hpp"
#include "runtime/plan.hpp"

namespace lc {
namespace {

template <typename T>
constexpr DType kType = sizeof(T) == 4 ? DType::kFloat32 : DType::kFloat64;

enum class Mask { kNone, kBool, kAdd, kBoolKeys, kAddKeys };

struct Case {
  int64_t batch = 1, heads = 1, kv_heads = 1, sq = 1, sk = 1, d = 1, dv = 1;
  Mask mask = Mask::kNone;
  bool causal = false;
  bool interleaved = false;  ///< memory is [b, s, h, d], operands are views [b, h, s, d]
  double scale = 0;
};

std::ostream& operator<<(std::ostream& os, const Case& c) {
  return os << "b=" << c.batch << " h=" << c.heads << '/' << c.kv_heads << " sq=" << c.sq
            << " sk=" << c.sk << " d=" << c.d << " dv=" << c.dv
            << " mask=" << static_cast<int>(c.mask) << " causal=" << c.causal
            << " interleaved=" << c.interleaved << " scale=" << c.scale;
}

/// Memory with guards before and after, and a view in it.
template <typename T>
struct Operand {
  static constexpr int64_t kGuard = 17;
  std::vector<T> memory;
  View view;

  Operand(int64_t b, int64_t h, int64_t s, int64_t d, bool interleaved)
      : memory(static_cast<size_t>(b * h * s * d + 2 * kGuard), T(-77)) {
    const Shape shape{b, h, s, d};
    view = interleaved ? View(data(), kType<T>, shape, Strides{s * h * d, d, h * d, 1})
                       : View(data(), kType<T>, shape);
  }
  T* data() { return memory.data() + kGuard; }
  void fill(std::mt19937& random) {
    std::normal_distribution<double> normal;
    for (size_t i = kGuard; i + kGuard < memory.size(); ++i)
      memory[i] = static_cast<T>(normal(random));
  }
  [[nodiscard]] double at(int64_t b, int64_t h, int64_t s, int64_t e) const {
    return static_cast<double>(view.ptr<T>()[b * view.strides[0] + h * view.strides[1] +
                                             s * view.strides[2] + e * view.strides[3]]);
  }
  [[nodiscard]] bool guards_intact() const {
    for (size_t i = 0; i < kGuard; ++i)
      if (memory[i] != T(-77) || memory[memory.size() - 1 - i] != T(-77)) return false;
    return true;
  }
};

template <typename T>
struct Problem {
  Case c;
  Operand<T> q, k, v, out;
  std::vector<uint8_t> mask_bool;
  std::vector<T> mask_add;
  View mask;

  explicit Problem(const Case& of, uint32_t seed = 1)
      : c(of),
        q(c.batch, c.heads, c.sq, c.d, c.interleaved),
        k(c.batch, c.kv_heads, c.sk, c.d, c.interleaved),
        v(c.batch, c.kv_heads, c.sk, c.dv, c.interleaved),
        out(c.batch, c.heads, c.sq, c.dv, c.interleaved) {
    std::mt19937 random(seed);
    for (auto* x : {&q, &k, &v}) x->fill(random);
    if (c.mask == Mask::kNone) return;
    const bool full = c.mask == Mask::kBool || c.mask == Mask::kAdd;
    const Shape shape{c.batch, 1, full ? c.sq : 1, c.sk};
    const auto n = static_cast<size_t>(shape.numel());
    if (c.mask == Mask::kBool || c.mask == Mask::kBoolKeys) {
      for (size_t i = 0; i < n; ++i) mask_bool.push_back(random() % 4 != 0);
      mask = View(mask_bool.data(), DType::kBool, shape);
    } else {
      std::normal_distribution<double> normal;
      for (size_t i = 0; i < n; ++i)
        mask_add.push_back(random() % 5 == 0 ? -std::numeric_limits<T>::infinity()
                                             : static_cast<T>(normal(random)));
      mask = View(mask_add.data(), kType<T>, shape);
    }
  }

  [[nodiscard]] OpCall call(const char* kernel) {
    OpCall call(get_op("attention"));
    call.in[0] = q.view;
    call.in[1] = k.view;
    call.in[2] = v.view;
    call.in[3] = mask;
    call.out[0] = out.view;
    call.attr_ref("causal").i[0] = c.causal;
    call.attr_ref("scale").f = c.scale;
    call.policy.kernel = intern_kernel(kernel);
    return call;
  }

  void run_with(const char* kernel) {
    OpCall op = call(kernel);
    const Plan& p = plan(op);
    run(p, op);
    EXPECT_TRUE(out.guards_intact());
  }

  [[nodiscard]] std::vector<double> expected() const {
    std::vector<double> result;
    const double scale = c.scale != 0 ? c.scale : 1 / std::sqrt(static_cast<double>(c.d));
    std::vector<double> p(static_cast<size_t>(c.sk));
    for (int64_t b = 0; b < c.batch; ++b)
      for (int64_t h = 0; h < c.heads; ++h)
        for (int64_t i = 0; i < c.sq; ++i) {
          const int64_t hk = h / (c.heads / c.kv_heads);
          double most = -std::numeric_limits<double>::infinity();
          for (int64_t j = 0; j < c.sk; ++j) {
            double s = 0;
            for (int64_t e = 0; e < c.d; ++e) s += q.at(b, h, i, e) * k.at(b, hk, j, e);
            s *= scale;
            const int64_t full = (b * c.sq + i) * c.sk + j;
            const int64_t key = b * c.sk + j;
            const auto hidden = -std::numeric_limits<double>::infinity();
            if (c.mask == Mask::kBool && !mask_bool[static_cast<size_t>(full)]) s = hidden;
            if (c.mask == Mask::kBoolKeys && !mask_bool[static_cast<size_t>(key)]) s = hidden;
            if (c.mask == Mask::kAdd) s += static_cast<double>(mask_add[static_cast<size_t>(full)]);
            if (c.mask == Mask::kAddKeys)
              s += static_cast<double>(mask_add[static_cast<size_t>(key)]);
            if (c.causal && j > i) s = hidden;
            p[static_cast<size_t>(j)] = s;
            most = std::max(most, s);
          }
          double sum = 0;
          for (double& s : p) sum += s = std::isinf(most) ? 0 : std::exp(s - most);
          for (int64_t e = 0; e < c.dv; ++e) {
            double y = 0;
            for (int64_t j = 0; j < c.sk; ++j)
              if (p[static_cast<size_t>(j)] != 0)
                y += p[static_cast<size_t>(j)] * v.at(b, hk, j, e);
            result.push_back(sum == 0 ? 0 : y / sum);
          }
        }
    return result;
  }

  void compare() const {
    const std::vector<double> want = expected();
    double scale = 0;
    for (const double w : want)
      if (std::isfinite(w)) scale = std::max(scale, std::fabs(w));
    const double bound = 8 * dtype_eps(kType<T>) * std::sqrt(static_cast<double>(c.d + c.sk)) *
                         std::max(scale, 1e-30);
    size_t at = 0;
    int wrong = 0;
    for (int64_t b = 0; b < c.batch; ++b)
      for (int64_t h = 0; h < c.heads; ++h)
        for (int64_t i = 0; i < c.sq; ++i)
          for (int64_t e = 0; e < c.dv; ++e, ++at) {
            const double got = out.at(b, h, i, e);
            const bool good = std::isnan(want[at])   ? std::isnan(got)
                              : std::isinf(want[at]) ? got == want[at]
                                                     : std::fabs(got - want[at]) <= bound;
            if (!good && ++wrong <= 3)
              ADD_FAILURE() << c << ": out[" << b << ',' << h << ',' << i << ',' << e
                            << "] = " << got << ", want " << want[at] << " within " << bound;
          }
  }
};

template <typename T>
void check(const Case& c, const char* kernel, uint32_t seed) {
  Problem<T> problem(c, seed);
  problem.run_with(kernel);
  problem.compare();
}

void check_both(const Case& c, const char* kernel, uint32_t seed = 1) {
  check<float>(c, kernel, seed);
  check<double>(c, kernel, seed);
}

constexpr Mask kMasks[] = {Mask::kNone, Mask::kBool, Mask::kAdd, Mask::kBoolKeys, Mask::kAddKeys};

void random_cases(const char* kernel, int64_t most_queries) {
  std::mt19937 random(5);
  const auto in = [&](int64_t from, int64_t to) {
    return from + static_cast<int64_t>(random() % static_cast<uint64_t>(to - from + 1));
  };
  for (const Mask mask : kMasks)
    for (const bool causal : {false, true})
      for (const bool interleaved : {false, true})
        for (int repeat = 0; repeat < 6; ++repeat) {
          Case c;
          c.batch = in(1, 2);
          c.kv_heads = in(1, 2);
          c.heads = c.kv_heads * in(1, 3);
          c.sq = repeat == 0 ? 1 : in(1, most_queries);
          c.sk = repeat == 1 ? 1 : in(1, 230);
          c.d = in(1, 70);
          c.dv = repeat % 2 ? c.d : in(1, 70);
          c.mask = mask;
          c.causal = causal;
          c.interleaved = interleaved;
          c.scale = repeat == 2 ? -0.4 : 0;
          check_both(c, kernel, random());
        }
}

TEST(AttentionKernel, FlashRandomShapes) { random_cases("flash", 130); }
TEST(AttentionKernel, RowRandomShapes) { random_cases("row", 4); }

TEST(AttentionKernel, LongRows) {
  check_both({.sq = 3, .sk = 5000, .d = 64, .dv = 64}, "row");
  check_both({.sq = 3, .sk = 5000, .d = 64, .dv = 64}, "flash");
  check_both({.sq = 300, .sk = 300, .d = 32, .dv = 32, .causal = true}, "flash");
  check_both({.sq = 200, .sk = 20, .d = 8, .dv = 8, .causal = true}, "flash");
}

TEST(AttentionKernel, DiagonalAtEveryOffsetInTilesAndBlocks) {
  for (int64_t sq = 1; sq <= 100; sq += 3)
    check_both({.sq = sq, .sk = sq + sq % 7, .d = 5, .dv = 9, .causal = true}, "flash");
  check_both({.sq = 300, .sk = 170, .d = 16, .dv = 16, .mask = Mask::kAdd, .causal = true},
             "flash");
  check_both({.sq = 170, .sk = 300, .d = 16, .dv = 16, .causal = true}, "flash");
}

// More than a quarter of most processors' L3: what comes next is prefetched.
TEST(AttentionKernel, HeadsPastTheCaches) {
  Problem<float> problem({.batch = 40,
                          .heads = 12,
                          .kv_heads = 12,
                          .sq = 70,
                          .sk = 150,
                          .d = 32,
                          .dv = 32,
                          .interleaved = true});
  problem.run_with("flash");
  problem.compare();
}

TEST(AttentionKernel, PlannerTakesRowForFewQueries) {
  Problem<float> few({.sq = 1, .sk = 64, .d = 16, .dv = 16});
  OpCall call = few.call("auto");
  EXPECT_STREQ(plan(call).kernel->name, "row");
  Problem<float> many({.sq = 5, .sk = 64, .d = 16, .dv = 16});
  OpCall other = many.call("auto");
  EXPECT_STREQ(plan(other).kernel->name, "flash");
}

TEST(AttentionKernel, TransposedViewsNeedNoCopy) {
  Problem<float> problem({.batch = 2,
                          .heads = 3,
                          .kv_heads = 3,
                          .sq = 9,
                          .sk = 9,
                          .d = 8,
                          .dv = 8,
                          .interleaved = true});
  OpCall call = problem.call("flash");
  call.policy.strict = true;  // a copy would be an error
  run(plan(call), call);
  problem.compare();
}

TEST(AttentionKernel, RowThatMayAttendNothingIsZero) {
  for (const char* kernel : {"flash", "row"}) {
    Problem<float> problem({.sq = 4, .sk = 40, .d = 16, .dv = 16, .mask = Mask::kBool});
    for (int j = 0; j < 40; ++j) problem.mask_bool[static_cast<size_t>(2 * 40 + j)] = 0;
    problem.run_with(kernel);
    problem.compare();
    for (int64_t e = 0; e < 16; ++e) EXPECT_EQ(problem.out.at(0, 0, 2, e), 0.0) << kernel;
  }
}

TEST(AttentionKernel, NoKeysGiveZeros) {
  for (const char* kernel : {"flash", "row"}) {
    Problem<double> problem({.sq = 3, .sk = 0, .d = 4, .dv = 5});
    problem.run_with(kernel);
    for (int64_t i = 0; i < 3; ++i)
      for (int64_t e = 0; e < 5; ++e) EXPECT_EQ(problem.out.at(0, 0, i, e), 0.0) << kernel;
  }
}

TEST(AttentionKernel, HiddenKeysDoNotSpreadNaN) {
  for (const char* kernel : {"flash", "row"})
    for (const bool causal : {false, true}) {
      Problem<float> problem(
          {.sq = 4, .sk = 30, .d = 8, .dv = 8, .mask = Mask::kBoolKeys, .causal = causal});
      problem.mask_bool[3] = problem.mask_bool[29] = 0;
      problem.mask_bool[0] = problem.mask_bool[1] = 1;
      const float nan = std::numeric_limits<float>::quiet_NaN();
      for (int64_t j : {3, 29})
        for (int64_t e = 0; e < 8; ++e)
          problem.v.data()[j * 8 + e] = problem.k.data()[j * 8 + e] = nan;
      problem.v.data()[2 * 8] = std::numeric_limits<float>::infinity();
      problem.mask_bool[2] = 1;
      problem.run_with(kernel);
      problem.compare();
      EXPECT_TRUE(std::isfinite(problem.out.at(0, 0, 3, 1)));
    }
}

TEST(AttentionKernel, NaNStaysInItsRow) {
  for (const char* kernel : {"flash", "row"}) {
    Problem<float> problem({.sq = 4, .sk = 20, .d = 8, .dv = 8});
    problem.q.data()[1 * 8 + 3] = std::numeric_limits<float>::quiet_NaN();
    problem.run_with(kernel);
    for (int64_t i = 0; i < 4; ++i)
      for (int64_t e = 0; e < 8; ++e)
        EXPECT_EQ(std::isnan(problem.out.at(0, 0, i, e)), i == 1) << kernel << ' ' << i;
  }
}

TEST(AttentionKernel, LargeScoresDoNotOverflow) {
  for (const char* kernel : {"flash", "row"}) {
    Problem<float> problem({.sq = 4, .sk = 200, .d = 8, .dv = 8, .scale = 1000});
    problem.run_with(kernel);
    for (int64_t i = 0; i < 4; ++i)
      for (int64_t e = 0; e < 8; ++e) EXPECT_TRUE(std::isfinite(problem.out.at(0, 0, i, e)));
  }
}

TEST(AttentionKernel, SameBitsEveryRun) {
  Problem<float> problem({.batch = 2,
                          .heads = 4,
                          .kv_heads = 2,
                          .sq = 100,
                          .sk = 200,
                          .d = 32,
                          .dv = 32,
                          .causal = true});
  problem.run_with("flash");
  const std::vector<float> first = problem.out.memory;
  for (int i = 0; i < 5; ++i) {
    problem.run_with("flash");
    EXPECT_EQ(std::memcmp(first.data(), problem.out.memory.data(), first.size() * sizeof(float)),
              0);
  }
}

TEST(AttentionKernel, LowerRanksAndOtherStrides) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  std::vector<float> values(3 * 20 * 24);
  for (float& x : values) x = normal(random);
  const Tensor x = Tensor::from(std::span<const float>(values), {3, 20, 24});
  const auto attend = [](const Tensor& t) {
    OpCall call(get_op("attention"));
    for (int i = 0; i < 3; ++i) call.in[i] = t.view();
    call.attr_ref("causal").i[0] = 1;
    return call_op1(call);
  };
  const Tensor whole = attend(x);
  for (int64_t h = 0; h < 3; ++h) {
    // One head at a time, from memory whose last axis is not contiguous.
    const Tensor head = x.slice(0, h, h + 1).reshape({20, 24});
    const Tensor turned = head.transpose(0, 1).copy().transpose(0, 1);
    const Tensor one = attend(head), other = attend(turned);
    for (int64_t i = 0; i < 20 * 24; ++i) {
      EXPECT_EQ(one.item(i), whole.item(h * 480 + i));
      EXPECT_EQ(other.item(i), whole.item(h * 480 + i));
    }
  }
}

}  // namespace
}  // namespace lc
