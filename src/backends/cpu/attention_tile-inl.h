// A tile of queries against a block of keys: scores, softmax and weighted values.
//
// The tile is held transposed, one query a vector lane: q^T, the scores s^T[key][query] and
// o^T[channel][query], rows of kTile lanes. Keys and values are read in place, one scalar at a
// time, broadcast against lanes; maximum, sum and rescaling need no operation across lanes.

#if defined(LC_BACKENDS_CPU_ATTENTION_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LC_BACKENDS_CPU_ATTENTION_TILE_INL_H_
#undef LC_BACKENDS_CPU_ATTENTION_TILE_INL_H_
#else
#define LC_BACKENDS_CPU_ATTENTION_TILE_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "backends/cpu/attention.hpp"
#include "backends/cpu/gemm_tile-inl.h"
#include "backends/cpu/half-inl.h"
#include "backends/cpu/vector_math-inl.h"
#include "hwy/highway.h"

#ifndef LC_ATTENTION_TILE_BYTES
#define LC_ATTENTION_TILE_BYTES
namespace lc::cpu {
inline constexpr int64_t kTileBytes = 192;  ///< of a tile's row: 48 floats, 24 doubles
}  // namespace lc::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <typename T>
inline constexpr int64_t kTile = kTileBytes / static_cast<int64_t>(sizeof(T));
inline constexpr int kMaxVecs = kTileBytes / 16;  ///< vectors of a tile's row, at most

/// Rows of the register tile that is kV vectors wide: narrow ones are higher, so that there are
/// chains enough to hide the latency of a multiply-add.
template <int kV>
inline constexpr int kRowsOf = kV == 1 ? 2 * kMr : kMr;

/// Vectors at the diagonal that are left out together: single ones where the keys that only the
/// others meet make whole register tiles.
template <typename T>
HWY_INLINE int64_t DiagonalVecs() {
  const int64_t n = VectorLanes<T>();
  return n % kMr == 0 ? 1 : kNv;
}

// ---------------------------------------------------------------- register tiles

/// st[r][v] = sum over c of k[r][c] qt[c][v]; most[v] becomes the largest of it and of st's column.
template <int kR, int kV, class D, class T = hn::TFromD<D>>
HWY_NOINLINE void ScoreTile(D d, const T* HWY_RESTRICT qt, const T* HWY_RESTRICT k, int64_t ks,
                            int64_t channels, T* HWY_RESTRICT st, T* HWY_RESTRICT most) {
  const size_t n = hn::Lanes(d);
  hn::Vec<D> acc[kR][kV];
  HWY_UNROLL(16)
  for (auto& row : acc) {
    HWY_UNROLL(3)
    for (auto& a : row) a = hn::Zero(d);
  }
  for (int64_t c = 0; c < channels; ++c) {
    hn::Vec<D> q[kV];
    HWY_UNROLL(3)
    for (int v = 0; v < kV; ++v) q[v] = hn::Load(d, qt + static_cast<size_t>(v) * n);
    HWY_UNROLL(16)
    for (int r = 0; r < kR; ++r) {
      const auto kr = hn::Set(d, k[r * ks]);
      HWY_UNROLL(3)
      for (int v = 0; v < kV; ++v) acc[r][v] = hn::MulAdd(kr, q[v], acc[r][v]);
    }
    qt += kTile<T>;
    ++k;
  }
  HWY_UNROLL(3)
  for (int v = 0; v < kV; ++v) {
    auto m = hn::Load(d, most + static_cast<size_t>(v) * n);
    HWY_UNROLL(16)
    for (int r = 0; r < kR; ++r) {
      m = hn::Max(m, acc[r][v]);
      hn::Store(acc[r][v], d, st + r * kTile<T> + static_cast<size_t>(v) * n);
    }
    hn::Store(m, d, most + static_cast<size_t>(v) * n);
  }
}

/// acc[r][v] += v[j][r] st[j][v] over keys j up to limits[v], which grow with v.
template <int kR, int kV, int kFrom, class D, class T = hn::TFromD<D>>
HWY_INLINE void AddValues(D d, const T* HWY_RESTRICT st, const T* HWY_RESTRICT value, int64_t vs,
                          int64_t first, const int64_t* HWY_RESTRICT limits,
                          hn::Vec<D> (&acc)[kR][kV]) {
  const size_t n = hn::Lanes(d);
  const int64_t last = limits[kFrom];
  for (int64_t j = first; j < last; ++j) {
    hn::Vec<D> p[kV];
    HWY_UNROLL(3)
    for (int v = kFrom; v < kV; ++v) p[v] = hn::Load(d, st + static_cast<size_t>(v) * n);
    HWY_UNROLL(16)
    for (int r = 0; r < kR; ++r) {
      const auto vr = hn::Set(d, value[r]);
      HWY_UNROLL(3)
      for (int v = kFrom; v < kV; ++v) acc[r][v] = hn::MulAdd(vr, p[v], acc[r][v]);
    }
    st += kTile<T>;
    value += vs;
  }
  if constexpr (kFrom + 1 < kV) AddValues<kR, kV, kFrom + 1>(d, st, value, vs, last, limits, acc);
}

/// ot[r][v] = ot[r][v] alpha[v] + sum over j < limits[v] of v[j][r] st[j][v]; alpha null: the old
/// ot is 0.
template <int kR, int kV, class D, class T = hn::TFromD<D>>
HWY_NOINLINE void ValueTile(D d, const T* HWY_RESTRICT st, const T* HWY_RESTRICT value, int64_t vs,
                            const int64_t* HWY_RESTRICT limits, const T* HWY_RESTRICT alpha,
                            T* HWY_RESTRICT ot) {
  const size_t n = hn::Lanes(d);
  hn::Vec<D> acc[kR][kV];
  HWY_UNROLL(16)
  for (auto& row : acc) {
    HWY_UNROLL(3)
    for (auto& a : row) a = hn::Zero(d);
  }
  AddValues<kR, kV, 0>(d, st, value, vs, 0, limits, acc);
  HWY_UNROLL(16)
  for (int r = 0; r < kR; ++r) {
    HWY_UNROLL(3)
    for (int v = 0; v < kV; ++v) {
      T* const o = ot + r * kTile<T> + static_cast<size_t>(v) * n;
      auto y = acc[r][v];
      if (alpha != nullptr)
        y = hn::MulAdd(hn::Load(d, o), hn::Load(d, alpha + static_cast<size_t>(v) * n), y);
      hn::Store(y, d, o);
    }
  }
}

/// f(integral_constant<rows>, row) over rows [i, end) in register tiles of at most kR: as many
/// whole ones as fit, then powers of two.
template <int kR, class F>
HWY_INLINE void ForRows(int64_t i, int64_t end, F&& f) {
  for (; i + kR <= end; i += kR) f(std::integral_constant<int, kR>{}, i);
  if constexpr (kR > 8) {
    if (i + 8 <= end) {
      f(std::integral_constant<int, 8>{}, i);
      i += 8;
    }
  }
  if constexpr (kR > 4) {
    if (i + 4 <= end) {
      f(std::integral_constant<int, 4>{}, i);
      i += 4;
    }
  }
  if (i + 2 <= end) {
    f(std::integral_constant<int, 2>{}, i);
    i += 2;
  }
  if (i < end) f(std::integral_constant<int, 1>{}, i);
}

/// f(integral_constant<vectors>, vector) over vectors [v, end).
template <class F>
HWY_INLINE void ForVecs(int64_t v, int64_t end, F&& f) {
  for (; v + kNv <= end; v += kNv) f(std::integral_constant<int, kNv>{}, v);
  if constexpr (kNv > 2) {
    if (v + 2 <= end) {
      f(std::integral_constant<int, 2>{}, v);
      v += 2;
    }
  }
  if (v < end) f(std::integral_constant<int, 1>{}, v);
}

// ---------------------------------------------------------------- in and out of the tile

template <typename T, typename S>
HWY_INLINE void ConvertRows(const S* from, int64_t stride, int64_t rows, int64_t cols, T* to) {
  const hn::ScalableTag<T> d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = 0; r < rows; ++r, from += stride, to += cols) {
    int64_t c = 0;
    for (; c + n <= cols; c += n) hn::StoreU(LoadFloats(d, from + c), d, to + c);
    for (; c < cols; ++c) to[c] = ToFloat(from[c]);
  }
}

template <typename T, typename S>
HWY_INLINE void NarrowRow(const T* from, int64_t n, S* to) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = 0;
  for (; c + lanes <= n; c += lanes) StoreFloats(hn::LoadU(d, from + c), d, to + c);
  if (c == n) return;
  alignas(64) T x[hn::MaxLanes(d)] = {};
  S y[hn::MaxLanes(d)];
  std::copy(from + c, from + n, x);
  StoreFloats(hn::Load(d, x), d, y);
  std::copy_n(y, n - c, to + c);
}

/// to[c][r] = from[r][c]: in squares of as many lanes as there are rows and columns for.
template <typename T, size_t kLanes = hn::MaxLanes(GemmTag<T>())>
HWY_INLINE void Transpose(const T* from, int64_t stride, int64_t rows, int64_t cols, T* to,
                          int64_t to_stride) {
  constexpr bool kSmallest = kLanes * sizeof(T) <= 16;
  const int64_t whole = kSmallest ? cols : cols - cols % static_cast<int64_t>(kLanes);
  if (whole > 0) PackTransposed<T, kLanes>(from, stride, rows, whole, to, to_stride);
  if constexpr (!kSmallest) {
    if (whole < cols)
      Transpose<T, kLanes / 2>(from + whole, stride, rows, cols - whole, to + whole * to_stride,
                               to_stride);
  }
}

/// qt[c][r] = from[r][c] scale, rows padded with zeros to `lanes`.
template <class D, class T = hn::TFromD<D>>
void PackQueries(D d, const T* from, int64_t stride, int64_t rows, int64_t cols, T scale,
                 int64_t lanes, T* qt) {
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  Transpose(from, stride, rows, cols, qt, kTile<T>);
  const auto s = hn::Set(d, scale);
  const int64_t last = lanes - n;
  const auto used = hn::FirstN(d, static_cast<size_t>(rows - last));
  for (int64_t c = 0; c < cols; ++c, qt += kTile<T>) {
    for (int64_t l = 0; l < last; l += n) hn::Store(hn::Mul(hn::Load(d, qt + l), s), d, qt + l);
    const auto x = hn::IfThenElseZero(used, hn::Load(d, qt + last));
    hn::Store(hn::Mul(x, s), d, qt + last);
  }
}

// ---------------------------------------------------------------- masks and softmax of a block

inline constexpr double kLog2E = 1.4426950408889634074;

/// Adds the mask to the scores of `keys` keys from j0 and `rows` queries from i0. The mask enters
/// as 0 or -inf where it is boolean.
template <typename S, class D, class T = hn::TFromD<D>>
void ApplyMask(D d, MaskKind kind, const MaskView& mask, int64_t offset, int64_t rows, int64_t keys,
               int64_t lanes, T* st, T* mask_rows, T* mask_tile) {
  const int64_t n = static_cast<int64_t>(hn::Lanes(d));
  const T minus_inf = -std::numeric_limits<T>::infinity();
  const int64_t si = mask.stride[2];
  const int64_t sj = mask.stride[3];
  const bool boolean = kind == MaskKind::kBool;  // then -inf even where q k is NaN
  const auto value = [&](int64_t at) {
    if (boolean) return static_cast<const uint8_t*>(mask.data)[at] ? T{0} : minus_inf;
    return static_cast<T>(ToFloat(static_cast<const S*>(mask.data)[at]) * static_cast<T>(kLog2E));
  };
  if (si == 0) {  // the same for all queries: padding masks
    for (int64_t j = 0; j < keys; ++j) {
      const T bias = value(offset + j * sj);
      if (bias == T{0}) continue;
      const auto b = hn::Set(d, bias);
      for (int64_t v = 0; v < lanes; v += n) {
        T* const s = st + j * kTile<T> + v;
        hn::Store(boolean ? b : hn::Add(hn::Load(d, s), b), d, s);
      }
    }
    return;
  }
  for (int64_t i = 0; i < rows; ++i) {
    T* const row = mask_rows + i * keys;
    if (boolean && sj == 1) {
      const uint8_t* const from = static_cast<const uint8_t*>(mask.data) + offset + i * si;
      for (int64_t j = 0; j < keys; ++j) row[j] = from[j] != 0 ? T{0} : minus_inf;
    } else {
      for (int64_t j = 0; j < keys; ++j) row[j] = value(offset + i * si + j * sj);
    }
  }
  PackQueries(d, mask_rows, keys, rows, keys, T{1}, lanes, mask_tile);
  for (int64_t j = 0; j < keys; ++j)
    for (int64_t v = 0; v < lanes; v += n) {
      T* const s = st + j * kTile<T> + v;
      const auto x = hn::Load(d, s);
      const auto b = hn::Load(d, mask_tile + j * kTile<T> + v);
      const auto keep = hn::Eq(b, hn::Zero(d));
      hn::Store(boolean ? hn::IfThenElse(keep, x, b) : hn::Add(x, b), d, s);
    }
}

/// Scores of keys after their query become -inf; the tile's first query lies `ahead` keys after
/// the block's first key (before it, if negative).
template <class D, class T = hn::TFromD<D>>
void ApplyCausal(D d, int64_t ahead, int64_t vecs, const int64_t* limits, T* st) {
  const int64_t n = static_cast<int64_t>(hn::Lanes(d));
  const auto inf = hn::Set(d, -std::numeric_limits<T>::infinity());
  for (int64_t v = 0; v < vecs; ++v, ahead += n)
    for (int64_t j = std::max<int64_t>(0, ahead + 1); j < limits[v]; ++j) {
      T* const s = st + j * kTile<T> + v * n;
      const auto masked = hn::Lt(hn::Iota(d, T{0}), hn::Set(d, static_cast<T>(j - ahead)));
      hn::Store(hn::IfThenElse(masked, inf, hn::Load(d, s)), d, s);
    }
}

/// most[v] = the largest score of its queries, for scores that changed since ScoreTile.
template <class D, class T = hn::TFromD<D>>
HWY_NOINLINE void MaximumOfBlock(D d, const T* HWY_RESTRICT st, int64_t vecs,
                                 const int64_t* HWY_RESTRICT limits, T* HWY_RESTRICT most) {
  const int64_t n = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t v = 0; v < vecs; ++v, st += n, most += n) {
    auto m0 = hn::Set(d, -std::numeric_limits<T>::infinity());
    auto m1 = m0, m2 = m0, m3 = m0;
    int64_t j = 0;
    for (; j + 4 <= limits[v]; j += 4) {
      m0 = hn::Max(m0, hn::Load(d, st + j * kTile<T>));
      m1 = hn::Max(m1, hn::Load(d, st + (j + 1) * kTile<T>));
      m2 = hn::Max(m2, hn::Load(d, st + (j + 2) * kTile<T>));
      m3 = hn::Max(m3, hn::Load(d, st + (j + 3) * kTile<T>));
    }
    for (; j < limits[v]; ++j) m0 = hn::Max(m0, hn::Load(d, st + j * kTile<T>));
    hn::Store(hn::Max(hn::Max(m0, m1), hn::Max(m2, m3)), d, most);
  }
}

/// Turns scores into 2^(s - m), m the running maximum of each query, which `most` of this block
/// joins; updates the running sum and leaves in alpha what the earlier sums and outputs must be
/// multiplied by, in `most` -inf for the next block.
template <class D, class T = hn::TFromD<D>>
HWY_NOINLINE void SoftmaxBlock(D d, T* HWY_RESTRICT st, int64_t vecs,
                               const int64_t* HWY_RESTRICT limits, T* HWY_RESTRICT most,
                               T* HWY_RESTRICT maximum, T* HWY_RESTRICT sum,
                               T* HWY_RESTRICT alpha) {
  const int64_t n = static_cast<int64_t>(hn::Lanes(d));
  const auto inf = hn::Set(d, -std::numeric_limits<T>::infinity());
  for (int64_t v = 0; v < vecs; ++v) {
    const int64_t at = v * n;
    const auto old = hn::Load(d, maximum + at);
    const auto m = hn::Max(hn::Load(d, most + at), old);
    hn::Store(inf, d, most + at);
    // A query with nothing to attend so far: keep exponents of -inf at -inf.
    const auto finite = hn::IfThenElse(hn::Eq(m, inf), hn::Zero(d), m);
    T* HWY_RESTRICT s = st + at;
    auto t0 = hn::Zero(d), t1 = hn::Zero(d);
    const auto step = [&](T* p, auto& t) HWY_ATTR {
      const auto e = VExp2Fast(d, hn::Sub(hn::Load(d, p), finite));
      hn::Store(e, d, p);
      t = hn::Add(t, e);
    };
    int64_t j = limits[v];
    for (; j >= 4; j -= 4, s += 4 * kTile<T>) {
      step(s, t0);
      step(s + kTile<T>, t1);
      step(s + 2 * kTile<T>, t0);
      step(s + 3 * kTile<T>, t1);
    }
    for (; j > 0; --j, s += kTile<T>) step(s, t0);
    const auto a = VExp2Fast(d, hn::Sub(old, finite));
    hn::Store(m, d, maximum + at);
    hn::Store(hn::MulAdd(hn::Load(d, sum + at), a, hn::Add(t0, t1)), d, sum + at);
    hn::Store(a, d, alpha + at);
  }
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // LC_BACKENDS_CPU_ATTENTION_TILE_INL_H_
