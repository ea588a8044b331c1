// A few rows of bfloat16 by a transposed bfloat16 matrix (a weight), both contiguous along the sum:
// lanes run along it and the dot instruction reads both in place. While a tile runs, the smallest
// exponent of what it reads is noted; where a subnormal number was possible (NoSubnormals()) the
// tile is computed again by multiply-adds.

#if defined(LC_BACKENDS_CPU_GEMM_BF16_DOTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LC_BACKENDS_CPU_GEMM_BF16_DOTS_INL_H_
#undef LC_BACKENDS_CPU_GEMM_BF16_DOTS_INL_H_
#else
#define LC_BACKENDS_CPU_GEMM_BF16_DOTS_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "backends/cpu/gemm_bf16-inl.h"
#include "hwy/highway.h"

#if LC_HAS_BF16_DOT
HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Accumulators: kPairDotRows by kPairDotCols of 32 registers.
inline constexpr int kPairDotRows = 8;
inline constexpr int kPairDotCols = 3;

HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512bf16")

/// out[i * out_row + j] (+)= sum over p < k of a[i * a_row + p] b[j * b_col + p], j < kPairDotCols.
/// The least of B's magnitudes minus one, see ExponentOf().
template <int kRows>
HWY_NOINLINE uint32_t PairDots(int64_t k, const BFloat* HWY_RESTRICT a, int64_t a_row,
                               const BFloat* HWY_RESTRICT b, int64_t b_col, float* HWY_RESTRICT out,
                               int64_t out_row, bool accumulate) {
  constexpr int64_t kLanes = 32;
  const __m512i magnitude = _mm512_set1_epi16(0x7fff);
  const __m512i minus_one = _mm512_set1_epi16(-1);
  __m512i least = minus_one;
  __m512 acc[kRows][kPairDotCols];
  HWY_UNROLL(8)
  for (auto& row : acc) {
    HWY_UNROLL(3)
    for (__m512& v : row) v = _mm512_setzero_ps();
  }
  for (int64_t p = 0; p < k; p += kLanes, a += kLanes, b += kLanes) {
    const __mmask32 part =
        k - p >= kLanes ? ~__mmask32{0} : static_cast<__mmask32>((uint32_t{1} << (k - p)) - 1);
    __m512i bv[kPairDotCols];
    HWY_UNROLL(3)
    for (int j = 0; j < kPairDotCols; ++j) {
      // The columns that come next: the hardware's prefetchers start anew on every one of them.
      hwy::Prefetch(b + (kPairDotCols + j) * b_col);
      bv[j] = _mm512_maskz_loadu_epi16(part, b + j * b_col);
      least =
          _mm512_min_epu16(least, _mm512_add_epi16(_mm512_and_si512(bv[j], magnitude), minus_one));
    }
    HWY_UNROLL(8)
    for (int i = 0; i < kRows; ++i) {
      const __m512bh x = (__m512bh)_mm512_maskz_loadu_epi16(part, a + i * a_row);
      HWY_UNROLL(3)
      for (int j = 0; j < kPairDotCols; ++j)
        acc[i][j] = _mm512_dpbf16_ps(acc[i][j], x, (__m512bh)bv[j]);
    }
  }
  HWY_UNROLL(8)
  for (int i = 0; i < kRows; ++i) {
    HWY_UNROLL(3)
    for (int j = 0; j < kPairDotCols; ++j) {
      float& to = out[i * out_row + j];
      to = _mm512_reduce_add_ps(acc[i][j]) + (accumulate ? to : 0.0f);
    }
  }
  alignas(64) uint16_t each[kLanes];
  _mm512_store_si512(each, least);
  uint32_t found = 0xffff;
  for (const uint16_t x : each) found = std::min<uint32_t>(found, x);
  return found;
}

HWY_POP_ATTRIBUTES

HWY_INLINE uint32_t RunPairDots(int64_t rows, int64_t k, const BFloat* a, int64_t a_row,
                                const BFloat* b, int64_t b_col, float* out, int64_t out_row,
                                bool accumulate) {
  static constexpr decltype(&PairDots<1>) kTable[] = {PairDots<1>, PairDots<2>, PairDots<3>,
                                                      PairDots<4>, PairDots<5>, PairDots<6>,
                                                      PairDots<7>, PairDots<8>};
  return kTable[rows - 1](k, a, a_row, b, b_col, out, out_row, accumulate);
}

/// The same sum by multiply-adds.
HWY_INLINE float ExactDot(int64_t k, const BFloat* HWY_RESTRICT a, const BFloat* HWY_RESTRICT b) {
  const GemmTag<float> d;
  const int64_t N = VectorLanes<float>();
  auto sum = hn::Zero(d);
  int64_t p = 0;
  for (; p + N <= k; p += N) sum = hn::MulAdd(LoadFloats(d, a + p), LoadFloats(d, b + p), sum);
  if (p < k) {
    const auto mask = hn::FirstN(d, static_cast<size_t>(k - p));
    sum = hn::MulAdd(LoadPart(d, mask, k - p, a + p), LoadPart(d, mask, k - p, b + p), sum);
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

/// Most rows of a call: two row panels.
inline constexpr int64_t kMostPairDots = 2 * kPairDotRows;

/// Columns [col0, col1) of C for up to kMostPairDots rows, in panels of as many columns as
/// FinishPairs() takes. Depth is cut into blocks of `kc`, for which A's rows fit L1.
inline void GemmPairDots(const PairProduct& g, int64_t kc, int floor_a, int64_t col0,
                         int64_t col1) {
  const int64_t width = PanelWidth<float>();
  constexpr int64_t kGroups = kNv * 16 / kPairDotCols;
  const int64_t panels = (g.s.m + kPairDotRows - 1) / kPairDotRows;
  float sums[kMostPairDots * kNv * 16];
  for (int64_t col = col0; col < col1; col += width) {
    const int64_t cols = std::min(width, col1 - col);
    uint32_t least[kGroups];
    std::fill_n(least, kGroups, 0xffffu);
    for (int64_t p0 = 0; p0 == 0 || p0 < g.s.k; p0 += kc) {
      const int64_t depth = std::min(kc, g.s.k - p0);
      for (int64_t j = 0; j < cols; j += kPairDotCols) {
        const BFloat* const b = g.b + (col + j) * g.b_col + p0;
        uint32_t& lowest = least[j / kPairDotCols];
        for (int64_t i = 0; i < panels; ++i) {
          const int64_t r0 = g.s.m * i / panels;
          const int64_t rows = g.s.m * (i + 1) / panels - r0;
          const BFloat* const a = g.a + r0 * g.a_row + p0;
          float* const out = sums + r0 * width + j;
          if (HWY_LIKELY(j + kPairDotCols <= cols)) {
            lowest = std::min(lowest,
                              RunPairDots(rows, depth, a, g.a_row, b, g.b_col, out, width, p0 > 0));
            continue;
          }
          // The last columns one by one: each stands for those that are missing as well.
          for (int64_t l = 0; j + l < cols; ++l) {
            float each[kPairDotRows * kPairDotCols];
            lowest = std::min(lowest, RunPairDots(rows, depth, a, g.a_row, b + l * g.b_col, 0, each,
                                                  kPairDotCols, false));
            for (int64_t r = 0; r < rows; ++r)
              out[r * width + l] = each[r * kPairDotCols] + (p0 > 0 ? out[r * width + l] : 0.0f);
          }
        }
      }
    }
    for (int64_t j = 0; j < cols; ++j) {
      if (HWY_LIKELY(NoSubnormals(floor_a, ExponentOf(least[j / kPairDotCols])))) continue;
      for (int64_t i = 0; i < g.s.m; ++i)
        sums[i * width + j] = ExactDot(g.s.k, g.a + i * g.a_row, g.b + (col + j) * g.b_col);
    }
    FinishPairs(g, sums, 0, g.s.m, col, cols);
  }
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // LC_HAS_BF16_DOT

#endif  // toggle guard
