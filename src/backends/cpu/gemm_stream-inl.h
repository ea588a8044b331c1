// Products with a packed weight (pack_weight): panels of columns of B, one row of k after the
// other.
//
// A panel streams past the rows of A, which are read where they lie: nothing is packed, no block of
// k cuts a sum in two, no thread waits for another. The weight may be narrower than the sums (int8)
// and is converted as it is loaded. While one panel is multiplied, the next comes to L2.

#if defined(LC_BACKENDS_CPU_GEMM_STREAM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LC_BACKENDS_CPU_GEMM_STREAM_INL_H_
#undef LC_BACKENDS_CPU_GEMM_STREAM_INL_H_
#else
#define LC_BACKENDS_CPU_GEMM_STREAM_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "backends/cpu/gemm_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// A vector of weights as T: of T itself, or int8 to float.
template <class D, typename W>
HWY_INLINE hn::Vec<D> LoadWeights(D d, const W* p) {
  if constexpr (std::is_same_v<W, int8_t>) {
    const hn::Rebind<int8_t, D> narrow;
    const hn::RebindToSigned<D> wide;
    return hn::ConvertTo(d, hn::PromoteTo(wide, hn::LoadU(narrow, p)));
  } else {
    return hn::LoadU(d, p);
  }
}

/// A packed weight: k by the columns, in panels of `width`, a multiple of the register tile's.
template <typename W>
struct PackedWeight {
  const W* b;
  int64_t k, width;
  /// The tile's columns from `col` on, a multiple of the tile's width.
  [[nodiscard]] HWY_INLINE const W* at(int64_t col) const {
    return b + col / width * k * width + col % width;
  }
};

/// Any packed or narrow weight, an element at a time: what the others do not read.
template <typename T, typename W>
struct ScatteredB {
  const W* b;
  int64_t width;            ///< columns of a panel
  int64_t panel, row, col;  ///< elements from one to the next
  [[nodiscard]] HWY_INLINE bool by_rows() const { return false; }
  [[nodiscard]] HWY_INLINE Ahead ahead(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t) const {
    return {};
  }
  HWY_INLINE void pack(int64_t p0, int64_t kc, int64_t c0, int64_t cols, T* to) const {
    const int64_t NR = PanelWidth<T>();
    for (int64_t j = 0; j < cols; ++j) {
      const W* HWY_RESTRICT from = b + (c0 + j) / width * panel + (c0 + j) % width * col + p0 * row;
      T* HWY_RESTRICT o = to + j / NR * NR * kc + j % NR;
      for (int64_t p = 0; p < kc; ++p) o[p * NR] = static_cast<T>(from[p * row]);
    }
  }
};

/// What a tile fetches while it is computed: a row's worth of lines, `step` bytes further at each
/// step of k.
struct Soon {
  const char* at;
  int64_t step;
};

/// kRows rows of A by one tile's columns of a packed weight; the first `cols` are stored. With few
/// rows steps of k go to accumulators of their own, so that one does not wait for the other.
template <typename T, typename W, int kRows>
HWY_NOINLINE void StreamTile(int64_t k, const T* HWY_RESTRICT a, int64_t a_row, int64_t a_k,
                             const W* HWY_RESTRICT b, int64_t b_k, T* HWY_RESTRICT c, int64_t c_row,
                             int64_t cols, Soon soon) {
  constexpr int kSplit = kMr >= 8 && kRows <= 2 ? 4 / kRows : kRows == 1 ? 2 : 1;
  const GemmTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t N = VectorLanes<T>();
  V acc[kSplit][kRows][kNv];
  for (auto& part : acc)
    for (auto& row : part)
      for (V& v : row) v = hn::Zero(d);
  const auto step = [&](V(&sum)[kRows][kNv]) HWY_ATTR {
    V bv[kNv];
    HWY_UNROLL(3)
    for (int v = 0; v < kNv; ++v) {
      bv[v] = LoadWeights(d, b + v * N);
      if (v == 0 || sizeof(W) == sizeof(T))
        hwy::Prefetch(soon.at + v * N * static_cast<int64_t>(sizeof(W)));
    }
    HWY_UNROLL(16)
    for (int i = 0; i < kRows; ++i) {
      const V x = hn::Set(d, a[i * a_row]);
      HWY_UNROLL(3)
      for (int v = 0; v < kNv; ++v) sum[i][v] = hn::MulAdd(x, bv[v], sum[i][v]);
    }
    a += a_k;
    b += b_k;
    soon.at += soon.step;
  };
  int64_t p = 0;
  for (; p + kSplit <= k; p += kSplit) {
    HWY_UNROLL(4)
    for (int u = 0; u < kSplit; ++u) step(acc[u]);
  }
  for (; p < k; ++p) step(acc[0]);
  HWY_UNROLL(16)
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < kNv; ++v) {
      const int64_t left = cols - v * N;
      if (left <= 0) break;
      V sum = acc[0][i][v];
      for (int u = 1; u < kSplit; ++u) sum = hn::Add(sum, acc[u][i][v]);
      T* HWY_RESTRICT to = c + i * c_row + v * N;
      const int64_t count = std::min(N, left);
      const auto mask = hn::FirstN(d, static_cast<size_t>(count));
      if (count == N)
        hn::StoreU(sum, d, to);
      else
        StorePart(sum, d, mask, count, to);
    }
  }
}

template <typename T, typename W>
using StreamFn = void (*)(int64_t, const T*, int64_t, int64_t, const W*, int64_t, T*, int64_t,
                          int64_t, Soon);

template <typename T, typename W, int... kRow>
HWY_INLINE StreamFn<T, W> FindStream(int64_t rows, std::integer_sequence<int, kRow...>) {
  static constexpr StreamFn<T, W> kTable[] = {StreamTile<T, W, kRow + 1>...};
  return kTable[rows - 1];
}

/// What the `tile`-th of a panel's tiles fetches: a single one, and the first of all, the panel
/// itself as it comes; of several each a share of the next panel.
template <typename W>
HWY_INLINE Soon SoonOf(const PackedWeight<W>& b, const W* panel, const W* next, bool first,
                       int64_t tile, int64_t tiles) {
  constexpr int64_t kAheadBytes = 6144;  // what memory needs to deliver: a page or two
  const int64_t row_bytes = b.width * static_cast<int64_t>(sizeof(W));
  if (tiles == 1 || (first && tile == 0))
    return {reinterpret_cast<const char*>(panel) + kAheadBytes, row_bytes};
  return {reinterpret_cast<const char*>(next) + b.k * tile / tiles * row_bytes, row_bytes / tiles};
}

/// Columns [col0, col1) of C = A B for rows [row0, row1), then the epilogue; col0 is a multiple of
/// the tile's width. C's columns are contiguous.
template <typename T, typename W>
HWY_INLINE void GemmStream(const GemmSizes& s, const GemmEpilogue<T>& e, const T* a, int64_t a_row,
                           int64_t a_k, const PackedWeight<W>& b, T* c, int64_t c_row, int64_t row0,
                           int64_t row1, int64_t col0, int64_t col1) {
  const int64_t NR = PanelWidth<T>();
  const int64_t rows = row1 - row0;
  const int64_t tiles = (rows + kMr - 1) / kMr;
  for (int64_t col = col0; col < col1; col += NR) {
    const int64_t cols = std::min(NR, col1 - col);
    const W* const panel = b.at(col);
    const W* const next = col + NR < col1 ? b.at(col + NR) : panel;
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t r0 = row0 + rows * i / tiles;
      const int64_t height = row0 + rows * (i + 1) / tiles - r0;
      T* const to = c + r0 * c_row + col;
      FindStream<T, W>(height, std::make_integer_sequence<int, kMr>())(
          s.k, a + r0 * a_row, a_row, a_k, panel, b.width, to, c_row, cols,
          SoonOf(b, panel, next, col == col0, i, tiles));
      Finish(e, to, c_row, r0, height, col, cols);
    }
  }
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // LC_BACKENDS_CPU_GEMM_STREAM_INL_H_
