// The matrix product behind matmul, linear and conv2d (Goto and van de Geijn 2008; Van Zee and van
// de Geijn 2015), once for each instruction set.
//
// C[m, n] = alpha * A[m, k] B[k, n], then bias and activation. The k dimension is cut into blocks
// whose B panel (kc x NR) stays in L1; the rows into blocks whose packed A stays in L2. For each
// block the threads first pack A together, then split the columns: each packs the B panels of its
// own columns just before it uses them: once a row block, and without a barrier.
//
// Rows are spread over panels of nearly equal height instead of full panels and a remainder: 128
// rows are ten panels of 12 and 13, not nine of 14 and one of 2.

#if defined(LC_BACKENDS_CPU_GEMM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LC_BACKENDS_CPU_GEMM_INL_H_
#undef LC_BACKENDS_CPU_GEMM_INL_H_
#else
#define LC_BACKENDS_CPU_GEMM_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "backends/cpu/gemm.hpp"
#include "backends/cpu/thread_pool.hpp"
#include "backends/cpu/vector_math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <typename T>
using GemmTag = hn::ScalableTag<T>;

// Register tile: kMr rows by two vectors. 28 accumulators of 32 registers on AVX-512, 12 of 16
// elsewhere; NEON has 32 registers of 4 floats.
#if HWY_TARGET == HWY_AVX3
inline constexpr int kMr = 14;
#elif HWY_TARGET == HWY_NEON
inline constexpr int kMr = 12;
#elif HWY_TARGET == HWY_AVX2
inline constexpr int kMr = 6;
#else
inline constexpr int kMr = 4;
#endif

/// The first `count` elements at p, zeros after them; `mask` is FirstN(count). Below AVX2 Highway's
/// masked loads touch the whole vector.
template <class D, class M, class T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> LoadPart(D d, M mask, int64_t count, const T* p) {
  if constexpr (kMaskedTails)
    return hn::MaskedLoad(mask, d, p);
  else
    return LoadTail(d, p, static_cast<size_t>(count), T{0});
}

template <class D, class M, class V, class T = hn::TFromD<D>>
HWY_INLINE void StorePart(V v, D d, M mask, int64_t count, T* p) {
  if constexpr (kMaskedTails)
    hn::BlendedStore(v, mask, d, p);
  else
    StoreTail(v, d, p, static_cast<size_t>(count));
}

template <typename T>
HWY_INLINE int64_t VectorLanes() {
  return static_cast<int64_t>(hn::Lanes(GemmTag<T>()));
}

/// One register tile over k products. A: element (i, p) at a[i * a_row + p * a_k]; B: row p at
/// b + p * b_k; C: row i at c + i * c_row. `cols` counts what is stored of kNv vectors where
/// kMasked (B must then be readable over whole vectors, or `mask_b` set).
template <typename T, int kRows, int kNv, bool kMasked, bool kPackedA>
HWY_NOINLINE void Tile(int64_t k, const T* HWY_RESTRICT a, int64_t a_row, int64_t a_k,
                       const T* HWY_RESTRICT b, int64_t b_k, T* HWY_RESTRICT c, int64_t c_row,
                       T alpha, bool accumulate, int64_t cols) {
  const GemmTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const auto N = static_cast<int64_t>(hn::Lanes(d));
  const int64_t rest = kMasked ? cols - (kNv - 1) * N : N;  // columns of the last vector
  const auto last = hn::FirstN(d, static_cast<size_t>(rest));
  const V zero = hn::Zero(d);
#define LC_DECLARE(i) \
  V x##i = zero;      \
  V y##i = zero;
  // clang-format off
  LC_DECLARE(0) LC_DECLARE(1) LC_DECLARE(2) LC_DECLARE(3) LC_DECLARE(4) LC_DECLARE(5) LC_DECLARE(6)
  LC_DECLARE(7) LC_DECLARE(8) LC_DECLARE(9) LC_DECLARE(10) LC_DECLARE(11) LC_DECLARE(12)
  LC_DECLARE(13)
  // clang-format on
#undef LC_DECLARE
          for (int64_t p = 0; p < k; ++p) {
    V b0;
    V b1 = zero;
    if constexpr (kNv == 2) {
      b0 = hn::LoadU(d, b);
      b1 = kMasked ? LoadPart(d, last, rest, b + N) : hn::LoadU(d, b + N);
    } else {
      b0 = kMasked ? LoadPart(d, last, rest, b) : hn::LoadU(d, b);
    }
#define LC_ROW(i)                                           \
  if constexpr (kRows > i) {                                \
    const V v = hn::Set(d, kPackedA ? a[i] : a[i * a_row]); \
    x##i = hn::MulAdd(v, b0, x##i);                         \
    if constexpr (kNv == 2) y##i = hn::MulAdd(v, b1, y##i); \
  }
    // clang-format off
    LC_ROW(0) LC_ROW(1) LC_ROW(2) LC_ROW(3) LC_ROW(4) LC_ROW(5) LC_ROW(6) LC_ROW(7) LC_ROW(8)
    LC_ROW(9) LC_ROW(10) LC_ROW(11) LC_ROW(12) LC_ROW(13)
    // clang-format on
#undef LC_ROW
            a += kPackedA ? kRows : a_k;
    b += b_k;
  }
  const V scale = hn::Set(d, alpha);
  const auto store = [&](T* HWY_RESTRICT to, V x, V y) HWY_ATTR {
    if constexpr (kNv == 2) {
      hn::StoreU(accumulate ? hn::MulAdd(x, scale, hn::LoadU(d, to)) : hn::Mul(x, scale), d, to);
      to += N;
      x = y;
    }
    if constexpr (kMasked) {
      const V old = accumulate ? LoadPart(d, last, rest, to) : zero;
      StorePart(hn::MulAdd(x, scale, old), d, last, rest, to);
    } else {
      hn::StoreU(accumulate ? hn::MulAdd(x, scale, hn::LoadU(d, to)) : hn::Mul(x, scale), d, to);
    }
  };
#define LC_STORE(i) \
  if constexpr (kRows > i) store(c + i * c_row, x##i, y##i);
  // clang-format off
  LC_STORE(0) LC_STORE(1) LC_STORE(2) LC_STORE(3) LC_STORE(4) LC_STORE(5) LC_STORE(6) LC_STORE(7)
  LC_STORE(8) LC_STORE(9) LC_STORE(10) LC_STORE(11) LC_STORE(12) LC_STORE(13)
  // clang-format on
#undef LC_STORE
}

template <typename T>
using TileFn = void (*)(int64_t, const T*, int64_t, int64_t, const T*, int64_t, T*, int64_t, T,
                        bool, int64_t);

/// [rows - 1][vectors - 1][masked]
template <typename T, bool kPackedA, int... kRow>
HWY_INLINE TileFn<T> FindTile(int rows, int vectors, bool masked,
                              std::integer_sequence<int, kRow...>) {
  static constexpr TileFn<T> kTable[][2][2] = {
      {{Tile<T, kRow + 1, 1, false, kPackedA>, Tile<T, kRow + 1, 1, true, kPackedA>},
       {Tile<T, kRow + 1, 2, false, kPackedA>, Tile<T, kRow + 1, 2, true, kPackedA>}}...};
  return kTable[rows - 1][vectors - 1][masked ? 1 : 0];
}

template <typename T, bool kPackedA>
HWY_INLINE void RunTile(int64_t rows, int64_t cols, int64_t k, const T* a, int64_t a_row,
                        int64_t a_k, const T* b, int64_t b_k, T* c, int64_t c_row, T alpha,
                        bool accumulate) {
  const int64_t N = VectorLanes<T>();
  const int vectors = cols > N ? 2 : 1;
  const bool masked = cols != vectors * N;
  FindTile<T, kPackedA>(static_cast<int>(rows), vectors, masked,
                        std::make_integer_sequence<int, kMr>())(k, a, a_row, a_k, b, b_k, c, c_row,
                                                                alpha, accumulate, cols);
}

/// to[p * to_step + i] = from[i * row + p] for i < rows, p < k: 128-bit blocks transposed in
/// registers, the rest by elements.
template <typename T>
HWY_INLINE void PackTransposed(const T* HWY_RESTRICT from, int64_t row, int64_t rows, int64_t k,
                               T* HWY_RESTRICT to, int64_t to_step) {
  int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  constexpr int64_t kBlock = 16 / static_cast<int64_t>(sizeof(T));
  const hn::FixedTag<T, kBlock> d;
  for (; i + kBlock <= rows; i += kBlock) {
    const T* HWY_RESTRICT r = from + i * row;
    T* HWY_RESTRICT o = to + i;
    int64_t p = 0;
    for (; p + kBlock <= k; p += kBlock) {
      if constexpr (kBlock == 4) {
        const auto v0 = hn::LoadU(d, r + p);
        const auto v1 = hn::LoadU(d, r + row + p);
        const auto v2 = hn::LoadU(d, r + 2 * row + p);
        const auto v3 = hn::LoadU(d, r + 3 * row + p);
        const auto a0 = hn::InterleaveLower(d, v0, v2);
        const auto a1 = hn::InterleaveLower(d, v1, v3);
        const auto a2 = hn::InterleaveUpper(d, v0, v2);
        const auto a3 = hn::InterleaveUpper(d, v1, v3);
        hn::StoreU(hn::InterleaveLower(d, a0, a1), d, o + p * to_step);
        hn::StoreU(hn::InterleaveUpper(d, a0, a1), d, o + (p + 1) * to_step);
        hn::StoreU(hn::InterleaveLower(d, a2, a3), d, o + (p + 2) * to_step);
        hn::StoreU(hn::InterleaveUpper(d, a2, a3), d, o + (p + 3) * to_step);
      } else {
        const auto v0 = hn::LoadU(d, r + p);
        const auto v1 = hn::LoadU(d, r + row + p);
        hn::StoreU(hn::InterleaveLower(d, v0, v1), d, o + p * to_step);
        hn::StoreU(hn::InterleaveUpper(d, v0, v1), d, o + (p + 1) * to_step);
      }
    }
    for (; p < k; ++p)
      for (int64_t e = 0; e < kBlock; ++e) o[p * to_step + e] = r[e * row + p];
  }
#endif
  for (; i < rows; ++i)
    for (int64_t p = 0; p < k; ++p) to[p * to_step + i] = from[i * row + p];
}

/// Panel of `rows` rows (columns of B) by k, element (i, p) from from[i * row + p * step].
template <typename T>
HWY_INLINE void PackPanel(const T* from, int64_t row, int64_t step, int64_t rows, int64_t k, T* to,
                          int64_t to_step) {
  if (step == 1) {
    PackTransposed(from, row, rows, k, to, to_step);
  } else if (row == 1) {
    const GemmTag<T> d;
    const int64_t N = VectorLanes<T>();
    for (int64_t p = 0; p < k; ++p) {
      const T* HWY_RESTRICT s = from + p * step;
      T* HWY_RESTRICT o = to + p * to_step;
      int64_t i = 0;
      for (; i + N <= rows; i += N) hn::StoreU(hn::LoadU(d, s + i), d, o + i);
      for (; i < rows; ++i) o[i] = s[i];
    }
  } else {
    for (int64_t p = 0; p < k; ++p)
      for (int64_t i = 0; i < rows; ++i) to[p * to_step + i] = from[i * row + p * step];
  }
}

/// Bias and activation over a finished block of C, in place.
template <typename T, Activation kActivation>
HWY_NOINLINE void FinishRows(const GemmEpilogue<T>& e, T* c, int64_t c_row, int64_t row,
                             int64_t rows, int64_t col, int64_t cols) {
  const GemmTag<T> d;
  const int64_t N = VectorLanes<T>();
  for (int64_t i = 0; i < rows; ++i) {
    T* HWY_RESTRICT p = c + i * c_row;
    const auto row_bias =
        hn::Set(d, e.row_bias != nullptr ? e.row_bias[(row + i) * e.bias_step] : T{0});
    const bool vector_bias = e.col_bias != nullptr && e.bias_step == 1;
    for (int64_t j = 0; j < cols; j += N) {
      const int64_t n = std::min(N, cols - j);
      const auto mask = hn::FirstN(d, static_cast<size_t>(n));
      auto v = hn::Add(LoadPart(d, mask, n, p + j), row_bias);
      if (vector_bias) {
        v = hn::Add(v, LoadPart(d, mask, n, e.col_bias + col + j));
      } else if (e.col_bias != nullptr) {
        alignas(64) T lanes[hn::MaxLanes(d)] = {};
        for (int64_t l = 0; l < n; ++l) lanes[l] = e.col_bias[(col + j + l) * e.bias_step];
        v = hn::Add(v, hn::Load(d, lanes));
      }
      v = ActivateT<kActivation>(d, v);
      if (n == N)
        hn::StoreU(v, d, p + j);
      else
        StorePart(v, d, mask, n, p + j);
    }
  }
}

template <typename T>
HWY_INLINE void Finish(const GemmEpilogue<T>& e, T* c, int64_t c_row, int64_t row, int64_t rows,
                       int64_t col, int64_t cols) {
  if (!e.any()) return;
  switch (e.activation) {
    case Activation::kNone:
      return FinishRows<T, Activation::kNone>(e, c, c_row, row, rows, col, cols);
    case Activation::kRelu:
      return FinishRows<T, Activation::kRelu>(e, c, c_row, row, rows, col, cols);
    case Activation::kGelu:
      return FinishRows<T, Activation::kGelu>(e, c, c_row, row, rows, col, cols);
    case Activation::kGeluTanh:
      return FinishRows<T, Activation::kGeluTanh>(e, c, c_row, row, rows, col, cols);
    case Activation::kSilu:
      return FinishRows<T, Activation::kSilu>(e, c, c_row, row, rows, col, cols);
    case Activation::kSigmoid:
      return FinishRows<T, Activation::kSigmoid>(e, c, c_row, row, rows, col, cols);
    case Activation::kTanh:
      return FinishRows<T, Activation::kTanh>(e, c, c_row, row, rows, col, cols);
  }
}

/// First row of panel i of `panels` nearly equal ones.
HWY_INLINE int64_t PanelRow(int64_t rows, int64_t panels, int64_t i) { return rows * i / panels; }

/// Columns [col, col + cols) of one row block: packs B panel by panel (or reads it in place) and
/// multiplies with the packed rows. `pack_b(p0, kc, col, width, to, step)` fills a panel.
template <typename T, typename PackB>
HWY_INLINE void GemmColumns(const GemmSizes& s, const GemmEpilogue<T>& e, const T* packed_a,
                            int64_t row0, int64_t rows, int64_t p0, int64_t kc, int64_t col0,
                            int64_t col1, T* c, int64_t c_row, int64_t c_col, T* panel,
                            PackB&& pack_b) {
  const int64_t NR = 2 * VectorLanes<T>();
  const bool first = p0 == 0;
  const bool last = p0 + kc >= s.k;
  const int64_t panels = (rows + kMr - 1) / kMr;
  alignas(64) T tile[kMr * 2 * hn::MaxLanes(GemmTag<T>())];
  for (int64_t col = col0; col < col1; col += NR) {
    const int64_t cols = std::min(NR, col1 - col);
    const T* b = panel;
    int64_t b_step = NR;
    pack_b(p0, kc, col, cols, panel, &b, &b_step);
    for (int64_t i = 0; i < panels; ++i) {
      const int64_t r0 = PanelRow(rows, panels, i);
      const int64_t height = PanelRow(rows, panels, i + 1) - r0;
      const T* a = packed_a + r0 * kc;
      T* to = c + (row0 + r0) * c_row + col * c_col;
      if (HWY_LIKELY(c_col == 1)) {
        RunTile<T, true>(height, cols, kc, a, 0, 0, b, b_step, to, c_row, static_cast<T>(s.alpha),
                         !first);
        if (last) Finish(e, to, c_row, row0 + r0, height, col, cols);
        continue;
      }
      // Columns apart: through a tile with unit stride.
      if (!first)
        for (int64_t r = 0; r < height; ++r)
          for (int64_t j = 0; j < cols; ++j) tile[r * NR + j] = to[r * c_row + j * c_col];
      RunTile<T, true>(height, cols, kc, a, 0, 0, b, b_step, tile, NR, static_cast<T>(s.alpha),
                       !first);
      if (last) Finish(e, tile, NR, row0 + r0, height, col, cols);
      for (int64_t r = 0; r < height; ++r)
        for (int64_t j = 0; j < cols; ++j) to[r * c_row + j * c_col] = tile[r * NR + j];
    }
  }
}

/// The whole product. `workspace` holds GemmWorkspace() elements. `threads` 1: on the caller.
template <typename T, typename PackB>
void GemmPacked(const GemmSizes& s, const GemmBlocks& blocks, const GemmEpilogue<T>& e, const T* a,
                int64_t a_row, int64_t a_k, T* c, int64_t c_row, int64_t c_col, T* workspace,
                int64_t threads, PackB&& pack_b) {
  const int64_t NR = 2 * VectorLanes<T>();
  T* const packed_a = workspace;
  T* const panels_b = workspace + blocks.a_elements;
  const int64_t column_panels = (s.n + NR - 1) / NR;
  const int64_t k_blocks = std::max<int64_t>((s.k + blocks.kc - 1) / blocks.kc, 1);
  const int64_t row_blocks = (s.m + blocks.mc - 1) / blocks.mc;
  // More threads than column panels: the rows are shared out too.
  const int64_t col_parts = std::max<int64_t>(std::min(threads, column_panels), 1);
  const int64_t row_parts = std::max<int64_t>(threads / col_parts, 1);
  for (int64_t rb = 0; rb < row_blocks; ++rb) {
    const int64_t row0 = s.m * rb / row_blocks;
    const int64_t rows = s.m * (rb + 1) / row_blocks - row0;
    for (int64_t kb = 0; kb < k_blocks; ++kb) {
      const int64_t p0 = s.k * kb / k_blocks;
      const int64_t kc = s.k * (kb + 1) / k_blocks - p0;
      const auto part_rows = [&](int64_t part) { return rows * part / row_parts; };
      const auto pack_part = [&](int64_t part) HWY_ATTR {
        const int64_t begin = part_rows(part);
        const int64_t n = part_rows(part + 1) - begin;
        const int64_t panels = (n + kMr - 1) / kMr;
        for (int64_t i = 0; i < panels; ++i) {
          const int64_t r = PanelRow(n, panels, i);
          const int64_t height = PanelRow(n, panels, i + 1) - r;
          PackPanel(a + (row0 + begin + r) * a_row + p0 * a_k, a_row, a_k, height, kc,
                    packed_a + (begin + r) * kc, height);
        }
      };
      const auto multiply = [&](int64_t task) HWY_ATTR {
        const int64_t part = task / col_parts;
        const int64_t t = task % col_parts;
        const int64_t begin = part_rows(part);
        const int64_t col0 = column_panels * t / col_parts * NR;
        const int64_t col1 = std::min(column_panels * (t + 1) / col_parts * NR, s.n);
        GemmColumns<T>(s, e, packed_a + begin * kc, row0 + begin, part_rows(part + 1) - begin, p0,
                       kc, col0, col1, c, c_row, c_col, panels_b + task * blocks.b_elements,
                       pack_b);
      };
      if (threads <= 1) {
        pack_part(0);
        multiply(0);
        continue;
      }
      if (row_parts == 1) {
        // One part, packed by all: panel boundaries are those of the whole block.
        const int64_t panels = (rows + kMr - 1) / kMr;
        parallel_for(std::min(threads, panels), [&](int64_t t) HWY_ATTR {
          const int64_t share = std::min(threads, panels);
          for (int64_t i = panels * t / share; i < panels * (t + 1) / share; ++i) {
            const int64_t r = PanelRow(rows, panels, i);
            const int64_t height = PanelRow(rows, panels, i + 1) - r;
            PackPanel(a + (row0 + r) * a_row + p0 * a_k, a_row, a_k, height, kc, packed_a + r * kc,
                      height);
          }
        });
      } else {
        parallel_for(row_parts, pack_part);
      }
      parallel_for(row_parts * col_parts, multiply);
    }
  }
}

/// Without packing: for products so small that packing would cost more than it saves. B has unit
/// column stride.
template <typename T>
HWY_INLINE void GemmDirect(const GemmSizes& s, const GemmEpilogue<T>& e, const T* a, int64_t a_row,
                           int64_t a_k, const T* b, int64_t b_row, T* c, int64_t c_row) {
  const int64_t NR = 2 * VectorLanes<T>();
  const int64_t panels = (s.m + kMr - 1) / kMr;
  for (int64_t col = 0; col < s.n; col += NR) {
    const int64_t cols = std::min(NR, s.n - col);
    for (int64_t i = 0; i < panels; ++i) {
      const int64_t r0 = PanelRow(s.m, panels, i);
      const int64_t height = PanelRow(s.m, panels, i + 1) - r0;
      T* to = c + r0 * c_row + col;
      RunTile<T, false>(height, cols, s.k, a + r0 * a_row, a_row, a_k, b + col, b_row, to, c_row,
                        static_cast<T>(s.alpha), false);
      Finish(e, to, c_row, r0, height, col, cols);
    }
  }
}

/// A B packer for an ordinary matrix: copies, or reads in place where rows are contiguous and the
/// panel is used by few row panels.
template <typename T>
struct MatrixB {
  const T* b;
  int64_t row, col;
  bool in_place;
  HWY_INLINE void operator()(int64_t p0, int64_t kc, int64_t c0, int64_t cols, T* panel,
                             const T** from, int64_t* step) const {
    const T* source = b + p0 * row + c0 * col;
    if (in_place) {
      *from = source;
      *step = row;
      return;
    }
    const int64_t NR = 2 * VectorLanes<T>();
    PackPanel(source, col, row, cols, kc, panel, NR);
  }
};

/// y[n] = x[k] B[k, n], B's rows contiguous: sums of rows, eight vectors of columns at a time.
template <typename T>
HWY_INLINE void GemvRows(const GemmSizes& s, const T* x, int64_t x_step, const T* b, int64_t b_row,
                         T* y, int64_t y_step, int64_t col0, int64_t col1) {
  const GemmTag<T> d;
  const int64_t N = VectorLanes<T>();
  const auto alpha = hn::Set(d, static_cast<T>(s.alpha));
  int64_t j = col0;
  for (; j + 8 * N <= col1 && y_step == 1; j += 8 * N) {
    auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
    const T* HWY_RESTRICT r = b + j;
    for (int64_t p = 0; p < s.k; ++p, r += b_row) {
      const auto v = hn::Set(d, x[p * x_step]);
      s0 = hn::MulAdd(v, hn::LoadU(d, r), s0);
      s1 = hn::MulAdd(v, hn::LoadU(d, r + N), s1);
      s2 = hn::MulAdd(v, hn::LoadU(d, r + 2 * N), s2);
      s3 = hn::MulAdd(v, hn::LoadU(d, r + 3 * N), s3);
      s4 = hn::MulAdd(v, hn::LoadU(d, r + 4 * N), s4);
      s5 = hn::MulAdd(v, hn::LoadU(d, r + 5 * N), s5);
      s6 = hn::MulAdd(v, hn::LoadU(d, r + 6 * N), s6);
      s7 = hn::MulAdd(v, hn::LoadU(d, r + 7 * N), s7);
    }
    T* HWY_RESTRICT o = y + j;
    hn::StoreU(hn::Mul(s0, alpha), d, o);
    hn::StoreU(hn::Mul(s1, alpha), d, o + N);
    hn::StoreU(hn::Mul(s2, alpha), d, o + 2 * N);
    hn::StoreU(hn::Mul(s3, alpha), d, o + 3 * N);
    hn::StoreU(hn::Mul(s4, alpha), d, o + 4 * N);
    hn::StoreU(hn::Mul(s5, alpha), d, o + 5 * N);
    hn::StoreU(hn::Mul(s6, alpha), d, o + 6 * N);
    hn::StoreU(hn::Mul(s7, alpha), d, o + 7 * N);
  }
  for (; j < col1; j += N) {
    const int64_t n = std::min(N, col1 - j);
    const auto mask = hn::FirstN(d, static_cast<size_t>(n));
    auto sum = hn::Zero(d);
    const T* r = b + j;
    for (int64_t p = 0; p < s.k; ++p, r += b_row)
      sum = hn::MulAdd(hn::Set(d, x[p * x_step]), LoadPart(d, mask, n, r), sum);
    sum = hn::Mul(sum, alpha);
    if (y_step == 1) {
      StorePart(sum, d, mask, n, y + j);
    } else {
      alignas(64) T lanes[hn::MaxLanes(d)];
      hn::Store(sum, d, lanes);
      for (int64_t l = 0; l < n; ++l) y[(j + l) * y_step] = lanes[l];
    }
  }
}

/// y[n] = x[k] B[k, n], B's columns contiguous (a weight matrix): dot products, four at a time.
template <typename T>
HWY_INLINE void GemvDots(const GemmSizes& s, const T* x, const T* b, int64_t b_col, T* y,
                         int64_t y_step, int64_t col0, int64_t col1) {
  const GemmTag<T> d;
  const int64_t N = VectorLanes<T>();
  const T alpha = static_cast<T>(s.alpha);
  const auto sum_of = [&](auto a0, auto a1)
                          HWY_ATTR { return hn::GetLane(hn::SumOfLanes(d, hn::Add(a0, a1))); };
  const int64_t whole = s.k / (2 * N) * (2 * N);
  int64_t j = col0;
  for (; j + 4 <= col1; j += 4) {
    const T* HWY_RESTRICT r0 = b + j * b_col;
    const T* HWY_RESTRICT r1 = r0 + b_col;
    const T* HWY_RESTRICT r2 = r1 + b_col;
    const T* HWY_RESTRICT r3 = r2 + b_col;
    auto a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0, a4 = a0, a5 = a0, a6 = a0, a7 = a0;
    int64_t p = 0;
    for (; p < whole; p += 2 * N) {
      const auto v0 = hn::LoadU(d, x + p);
      const auto v1 = hn::LoadU(d, x + p + N);
      a0 = hn::MulAdd(v0, hn::LoadU(d, r0 + p), a0);
      a1 = hn::MulAdd(v1, hn::LoadU(d, r0 + p + N), a1);
      a2 = hn::MulAdd(v0, hn::LoadU(d, r1 + p), a2);
      a3 = hn::MulAdd(v1, hn::LoadU(d, r1 + p + N), a3);
      a4 = hn::MulAdd(v0, hn::LoadU(d, r2 + p), a4);
      a5 = hn::MulAdd(v1, hn::LoadU(d, r2 + p + N), a5);
      a6 = hn::MulAdd(v0, hn::LoadU(d, r3 + p), a6);
      a7 = hn::MulAdd(v1, hn::LoadU(d, r3 + p + N), a7);
    }
    for (; p < s.k; p += N) {
      const int64_t n = std::min(N, s.k - p);
      const auto mask = hn::FirstN(d, static_cast<size_t>(n));
      const auto v = LoadPart(d, mask, n, x + p);
      a0 = hn::MulAdd(v, LoadPart(d, mask, n, r0 + p), a0);
      a2 = hn::MulAdd(v, LoadPart(d, mask, n, r1 + p), a2);
      a4 = hn::MulAdd(v, LoadPart(d, mask, n, r2 + p), a4);
      a6 = hn::MulAdd(v, LoadPart(d, mask, n, r3 + p), a6);
    }
    y[j * y_step] = alpha * sum_of(a0, a1);
    y[(j + 1) * y_step] = alpha * sum_of(a2, a3);
    y[(j + 2) * y_step] = alpha * sum_of(a4, a5);
    y[(j + 3) * y_step] = alpha * sum_of(a6, a7);
  }
  for (; j < col1; ++j) {
    const T* HWY_RESTRICT r = b + j * b_col;
    auto a0 = hn::Zero(d);
    for (int64_t p = 0; p < s.k; p += N) {
      const int64_t n = std::min(N, s.k - p);
      const auto mask = hn::FirstN(d, static_cast<size_t>(n));
      a0 = hn::MulAdd(LoadPart(d, mask, n, x + p), LoadPart(d, mask, n, r + p), a0);
    }
    y[j * y_step] = alpha * hn::GetLane(hn::SumOfLanes(d, a0));
  }
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // LC_BACKENDS_CPU_GEMM_INL_H_
