// A few rows times a transposed matrix: C[m, n] = alpha A[m, k] B[n, k]^T with k contiguous in
// both, as in a linear layer's weight. Lanes run along k, so nothing is packed or transposed; a
// register tile of rows by columns reads each vector once for all of its dot products, and sums
// across lanes only at the end. Packing B would cost more than its few rows can pay for.

#if defined(LC_BACKENDS_CPU_GEMM_DOTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LC_BACKENDS_CPU_GEMM_DOTS_INL_H_
#undef LC_BACKENDS_CPU_GEMM_DOTS_INL_H_
#else
#define LC_BACKENDS_CPU_GEMM_DOTS_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "backends/cpu/gemm_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Accumulators: 24 of 32 registers, or 12 of 16 (8 where a product needs a register of its own).
inline constexpr int kDotCols = 4;
inline constexpr int kDotRows = kMr >= 8 ? 6 : kMr >= 6 ? 3 : 2;

/// The sum of the 128-bit blocks of a vector.
template <class D, class V = hn::Vec<D>>
HWY_INLINE auto SumOfBlocks(D d, V v) {
  if constexpr (hn::MaxLanes(D()) * sizeof(hn::TFromD<D>) > 16) {
    const hn::Half<D> half;
    return SumOfBlocks(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  } else {
    (void)d;
    return v;
  }
}

/// to[i] = sum of the lanes of v[i], i < 4.
template <class D, class V = hn::Vec<D>, class T = hn::TFromD<D>>
HWY_INLINE void SumsOfLanes(D d, const V* v, T* HWY_RESTRICT to) {
  const auto pair = [&](V a, V b) HWY_ATTR {
    return hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b));
  };
  if constexpr (sizeof(T) == 8) {
    const hn::FixedTag<T, 2> block;
    hn::StoreU(SumOfBlocks(d, pair(v[0], v[1])), block, to);
    hn::StoreU(SumOfBlocks(d, pair(v[2], v[3])), block, to + 2);
  } else {
    const hn::Repartition<double, D> wide;
    const hn::FixedTag<T, 4> block;
    const auto low = hn::BitCast(wide, pair(v[0], v[1]));
    const auto high = hn::BitCast(wide, pair(v[2], v[3]));
    const V sums = hn::Add(hn::BitCast(d, hn::InterleaveLower(wide, low, high)),
                           hn::BitCast(d, hn::InterleaveUpper(wide, low, high)));
    hn::StoreU(SumOfBlocks(d, sums), block, to);
  }
}

/// kRows rows of A by kDotCols rows of B, which may be of float16 or bfloat16.
template <typename T, int kRows, typename TB>
HWY_NOINLINE void DotTile(int64_t k, const T* HWY_RESTRICT a, int64_t a_row,
                          const TB* HWY_RESTRICT b, int64_t b_col, T alpha, bool accumulate,
                          T* HWY_RESTRICT c, int64_t c_row) {
  const GemmTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t N = VectorLanes<T>();
  V acc[kRows][kDotCols];
  HWY_UNROLL(8)
  for (auto& row : acc) {
    HWY_UNROLL(4)
    for (V& v : row) v = hn::Zero(d);
  }
  const auto step = [&](const auto& load) HWY_ATTR {
    V bv[kDotCols];
    HWY_UNROLL(4)
    for (int j = 0; j < kDotCols; ++j) bv[j] = load(b + j * b_col);
    HWY_UNROLL(8)
    for (int i = 0; i < kRows; ++i) {
      const V x = load(a + i * a_row);
      HWY_UNROLL(4)
      for (int j = 0; j < kDotCols; ++j) acc[i][j] = hn::MulAdd(x, bv[j], acc[i][j]);
    }
  };
  int64_t p = 0;
  for (; p + N <= k; p += N, a += N, b += N) {
    // The columns that come next: the hardware's prefetchers start anew on every one of them.
    HWY_UNROLL(4)
    for (int j = 0; j < kDotCols; ++j) hwy::Prefetch(b + (kDotCols + j) * b_col);
    step([&](const auto* from) HWY_ATTR { return LoadFloats(d, from); });
  }
  if (p < k) {
    const auto mask = hn::FirstN(d, static_cast<size_t>(k - p));
    step([&](const auto* from) HWY_ATTR { return LoadPart(d, mask, k - p, from); });
  }
  HWY_UNROLL(8)
  for (int i = 0; i < kRows; ++i) {
    T sums[kDotCols];
    SumsOfLanes(d, acc[i], sums);
    for (int j = 0; j < kDotCols; ++j) {
      T& to = c[i * c_row + j];
      to = alpha * sums[j] + (accumulate ? to : T{0});
    }
  }
}

template <typename T, typename TB>
HWY_INLINE void DotRows(int64_t rows, int64_t k, const T* a, int64_t a_row, const TB* b,
                        int64_t b_col, T alpha, bool accumulate, T* c, int64_t c_row) {
  static_assert(kDotRows <= 6);
  switch (rows) {
    case 1:
      return DotTile<T, 1>(k, a, a_row, b, b_col, alpha, accumulate, c, c_row);
    case 2:
      return DotTile<T, 2>(k, a, a_row, b, b_col, alpha, accumulate, c, c_row);
    case 3:
      return DotTile<T, std::min(3, kDotRows)>(k, a, a_row, b, b_col, alpha, accumulate, c, c_row);
    case 4:
      return DotTile<T, std::min(4, kDotRows)>(k, a, a_row, b, b_col, alpha, accumulate, c, c_row);
    case 5:
      return DotTile<T, std::min(5, kDotRows)>(k, a, a_row, b, b_col, alpha, accumulate, c, c_row);
    default:
      return DotTile<T, kDotRows>(k, a, a_row, b, b_col, alpha, accumulate, c, c_row);
  }
}

/// Columns [col0, col1) of C, whose columns are contiguous. B's column j is at b + j * b_col. Depth
/// is cut into blocks of `kc`, for which all rows of A fit L1: every group of columns reads them.
template <typename T, typename TB>
void GemmDots(const GemmSizes& s, int64_t kc, const GemmEpilogue<T>& e, const T* a, int64_t a_row,
              const TB* b, int64_t b_col, T* c, int64_t c_row, int64_t col0, int64_t col1) {
  const T alpha = static_cast<T>(s.alpha);
  const int64_t panels = (s.m + kDotRows - 1) / kDotRows;
  for (int64_t p0 = 0; p0 == 0 || p0 < s.k; p0 += kc) {
    const int64_t depth = std::min(kc, s.k - p0);
    for (int64_t j = col0; j < col1; j += kDotCols) {
      const int64_t cols = std::min<int64_t>(kDotCols, col1 - j);
      for (int64_t i = 0; i < panels; ++i) {
        const int64_t r0 = s.m * i / panels;
        const int64_t rows = s.m * (i + 1) / panels - r0;
        const T* const from = a + r0 * a_row + p0;
        T* const to = c + r0 * c_row + j;
        if (HWY_LIKELY(cols == kDotCols)) {
          DotRows(rows, depth, from, a_row, b + j * b_col + p0, b_col, alpha, p0 > 0, to, c_row);
          continue;
        }
        // The last columns one by one: each stands for those that are missing as well.
        T tile[kDotRows * kDotCols];
        for (int64_t l = 0; l < cols; ++l) {
          DotRows(rows, depth, from, a_row, b + (j + l) * b_col + p0, int64_t{0}, alpha, false,
                  tile, int64_t{kDotCols});
          for (int64_t r = 0; r < rows; ++r)
            to[r * c_row + l] = tile[r * kDotCols] + (p0 > 0 ? to[r * c_row + l] : T{0});
        }
      }
    }
  }
  Finish(e, c + col0, c_row, 0, s.m, col0, col1 - col0);
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // LC_BACKENDS_CPU_GEMM_DOTS_INL_H_
