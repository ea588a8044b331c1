// The register tile of a matrix product, the packing it reads, and what follows the sum.

#if defined(LC_BACKENDS_CPU_GEMM_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LC_BACKENDS_CPU_GEMM_TILE_INL_H_
#undef LC_BACKENDS_CPU_GEMM_TILE_INL_H_
#else
#define LC_BACKENDS_CPU_GEMM_TILE_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "backends/cpu/gemm.hpp"
#include "backends/cpu/half-inl.h"
#include "backends/cpu/vector_math-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <typename T>
using GemmTag = hn::ScalableTag<T>;

// Register tile: kMr rows by kNv vectors. 24 accumulators of 32 registers on AVX-512 and NEON, 12
// or 8 of 16 elsewhere. Few rows on AVX-512, and wide ones: rows of C that lie a multiple of 4096
// bytes apart share one set of L1, which has 8 to 12 ways.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
inline constexpr int kMr = 8;
inline constexpr int kNv = 3;
#elif HWY_TARGET == HWY_AVX2
inline constexpr int kMr = 6;
inline constexpr int kNv = 2;
#else
inline constexpr int kMr = 4;
inline constexpr int kNv = 2;
#endif

/// The first `count` elements at p, zeros after them; `mask` is FirstN(count). Below AVX2 Highway's
/// masked loads touch the whole vector, and those of 16-bit elements below AVX-512.
template <class D, class M, class T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> LoadPart(D d, M mask, int64_t count, const T* p) {
  if constexpr (kMaskedTails)
    return hn::MaskedLoad(mask, d, p);
  else
    return LoadTail(d, p, static_cast<size_t>(count), T{0});
}

template <class D, class M, typename T>
  requires kIsHalf<T>
HWY_INLINE hn::Vec<D> LoadPart(D d, M, int64_t count, const T* p) {
  T whole[hn::MaxLanes(D())] = {};
  std::copy(p, p + count, whole);
  return LoadFloats(d, whole);
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

/// Columns of a panel of B, which is as wide as the register tile.
template <typename T>
HWY_INLINE int64_t PanelWidth() {
  return kNv * VectorLanes<T>();
}

inline constexpr int64_t kLineBytes = 64;

/// Memory that is needed soon, brought to L2 while a tile is computed, `lines` every four steps:
/// rows of `run` lines, `jump` bytes apart. The default does no harm.
struct Ahead {
  const void* at = nullptr;
  int64_t run = 1;
  int64_t jump = 0;
  int64_t lines = 1;
};

/// One register tile over k products. A: element (i, p) at a[i * a_row + p * a_k]; B: row p at
/// b + p * b_k; or both as packed panels, of kRows by k and k by NR. C: row i at c + i * c_row.
/// `cols` counts what is stored of kVectors vectors where kMasked. B may be of float16 or bfloat16
/// where it is not packed.
///
/// A packed panel streams from L2, so it is prefetched kAhead steps ahead. C, which no other tile
/// of this block touches, comes to L1 during the last steps: without that, a fifth of the time goes
/// into waiting for it (docs/performance.md).
template <typename T, int kRows, int kVectors, bool kMasked, bool kPacked, typename TB = T>
HWY_NOINLINE void Tile(int64_t k, const T* HWY_RESTRICT a, int64_t a_row, int64_t a_k,
                       const TB* HWY_RESTRICT b, int64_t b_k, T* HWY_RESTRICT c, int64_t c_row,
                       T alpha, bool accumulate, int64_t cols, const Ahead& ahead) {
  const GemmTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const auto N = static_cast<int64_t>(hn::Lanes(d));
  const int64_t rest = kMasked ? cols - (kVectors - 1) * N : N;  // columns of the last vector
  const auto last = hn::FirstN(d, static_cast<size_t>(rest));
  V acc[kRows][kVectors];
  HWY_UNROLL(16)
  for (auto& row : acc) {
    HWY_UNROLL(3)
    for (auto& v : row) v = hn::Zero(d);
  }
  const auto step = [&](const T* HWY_RESTRICT ap, const TB* HWY_RESTRICT bp) HWY_ATTR {
    V bv[kVectors];
    HWY_UNROLL(3)
    for (int v = 0; v < kVectors; ++v)
      bv[v] = kMasked && v == kVectors - 1 ? LoadPart(d, last, rest, bp + v * N)
                                           : LoadFloats(d, bp + v * N);
    HWY_UNROLL(16)
    for (int i = 0; i < kRows; ++i) {
      const V x = hn::Set(d, kPacked ? ap[i] : ap[i * a_row]);
      HWY_UNROLL(3)
      for (int v = 0; v < kVectors; ++v) acc[i][v] = hn::MulAdd(x, bv[v], acc[i][v]);
    }
  };
  const int64_t next_a = kPacked ? kRows : a_k;
  const int64_t next_b = kPacked ? PanelWidth<T>() : b_k;
  int64_t p = 0;
  if constexpr (kPacked) {
    constexpr int kUnroll = 4;
    constexpr int64_t kAhead = 16 * kRows;
    constexpr int64_t kLine = kLineBytes / static_cast<int64_t>(sizeof(T));
    const char* soon =
        ahead.at != nullptr ? static_cast<const char*>(ahead.at) : reinterpret_cast<const char*>(a);
    int64_t left = ahead.run;
    for (; p + kUnroll <= k - kRows; p += kUnroll) {
      HWY_UNROLL(8)
      for (int64_t at = 0; at < kUnroll * kRows; at += kLine) hwy::Prefetch(a + kAhead + at);
      for (int64_t l = 0; l < ahead.lines; ++l) {
        __builtin_prefetch(soon, 0, 2);
        soon += kLineBytes;
        if (--left == 0) {
          left = ahead.run;
          soon += ahead.jump - ahead.run * kLineBytes;
        }
      }
      HWY_UNROLL(4)
      for (int u = 0; u < kUnroll; ++u) {
        step(a + u * kRows, b + u * next_b);
        HWY_FENCE;  // loads moved up from the next step would cost registers that are not there
      }
      a += kUnroll * kRows;
      b += kUnroll * next_b;
    }
    const T* line = c;
    const T* const last_row = c + (kRows - 1) * c_row;
    for (; p < k; ++p) {
      hwy::Prefetch(line);
      HWY_UNROLL(2)
      for (int v = 1; v < kVectors; ++v) hwy::Prefetch(line + v * N);
      if (line != last_row) line += c_row;
      step(a, b);
      a += next_a;
      b += next_b;
    }
  } else {
    for (; p < k; ++p) {
      step(a, b);
      a += next_a;
      b += next_b;
    }
  }
  const V scale = hn::Set(d, alpha);
  HWY_UNROLL(16)
  for (int i = 0; i < kRows; ++i) {
    T* HWY_RESTRICT to = c + i * c_row;
    HWY_UNROLL(3)
    for (int v = 0; v < kVectors; ++v, to += N) {
      if (kMasked && v == kVectors - 1) {
        const V old = accumulate ? LoadPart(d, last, rest, to) : hn::Zero(d);
        StorePart(hn::MulAdd(acc[i][v], scale, old), d, last, rest, to);
      } else {
        hn::StoreU(
            accumulate ? hn::MulAdd(acc[i][v], scale, hn::LoadU(d, to)) : hn::Mul(acc[i][v], scale),
            d, to);
      }
    }
  }
}

template <typename T, typename TB>
using TileFn = void (*)(int64_t, const T*, int64_t, int64_t, const TB*, int64_t, T*, int64_t, T,
                        bool, int64_t, const Ahead&);

/// Every height of a tile of kVectors vectors: [rows - 1][masked].
template <typename T, typename TB, bool kPacked, int kVectors, int... kRow>
HWY_INLINE TileFn<T, TB> FindTile(int rows, bool masked, std::integer_sequence<int, kRow...>) {
  static constexpr TileFn<T, TB> kTable[][2] = {
      {Tile<T, kRow + 1, kVectors, false, kPacked, TB>,
       Tile<T, kRow + 1, kVectors, true, kPacked, TB>}...};
  return kTable[rows - 1][masked ? 1 : 0];
}

template <typename T, bool kPacked, typename TB>
HWY_INLINE void RunTile(int64_t rows, int64_t cols, int64_t k, const T* a, int64_t a_row,
                        int64_t a_k, const TB* b, int64_t b_k, T* c, int64_t c_row, T alpha,
                        bool accumulate, const Ahead& ahead = {}) {
  static_assert(kNv == 2 || kNv == 3);
  const int64_t N = VectorLanes<T>();
  constexpr auto kHeights = std::make_integer_sequence<int, kMr>();
  const auto height = static_cast<int>(rows);
  const bool masked = cols % N != 0;
  const TileFn<T, TB> run =
      cols > (kNv - 1) * N   ? FindTile<T, TB, kPacked, kNv>(height, masked, kHeights)
      : kNv == 3 && cols > N ? FindTile<T, TB, kPacked, 2>(height, masked, kHeights)
                             : FindTile<T, TB, kPacked, 1>(height, masked, kHeights);
  run(k, a, a_row, a_k, b, b_k, c, c_row, alpha, accumulate, cols, ahead);
}

/// to[p * to_step + i] = element p of the row that starts i * row elements of From after `from`,
/// for i, p < Lanes(d): 128-bit blocks are transposed in place, then the blocks among the vectors.
/// From is T, a float16 or bfloat16 that becomes a float, or what T is a pair of.
template <class D, typename From, typename T = hn::TFromD<D>>
HWY_INLINE void TransposeSquare(D d, const From* HWY_RESTRICT from, int64_t row, T* HWY_RESTRICT to,
                                int64_t to_step) {
  constexpr int kIn = 16 / static_cast<int>(sizeof(T));  // lanes of a block
  constexpr int kBlocks = static_cast<int>(hn::MaxLanes(D())) / kIn;
  static_assert(kBlocks == 1 || kBlocks == 2 || kBlocks == 4);
  using V = hn::Vec<D>;
  const auto load = [&](const From* p) HWY_ATTR {
    if constexpr (kIsHalf<From> && std::is_same_v<T, float>)
      return LoadFloats(d, p);
    else
      return hn::LoadU(d, reinterpret_cast<const T*>(p));
  };
  V t[kBlocks][kIn];  // [rows / kIn][column % kIn]; block b holds column b * kIn + j
  HWY_UNROLL(4)
  for (int g = 0; g < kBlocks; ++g) {
    const From* HWY_RESTRICT r = from + g * kIn * row;
    if constexpr (kIn == 4) {
      const V v0 = load(r), v1 = load(r + row);
      const V v2 = load(r + 2 * row), v3 = load(r + 3 * row);
      const V a0 = hn::InterleaveLower(d, v0, v2), a1 = hn::InterleaveLower(d, v1, v3);
      const V a2 = hn::InterleaveUpper(d, v0, v2), a3 = hn::InterleaveUpper(d, v1, v3);
      t[g][0] = hn::InterleaveLower(d, a0, a1);
      t[g][1] = hn::InterleaveUpper(d, a0, a1);
      t[g][2] = hn::InterleaveLower(d, a2, a3);
      t[g][3] = hn::InterleaveUpper(d, a2, a3);
    } else {
      const V v0 = load(r), v1 = load(r + row);
      t[g][0] = hn::InterleaveLower(d, v0, v1);
      t[g][1] = hn::InterleaveUpper(d, v0, v1);
    }
  }
  HWY_UNROLL(4)
  for (int j = 0; j < kIn; ++j) {
    T* HWY_RESTRICT o = to + j * to_step;
    if constexpr (kBlocks == 1) {
      hn::StoreU(t[0][j], d, o);
    } else if constexpr (kBlocks == 2) {
      hn::StoreU(hn::ConcatLowerLower(d, t[1][j], t[0][j]), d, o);
      hn::StoreU(hn::ConcatUpperUpper(d, t[1][j], t[0][j]), d, o + kIn * to_step);
    } else {
      const auto even = [](V x, V y)
                            HWY_ATTR { return hn::OddEvenBlocks(hn::SwapAdjacentBlocks(y), x); };
      const auto odd = [](V x, V y)
                           HWY_ATTR { return hn::OddEvenBlocks(y, hn::SwapAdjacentBlocks(x)); };
      const V e0 = even(t[0][j], t[1][j]), e1 = even(t[2][j], t[3][j]);
      const V o0 = odd(t[0][j], t[1][j]), o1 = odd(t[2][j], t[3][j]);
      hn::StoreU(hn::ConcatLowerLower(d, e1, e0), d, o);
      hn::StoreU(hn::ConcatLowerLower(d, o1, o0), d, o + kIn * to_step);
      hn::StoreU(hn::ConcatUpperUpper(d, e1, e0), d, o + 2 * kIn * to_step);
      hn::StoreU(hn::ConcatUpperUpper(d, o1, o0), d, o + 3 * kIn * to_step);
    }
  }
}

/// to[p * to_step + i] = from[i * row + p] for i < rows, p < k: squares of as many lanes as there
/// are rows for.
template <typename T, size_t kLanes, typename From>
HWY_INLINE void PackTransposed(const From* HWY_RESTRICT from, int64_t row, int64_t rows, int64_t k,
                               T* HWY_RESTRICT to, int64_t to_step) {
  constexpr auto kRows = static_cast<int64_t>(kLanes);
  int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::FixedTag<T, kLanes> d;
  for (; i + kRows <= rows; i += kRows) {
    int64_t p = 0;
    for (; p + kRows <= k; p += kRows)
      TransposeSquare(d, from + i * row + p, row, to + p * to_step + i, to_step);
    for (; p < k; ++p)
      for (int64_t e = 0; e < kRows; ++e)
        to[p * to_step + i + e] = ToFloat(from[(i + e) * row + p]);
  }
  if constexpr (kLanes * sizeof(T) > 16) {
    PackTransposed<T, kLanes / 2>(from + i * row, row, rows - i, k, to + i, to_step);
    return;
  }
#endif
  for (; i < rows; ++i)
    for (int64_t p = 0; p < k; ++p) to[p * to_step + i] = ToFloat(from[i * row + p]);
}

/// Panel of `rows` rows (columns of B) by k, element (i, p) from from[i * row + p * step].
template <typename T, typename From>
HWY_INLINE void PackPanel(const From* from, int64_t row, int64_t step, int64_t rows, int64_t k,
                          T* to, int64_t to_step) {
  if (step == 1) {
    PackTransposed<T, hn::MaxLanes(GemmTag<T>())>(from, row, rows, k, to, to_step);
  } else if (row == 1) {
    const GemmTag<T> d;
    const int64_t N = VectorLanes<T>();
    for (int64_t p = 0; p < k; ++p) {
      const From* HWY_RESTRICT s = from + p * step;
      T* HWY_RESTRICT o = to + p * to_step;
      int64_t i = 0;
      for (; i + N <= rows; i += N) hn::StoreU(LoadFloats(d, s + i), d, o + i);
      for (; i < rows; ++i) o[i] = ToFloat(s[i]);
    }
  } else {
    for (int64_t p = 0; p < k; ++p)
      for (int64_t i = 0; i < rows; ++i) to[p * to_step + i] = ToFloat(from[i * row + p * step]);
  }
}

/// Factors, bias and activation over a finished block of C, in place.
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
      auto v = LoadPart(d, mask, n, p + j);
      if (e.col_scale != nullptr) v = hn::Mul(v, LoadPart(d, mask, n, e.col_scale + col + j));
      v = hn::Add(v, row_bias);
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

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // LC_BACKENDS_CPU_GEMM_TILE_INL_H_
