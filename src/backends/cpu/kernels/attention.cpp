// attention: softmax(scale q k^T + mask) v, never holding more than a tile of the scores.
//
// `flash` (Milakov & Gimelshein 2018, Rabe & Staats 2021, Dao et al. 2022): a tile of queries runs
// over blocks of keys and keeps a running maximum and sum. The tile is held transposed, one query a
// vector lane: q^T and the scores s^T[key][query] and o^T[channel][query]. Keys and values are then
// read in place, one scalar at a time, broadcast against lanes; maximum, sum and rescaling need no
// operation across lanes; only q is packed (scaled, in units of log2 e) and only o is unpacked.
//
// `row`, for one to four queries, where most of those lanes would be empty: a query at a time,
// lanes over channels.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <type_traits>

#include "backends/cpu/kernel_list.hpp"
#include "backends/cpu/simd.hpp"
#include "backends/cpu/thread_pool.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/kernels/attention.cpp"
#include "hwy/foreach_target.h"
#include "backends/cpu/half-inl.h"
#include "backends/cpu/vector_math-inl.h"
#include "hwy/highway.h"

#ifndef LC_ATTENTION_PARAMS
#define LC_ATTENTION_PARAMS
namespace lc::cpu {

enum class MaskKind : uint8_t { kNone, kBool, kAdd };

struct AttentionParams {
  int64_t batch, heads, group;  ///< group: query heads that share a key head
  int64_t sq, sk, d, dv;
  double scale;  ///< of the scores, in units of log2 e
  int64_t tasks;
  int64_t slice;  ///< bytes of workspace a task
  bool causal;
  MaskKind mask;
};

constexpr int64_t kRowQueries = 4;   ///< most queries `row` takes
constexpr int64_t kTileBytes = 192;  ///< of a tile's row: 48 floats, 24 doubles
constexpr int64_t kKeyBlock = 96;
constexpr double kFlopsPerTask = 3e5;  ///< below that a second thread costs more than it gives

/// A tensor [b, h, s, d] of rank 2 to 4 with unit stride along d.
template <typename T>
struct Heads {
  T* data;
  int64_t b, h, s;
  explicit Heads(const View& v)
      : data(v.ptr<T>()),
        b(v.rank() == 4 ? v.strides[0] : 0),
        h(v.rank() >= 3 ? v.strides.back(2) : 0),
        s(v.strides.back(1)) {}
  [[nodiscard]] T* at(int64_t ib, int64_t ih, int64_t is) const {
    return data + ib * b + ih * h + is * s;
  }
};

/// The mask's strides over [b, h, sq, sk]; 0 where it repeats.
struct MaskView {
  const void* data = nullptr;
  int64_t stride[4] = {0, 0, 0, 0};
  explicit MaskView(const View& v) {
    if (!v.present()) return;
    data = v.data;
    for (int i = 0; i < v.rank() && i < 4; ++i)
      if (v.shape.back(i) != 1) stride[3 - i] = v.strides.back(i);
  }
};

inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

}  // namespace lc::cpu
#endif  // LC_ATTENTION_PARAMS

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Accumulators of a register tile: kRows scalars broadcast against kVecs vectors. AVX-512 and NEON
// have 32 registers, the others 16.
constexpr bool kManyRegisters =
    (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3) || HWY_ARCH_ARM_A64 || HWY_ARCH_RVV;
constexpr int kVecs = kManyRegisters ? 3 : 2;
constexpr int kRows = kManyRegisters ? 8 : (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2) ? 6 : 4;

template <typename T>
constexpr int64_t kTile = kTileBytes / static_cast<int64_t>(sizeof(T));

// ---------------------------------------------------------------- register tiles

/// st[r][v] = sum over c of k[r][c] qt[c][v].
template <int kR, int kV, class D, class T = hn::TFromD<D>>
HWY_NOINLINE void ScoreTile(D d, const T* HWY_RESTRICT qt, const T* HWY_RESTRICT k, int64_t ks,
                            int64_t channels, T* HWY_RESTRICT st) {
  const size_t n = hn::Lanes(d);
  hn::Vec<D> acc[kR][kV];
#pragma GCC unroll 8
  for (int r = 0; r < kR; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kV; ++v) acc[r][v] = hn::Zero(d);
  for (int64_t c = 0; c < channels; ++c) {
    hn::Vec<D> q[kV];
#pragma GCC unroll 4
    for (int v = 0; v < kV; ++v) q[v] = hn::Load(d, qt + static_cast<size_t>(v) * n);
#pragma GCC unroll 8
    for (int r = 0; r < kR; ++r) {
      const auto kr = hn::Set(d, k[r * ks]);
#pragma GCC unroll 4
      for (int v = 0; v < kV; ++v) acc[r][v] = hn::MulAdd(kr, q[v], acc[r][v]);
    }
    qt += kTile<T>;
    ++k;
  }
#pragma GCC unroll 8
  for (int r = 0; r < kR; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kV; ++v)
      hn::Store(acc[r][v], d, st + r * kTile<T> + static_cast<size_t>(v) * n);
}

/// ot[r][v] = ot[r][v] alpha[v] + sum over j of v[j][r] st[j][v]; alpha null: the old ot is 0.
template <int kR, int kV, class D, class T = hn::TFromD<D>>
HWY_NOINLINE void ValueTile(D d, const T* HWY_RESTRICT st, const T* HWY_RESTRICT value, int64_t vs,
                            int64_t keys, const T* HWY_RESTRICT alpha, T* HWY_RESTRICT ot) {
  const size_t n = hn::Lanes(d);
  hn::Vec<D> acc[kR][kV];
#pragma GCC unroll 8
  for (int r = 0; r < kR; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kV; ++v) acc[r][v] = hn::Zero(d);
  for (int64_t j = 0; j < keys; ++j) {
    hn::Vec<D> p[kV];
#pragma GCC unroll 4
    for (int v = 0; v < kV; ++v) p[v] = hn::Load(d, st + static_cast<size_t>(v) * n);
#pragma GCC unroll 8
    for (int r = 0; r < kR; ++r) {
      const auto vr = hn::Set(d, value[r]);
#pragma GCC unroll 4
      for (int v = 0; v < kV; ++v) acc[r][v] = hn::MulAdd(vr, p[v], acc[r][v]);
    }
    st += kTile<T>;
    value += vs;
  }
#pragma GCC unroll 8
  for (int r = 0; r < kR; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kV; ++v) {
      T* const o = ot + r * kTile<T> + static_cast<size_t>(v) * n;
      auto y = acc[r][v];
      if (alpha != nullptr)
        y = hn::MulAdd(hn::Load(d, o), hn::Load(d, alpha + static_cast<size_t>(v) * n), y);
      hn::Store(y, d, o);
    }
}

/// f(integral_constant<rows>, first) over n rows in register tiles: as many whole ones as fit, then
/// powers of two.
template <int kR, class F>
HWY_INLINE void ForRows(int64_t n, F&& f) {
  int64_t i = 0;
  for (; i + kR <= n; i += kR) f(std::integral_constant<int, kR>{}, i);
  if constexpr (kR > 4) {
    if (i + 4 <= n) {
      f(std::integral_constant<int, 4>{}, i);
      i += 4;
    }
  }
  if (i + 2 <= n) {
    f(std::integral_constant<int, 2>{}, i);
    i += 2;
  }
  if (i < n) f(std::integral_constant<int, 1>{}, i);
}

/// f(integral_constant<vectors>, first lane) over the vectors of a tile.
template <class D, class F>
HWY_INLINE void ForVecs(D d, int64_t vecs, F&& f) {
  const int64_t n = static_cast<int64_t>(hn::Lanes(d));
  int64_t v = 0;
  for (; v + kVecs <= vecs; v += kVecs) f(std::integral_constant<int, kVecs>{}, v * n);
  if constexpr (kVecs > 2) {
    if (v + 2 <= vecs) {
      f(std::integral_constant<int, 2>{}, v * n);
      v += 2;
    }
  }
  if (v < vecs) f(std::integral_constant<int, 1>{}, v * n);
}

// ---------------------------------------------------------------- transposition

#if HWY_TARGET == HWY_SCALAR
constexpr int64_t kBlockBytes = 0;
#else
constexpr int64_t kBlockBytes = 16;
#endif

/// In place, B x B elements of B vectors of 16 bytes.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void TransposeBlock(D d, V* r) {
  if constexpr (sizeof(hn::TFromD<D>) == 8) {
    const V a = r[0];
    r[0] = hn::InterleaveLower(d, a, r[1]);
    r[1] = hn::InterleaveUpper(d, a, r[1]);
  } else {
    const V a = hn::InterleaveLower(d, r[0], r[2]), b = hn::InterleaveUpper(d, r[0], r[2]);
    const V c = hn::InterleaveLower(d, r[1], r[3]), e = hn::InterleaveUpper(d, r[1], r[3]);
    r[0] = hn::InterleaveLower(d, a, c);
    r[1] = hn::InterleaveUpper(d, a, c);
    r[2] = hn::InterleaveLower(d, b, e);
    r[3] = hn::InterleaveUpper(d, b, e);
  }
}

/// to[c][r] = from[r][c] scale, rows padded with zeros to `lanes`.
template <typename T>
void PackTransposed(const T* from, int64_t stride, int64_t rows, int64_t cols, T scale,
                    int64_t lanes, T* to) {
  int64_t r = 0;
  if constexpr (kBlockBytes != 0) {
    constexpr int64_t kB = kBlockBytes / static_cast<int64_t>(sizeof(T));
    const hn::FixedTag<T, kB> d;
    const auto s = hn::Set(d, scale);
    for (; r + kB <= rows; r += kB) {
      int64_t c = 0;
      for (; c + kB <= cols; c += kB) {
        hn::Vec<decltype(d)> x[kB];
        for (int64_t i = 0; i < kB; ++i)
          x[i] = hn::Mul(hn::LoadU(d, from + (r + i) * stride + c), s);
        TransposeBlock(d, x);
        for (int64_t i = 0; i < kB; ++i) hn::Store(x[i], d, to + (c + i) * kTile<T> + r);
      }
      for (; c < cols; ++c)
        for (int64_t i = 0; i < kB; ++i)
          to[c * kTile<T> + r + i] = from[(r + i) * stride + c] * scale;
    }
  }
  for (int64_t c = 0; c < cols && r < lanes; ++c) {
    int64_t i = r;
    for (; i < rows; ++i) to[c * kTile<T> + i] = from[i * stride + c] * scale;
    for (; i < lanes; ++i) to[c * kTile<T> + i] = T{0};
  }
}

/// to[r][c] = from[c][r] factor[r].
template <typename T>
void UnpackTransposed(const T* from, const T* factor, int64_t rows, int64_t cols, T* to,
                      int64_t stride) {
  int64_t r = 0;
  if constexpr (kBlockBytes != 0) {
    constexpr int64_t kB = kBlockBytes / static_cast<int64_t>(sizeof(T));
    const hn::FixedTag<T, kB> d;
    for (; r + kB <= rows; r += kB) {
      const auto f = hn::Load(d, factor + r);
      int64_t c = 0;
      for (; c + kB <= cols; c += kB) {
        hn::Vec<decltype(d)> x[kB];
        for (int64_t i = 0; i < kB; ++i)
          x[i] = hn::Mul(hn::Load(d, from + (c + i) * kTile<T> + r), f);
        TransposeBlock(d, x);
        for (int64_t i = 0; i < kB; ++i) hn::StoreU(x[i], d, to + (r + i) * stride + c);
      }
      for (; c < cols; ++c)
        for (int64_t i = r; i < r + kB; ++i)
          to[i * stride + c] = from[c * kTile<T> + i] * factor[i];
    }
  }
  for (; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) to[r * stride + c] = from[c * kTile<T> + r] * factor[r];
}

// ---------------------------------------------------------------- masks and softmax of a block

constexpr double kLog2E = 1.4426950408889634074;

/// Adds the mask to the scores of `keys` keys from j0 and `rows` queries from i0. The mask enters
/// as 0 or -inf where it is boolean.
template <class D, class T = hn::TFromD<D>>
void ApplyMask(D d, MaskKind kind, const MaskView& mask, int64_t offset, int64_t rows, int64_t keys,
               int64_t lanes, T* st, T* mask_rows, T* mask_tile) {
  const int64_t n = static_cast<int64_t>(hn::Lanes(d));
  const T minus_inf = -std::numeric_limits<T>::infinity();
  const int64_t si = mask.stride[2];
  const int64_t sj = mask.stride[3];
  const bool boolean = kind == MaskKind::kBool;  // then -inf even where q k is NaN
  const auto value = [&](int64_t at) {
    if (boolean) return static_cast<const uint8_t*>(mask.data)[at] ? T{0} : minus_inf;
    return static_cast<T>(static_cast<const T*>(mask.data)[at] * static_cast<T>(kLog2E));
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
  if (!boolean && sj == 1) {
    PackTransposed(static_cast<const T*>(mask.data) + offset, si, rows, keys,
                   static_cast<T>(kLog2E), lanes, mask_tile);
  } else {
    for (int64_t i = 0; i < rows; ++i) {
      T* const row = mask_rows + i * kKeyBlock;
      if (boolean && sj == 1) {
        const uint8_t* const from = static_cast<const uint8_t*>(mask.data) + offset + i * si;
        for (int64_t j = 0; j < keys; ++j) row[j] = from[j] != 0 ? T{0} : minus_inf;
      } else {
        for (int64_t j = 0; j < keys; ++j) row[j] = value(offset + i * si + j * sj);
      }
    }
    PackTransposed(mask_rows, kKeyBlock, rows, keys, T{1}, lanes, mask_tile);
  }
  for (int64_t j = 0; j < keys; ++j)
    for (int64_t v = 0; v < lanes; v += n) {
      T* const s = st + j * kTile<T> + v;
      const auto x = hn::Load(d, s);
      const auto b = hn::Load(d, mask_tile + j * kTile<T> + v);
      const auto keep = hn::Eq(b, hn::Zero(d));
      hn::Store(boolean ? hn::IfThenElse(keep, x, b) : hn::Add(x, b), d, s);
    }
}

/// Scores of keys after their query become -inf.
template <class D, class T = hn::TFromD<D>>
void ApplyCausal(D d, int64_t i0, int64_t j0, int64_t keys, int64_t lanes, T* st) {
  const int64_t n = static_cast<int64_t>(hn::Lanes(d));
  const auto inf = hn::Set(d, -std::numeric_limits<T>::infinity());
  for (int64_t j = std::max<int64_t>(0, i0 + 1 - j0); j < keys; ++j)
    for (int64_t v = 0; v < lanes; v += n) {
      T* const s = st + j * kTile<T> + v;
      const auto query = hn::Iota(d, static_cast<T>(v));
      const auto masked = hn::Lt(query, hn::Set(d, static_cast<T>(j0 + j - i0)));
      hn::Store(hn::IfThenElse(masked, inf, hn::Load(d, s)), d, s);
    }
}

/// Turns scores into 2^(s - m), m the running maximum of each query; updates m and the running sum
/// and leaves in alpha what the earlier sums and outputs must be multiplied by.
template <class D, class T = hn::TFromD<D>>
HWY_NOINLINE void SoftmaxBlock(D d, T* HWY_RESTRICT st, int64_t keys, int64_t lanes,
                               T* HWY_RESTRICT maximum, T* HWY_RESTRICT sum,
                               T* HWY_RESTRICT alpha) {
  const int64_t n = static_cast<int64_t>(hn::Lanes(d));
  const auto inf = hn::Set(d, -std::numeric_limits<T>::infinity());
  for (int64_t v = 0; v < lanes; v += n) {
    T* const s = st + v;
    auto m0 = inf, m1 = inf, m2 = inf, m3 = inf;
    int64_t j = 0;
    for (; j + 4 <= keys; j += 4) {
      m0 = hn::Max(m0, hn::Load(d, s + j * kTile<T>));
      m1 = hn::Max(m1, hn::Load(d, s + (j + 1) * kTile<T>));
      m2 = hn::Max(m2, hn::Load(d, s + (j + 2) * kTile<T>));
      m3 = hn::Max(m3, hn::Load(d, s + (j + 3) * kTile<T>));
    }
    for (; j < keys; ++j) m0 = hn::Max(m0, hn::Load(d, s + j * kTile<T>));
    const auto old = hn::Load(d, maximum + v);
    const auto m = hn::Max(hn::Max(hn::Max(m0, m1), hn::Max(m2, m3)), old);
    // A query with nothing to attend so far: keep exponents of -inf at -inf.
    const auto finite = hn::IfThenElse(hn::Eq(m, inf), hn::Zero(d), m);
    auto t0 = hn::Zero(d), t1 = hn::Zero(d);
    for (j = 0; j + 2 <= keys; j += 2) {
      const auto p0 = VExp2Fast(d, hn::Sub(hn::Load(d, s + j * kTile<T>), finite));
      const auto p1 = VExp2Fast(d, hn::Sub(hn::Load(d, s + (j + 1) * kTile<T>), finite));
      hn::Store(p0, d, s + j * kTile<T>);
      hn::Store(p1, d, s + (j + 1) * kTile<T>);
      t0 = hn::Add(t0, p0);
      t1 = hn::Add(t1, p1);
    }
    if (j < keys) {
      const auto p = VExp2Fast(d, hn::Sub(hn::Load(d, s + j * kTile<T>), finite));
      hn::Store(p, d, s + j * kTile<T>);
      t0 = hn::Add(t0, p);
    }
    const auto a = VExp2Fast(d, hn::Sub(old, finite));
    hn::Store(m, d, maximum + v);
    hn::Store(hn::MulAdd(hn::Load(d, sum + v), a, hn::Add(t0, t1)), d, sum + v);
    hn::Store(a, d, alpha + v);
  }
}

// ---------------------------------------------------------------- one query

/// Dot products of q with kR keys, the last n % lanes terms in ever smaller vectors.
template <int kR, class D, typename S, class T = hn::TFromD<D>>
HWY_INLINE void Dots(D d, const S* q, const S* k, int64_t ks, int64_t n, T* out) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  hn::Vec<D> acc[kR];
#pragma GCC unroll 4
  for (int r = 0; r < kR; ++r) acc[r] = hn::Zero(d);
  int64_t c = 0;
  for (; c + lanes <= n; c += lanes) {
    const auto x = LoadFloats(d, q + c);
#pragma GCC unroll 4
    for (int r = 0; r < kR; ++r) acc[r] = hn::MulAdd(x, LoadFloats(d, k + r * ks + c), acc[r]);
  }
#pragma GCC unroll 4
  for (int r = 0; r < kR; ++r) out[r] += hn::GetLane(hn::SumOfLanes(d, acc[r]));
  if constexpr (hn::MaxLanes(D()) > 1) {
    if (c < n) Dots<kR>(hn::Half<D>(), q + c, k + c, ks, n - c, out);
  }
}

/// out[c] = factor * sum over j of p[j] v[j][c]. Keys of weight 0 are left out, so that what a mask
/// hides cannot spread its NaN.
template <class D, typename S, class T = hn::TFromD<D>>
HWY_INLINE void WeightedRows(D d, const T* p, const S* v, int64_t vs, int64_t keys, int64_t n,
                             T factor, S* out) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto f = hn::Set(d, factor);
  int64_t c = 0;
  for (; c + 4 * lanes <= n; c += 4 * lanes) {
    auto a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0;
    for (int64_t j = 0; j < keys; ++j) {
      if (p[j] == T{0}) continue;
      const auto w = hn::Set(d, p[j]);
      const S* const row = v + j * vs + c;
      a0 = hn::MulAdd(w, LoadFloats(d, row), a0);
      a1 = hn::MulAdd(w, LoadFloats(d, row + lanes), a1);
      a2 = hn::MulAdd(w, LoadFloats(d, row + 2 * lanes), a2);
      a3 = hn::MulAdd(w, LoadFloats(d, row + 3 * lanes), a3);
    }
    StoreFloats(hn::Mul(a0, f), d, out + c);
    StoreFloats(hn::Mul(a1, f), d, out + c + lanes);
    StoreFloats(hn::Mul(a2, f), d, out + c + 2 * lanes);
    StoreFloats(hn::Mul(a3, f), d, out + c + 3 * lanes);
  }
  for (; c + lanes <= n; c += lanes) {
    auto a0 = hn::Zero(d);
    for (int64_t j = 0; j < keys; ++j)
      if (p[j] != T{0}) a0 = hn::MulAdd(hn::Set(d, p[j]), LoadFloats(d, v + j * vs + c), a0);
    StoreFloats(hn::Mul(a0, f), d, out + c);
  }
  if constexpr (hn::MaxLanes(D()) > 1) {
    if (c < n) WeightedRows(hn::Half<D>(), p, v + c, vs, keys, n - c, factor, out + c);
  }
}

/// scores: room for sk rounded up to 16.
template <typename T, typename S>
void RowQuery(const AttentionParams& p, const S* q, const S* k, int64_t ks, const S* v, int64_t vs,
              const MaskView& mask, int64_t mask_offset, int64_t keys, T* scores, S* out) {
  const hn::ScalableTag<T> d;
  const int64_t n = static_cast<int64_t>(hn::Lanes(d));
  const T minus_inf = -std::numeric_limits<T>::infinity();
  const T scale = static_cast<T>(p.scale);
  int64_t j = 0;
  for (; j + 4 <= keys; j += 4) {
    T dots[4] = {};
    Dots<4>(d, q, k + j * ks, ks, p.d, dots);
    for (int r = 0; r < 4; ++r) scores[j + r] = dots[r] * scale;
  }
  for (; j < keys; ++j) {
    T dot = 0;
    Dots<1>(d, q, k + j * ks, ks, p.d, &dot);
    scores[j] = dot * scale;
  }
  const int64_t padded = round_up(keys, n);
  std::fill(scores + keys, scores + padded, minus_inf);
  if (p.mask != MaskKind::kNone) {
    const int64_t sj = mask.stride[3];
    for (j = 0; j < keys; ++j) {
      const int64_t at = mask_offset + j * sj;
      if (p.mask == MaskKind::kBool) {
        if (!static_cast<const uint8_t*>(mask.data)[at]) scores[j] = minus_inf;
      } else {
        const T bias = ToFloat(static_cast<const S*>(mask.data)[at]);
        scores[j] += bias * static_cast<T>(kLog2E);
      }
    }
  }
  auto m = hn::Set(d, minus_inf);
  for (j = 0; j < padded; j += n) m = hn::Max(m, hn::Load(d, scores + j));
  m = hn::MaxOfLanes(d, m);
  m = hn::IfThenElse(hn::Eq(m, hn::Set(d, minus_inf)), hn::Zero(d), m);
  auto t = hn::Zero(d);
  for (j = 0; j < padded; j += n) {
    const auto e = VExp2Fast(d, hn::Sub(hn::Load(d, scores + j), m));
    hn::Store(e, d, scores + j);
    t = hn::Add(t, e);
  }
  const T sum = hn::GetLane(hn::SumOfLanes(d, t));
  WeightedRows(d, scores, v, vs, keys, p.dv, sum == T{0} ? T{0} : T{1} / sum, out);
}

// ---------------------------------------------------------------- flash

template <typename T>
struct FlashScratch {
  T *qt, *st, *ot, *maximum, *sum, *alpha, *scores, *mask_tile, *mask_rows;
  FlashScratch(const AttentionParams& p, void* workspace) {
    T* at = static_cast<T*>(workspace);
    const auto take = [&at](int64_t rows) {
      T* const r = at;
      at += rows * kTile<T>;
      return r;
    };
    qt = take(p.d);
    st = take(kKeyBlock);
    ot = take(p.dv);
    maximum = take(1);
    sum = take(1);
    alpha = take(1);
    scores = take((p.sk + kTile<T> - 1) / kTile<T>);
    mask_tile = mask_rows = nullptr;
    if (p.mask == MaskKind::kNone) return;
    mask_tile = take(kKeyBlock);
    mask_rows = take(kKeyBlock);
  }
};

template <typename T>
void FlashTile(const AttentionParams& p, const Heads<const T>& q, const Heads<const T>& k,
               const Heads<const T>& v, const MaskView& mask, const Heads<T>& out,
               const FlashScratch<T>& s, int64_t ib, int64_t ih, int64_t i0, int64_t rows) {
  const hn::ScalableTag<T> d;
  const int64_t n = static_cast<int64_t>(hn::Lanes(d));
  const int64_t vecs = (rows + n - 1) / n;
  const int64_t lanes = vecs * n;
  const int64_t ikv = ih / p.group;
  const int64_t mask_at = ib * mask.stride[0] + ih * mask.stride[1] + i0 * mask.stride[2];

  PackTransposed(q.at(ib, ih, i0), q.s, rows, p.d, static_cast<T>(p.scale), lanes, s.qt);
  for (int64_t l = 0; l < lanes; l += n) {
    hn::Store(hn::Set(d, -std::numeric_limits<T>::infinity()), d, s.maximum + l);
    hn::Store(hn::Zero(d), d, s.sum + l);
  }
  const int64_t keys = p.causal ? std::min(p.sk, i0 + rows) : p.sk;
  for (int64_t j0 = 0; j0 < keys; j0 += kKeyBlock) {
    const int64_t nk = std::min(kKeyBlock, keys - j0);
    const T* const kb = k.at(ib, ikv, j0);
    const T* const vb = v.at(ib, ikv, j0);
    ForVecs(d, vecs, [&](auto kv, int64_t lane) HWY_ATTR {
      ForRows<kRows>(nk, [&](auto kr, int64_t j) HWY_ATTR {
        ScoreTile<kr(), kv()>(d, s.qt + lane, kb + j * k.s, k.s, p.d, s.st + j * kTile<T> + lane);
      });
    });
    if (p.mask != MaskKind::kNone)
      ApplyMask(d, p.mask, mask, mask_at + j0 * mask.stride[3], rows, nk, lanes, s.st, s.mask_rows,
                s.mask_tile);
    if (p.causal && j0 + nk - 1 > i0) ApplyCausal(d, i0, j0, nk, lanes, s.st);
    SoftmaxBlock(d, s.st, nk, lanes, s.maximum, s.sum, s.alpha);
    ForVecs(d, vecs, [&](auto kv, int64_t lane) HWY_ATTR {
      ForRows<kRows>(p.dv, [&](auto kr, int64_t c) HWY_ATTR {
        ValueTile<kr(), kv()>(d, s.st + lane, vb + c, v.s, nk, j0 == 0 ? nullptr : s.alpha + lane,
                              s.ot + c * kTile<T> + lane);
      });
    });
  }
  T* const to = out.at(ib, ih, i0);
  if (keys == 0) {
    for (int64_t i = 0; i < rows; ++i) std::fill_n(to + i * out.s, p.dv, T{0});
    return;
  }
  bool finite = true;
  for (int64_t l = 0; l < lanes; l += n) {
    const auto sum = hn::Load(d, s.sum + l);
    const auto inverse = hn::Div(hn::Set(d, T{1}), sum);
    // Nothing to attend: zeros.
    hn::Store(hn::IfThenZeroElse(hn::Eq(sum, hn::Zero(d)), inverse), d, s.alpha + l);
    auto check = hn::Zero(d);
    for (int64_t c = 0; c < p.dv; ++c)
      check = hn::MulAdd(hn::Load(d, s.ot + c * kTile<T> + l), hn::Zero(d), check);
    finite = finite && hn::AllTrue(d, hn::Eq(check, hn::Zero(d)));
    hn::Store(check, d, s.sum + l);
  }
  UnpackTransposed(s.ot, s.alpha, rows, p.dv, to, out.s);
  if (finite) return;
  // 0 times a NaN or infinity that a mask hides is NaN: such queries again, key by key.
  for (int64_t i = 0; i < rows; ++i)
    if (!(s.sum[i] == T{0}))
      RowQuery(p, q.at(ib, ih, i0 + i), k.at(ib, ikv, 0), k.s, v.at(ib, ikv, 0), v.s, mask,
               mask_at + i * mask.stride[2], p.causal ? std::min(p.sk, i0 + i + 1) : p.sk, s.scores,
               to + i * out.s);
}

template <typename T>
void Flash(const Launch& launch) {
  const auto& p = launch.prepared.get<AttentionParams>();
  const Heads<const T> q(launch.in[0]), k(launch.in[1]), v(launch.in[2]);
  const Heads<T> out(launch.out[0]);
  const MaskView mask(launch.n_in > 3 ? launch.in[3] : View());
  // Tiles of equal numbers of vectors.
  const int64_t n = static_cast<int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  const int64_t vecs = (p.sq + n - 1) / n;
  const int64_t per_tile = kTile<T> / n;
  const int64_t tiles = (vecs + per_tile - 1) / per_tile;
  const int64_t items = p.batch * p.heads * tiles;
  std::atomic<int64_t> next{0};
  parallel_for(p.tasks, [&](int64_t task) {
    const FlashScratch<T> scratch(p, static_cast<char*>(launch.workspace) + task * p.slice);
    for (;;) {
      const int64_t item = next.fetch_add(1, std::memory_order_relaxed);
      if (item >= items) break;
      const int64_t head = item / tiles;
      // Causal tiles grow: the long ones first.
      const int64_t tile = p.causal ? tiles - 1 - item % tiles : item % tiles;
      const int64_t begin = vecs * tile / tiles * n;
      const int64_t end = std::min(p.sq, vecs * (tile + 1) / tiles * n);
      FlashTile<T>(p, q, k, v, mask, out, scratch, head / p.heads, head % p.heads, begin,
                   end - begin);
    }
  });
}

void LaunchFlash(const Launch& launch) {
  if (launch.out[0].dtype == DType::kFloat32)
    Flash<float>(launch);
  else
    Flash<double>(launch);
}

// ---------------------------------------------------------------- row

/// S: what is stored, T: what is computed in.
template <typename S, typename T = std::conditional_t<kIsHalf<S>, float, S>>
void Row(const Launch& launch) {
  const auto& p = launch.prepared.get<AttentionParams>();
  const Heads<const S> q(launch.in[0]), k(launch.in[1]), v(launch.in[2]);
  const Heads<S> out(launch.out[0]);
  const MaskView mask(launch.n_in > 3 ? launch.in[3] : View());
  const int64_t items = p.batch * p.heads * p.sq;
  parallel_for(p.tasks, [&](int64_t task) {
    T* const scores = reinterpret_cast<T*>(static_cast<char*>(launch.workspace) + task * p.slice);
    for (int64_t item = items * task / p.tasks; item < items * (task + 1) / p.tasks; ++item) {
      const int64_t i = item % p.sq;
      const int64_t ih = item / p.sq % p.heads;
      const int64_t ib = item / p.sq / p.heads;
      const int64_t keys = p.causal ? std::min(p.sk, i + 1) : p.sk;
      RowQuery(p, q.at(ib, ih, i), k.at(ib, ih / p.group, 0), k.s, v.at(ib, ih / p.group, 0), v.s,
               mask, ib * mask.stride[0] + ih * mask.stride[1] + i * mask.stride[2], keys, scores,
               out.at(ib, ih, i));
    }
  });
}

void LaunchRow(const Launch& launch) {
  switch (launch.out[0].dtype) {
    case DType::kFloat16:
      return Row<Half>(launch);
    case DType::kBFloat16:
      return Row<BFloat>(launch);
    case DType::kFloat32:
      return Row<float>(launch);
    default:
      return Row<double>(launch);
  }
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lc::cpu {

HWY_EXPORT(LaunchFlash);
HWY_EXPORT(LaunchRow);

namespace {

AttentionParams attention_params(const OpCall& call, Prepared& prepared) {
  const View &q = call.in[0], &k = call.in[1], &v = call.in[2];
  AttentionParams p{};
  const int rank = q.rank();
  p.batch = rank == 4 ? q.shape[0] : 1;
  p.heads = rank >= 3 ? q.shape.back(2) : 1;
  const int64_t kv_heads = rank >= 3 ? k.shape.back(2) : 1;
  p.group = p.heads / std::max<int64_t>(kv_heads, 1);
  p.sq = q.shape.back(1);
  p.sk = k.shape.back(1);
  p.d = q.shape.back();
  p.dv = v.shape.back();
  double scale = call.real("scale");
  if (scale == 0) scale = p.d > 0 ? 1 / std::sqrt(static_cast<double>(p.d)) : 1;
  p.scale = scale * 1.4426950408889634074;
  p.causal = call.flag("causal");
  if (call.n_in > 3 && call.in[3].present())
    p.mask = call.in[3].dtype == DType::kBool ? MaskKind::kBool : MaskKind::kAdd;
  for (int i = 0; i < 3; ++i)
    if (call.in[i].shape.back() != 1 && call.in[i].strides.back() != 1)
      prepared.contiguous_inputs |= 1u << i;
  const View& out = call.out[0];
  if (out.shape.back() != 1 && out.strides.back() != 1) prepared.contiguous_outputs = 1;
  return p;
}

/// Tasks for `items` pieces of work; fills workspace and estimate.
void finish(const OpCall& call, const DeviceInfo& info, AttentionParams p, int64_t items,
            int64_t slice, double share_of_peak, Prepared& prepared) {
  const double flops = 2.0 * static_cast<double>(p.batch * p.heads * p.sq) *
                       static_cast<double>(p.sk * (p.d + p.dv)) * (p.causal ? 0.5 : 1.0);
  const auto worth = static_cast<int64_t>(std::min(flops / kFlopsPerTask, 1e6));
  p.tasks = std::max<int64_t>(1, std::min({static_cast<int64_t>(num_threads()), items, worth}));
  p.slice = round_up(slice, 64);
  prepared.workspace_bytes = p.slice * p.tasks;
  if (info.peak_flops > 0) {
    const double width = call.out[0].dtype == DType::kFloat64 ? 2.0 : 1.0;
    const double threads = std::max(1, info.threads);
    prepared.estimate_ns =
        100 + 1e9 * flops * width * threads /
                  (info.peak_flops * share_of_peak * static_cast<double>(p.tasks));
  }
  prepared.set(p);
}

void prepare_flash(const OpCall& call, const DeviceInfo& info, Prepared& prepared) {
  const AttentionParams p = attention_params(call, prepared);
  const int64_t tile = kTileBytes / dtype_size(call.out[0].dtype);
  int64_t rows = p.d + p.dv + kKeyBlock + 3 + (p.sk + tile - 1) / tile;
  if (p.mask != MaskKind::kNone) rows += 2 * kKeyBlock;
  const int64_t items = p.batch * p.heads * ((p.sq + tile - 1) / tile);
  finish(call, info, p, items, rows * kTileBytes, 0.6, prepared);
}

Support supports_row(const OpCall& call, const DeviceInfo&) {
  const int64_t sq = call.in[0].shape.back(1);
  if (sq > kRowQueries)
    return Support::no("more than " + std::to_string(kRowQueries) +
                       " queries a head: " + std::to_string(sq));
  return Support::yes();
}

void prepare_row(const OpCall& call, const DeviceInfo& info, Prepared& prepared) {
  const AttentionParams p = attention_params(call, prepared);
  finish(call, info, p, p.batch * p.heads * p.sq,
         round_up(p.sk, 16) * std::max<int64_t>(dtype_size(call.out[0].dtype), 4), 0.1, prepared);
}

}  // namespace
}  // namespace lc::cpu

LC_KERNELS(attention) {
  using namespace lc::cpu;
  kernels.push_back({.op = "attention",
                     .name = "row",
                     .isa = isa_name(),
                     .supports = supports_row,
                     .prepare = prepare_row,
                     .launch = LC_KERNEL_PTR(LaunchRow),
                     .floats = kFloatTypes});
  kernels.push_back({.op = "attention",
                     .name = "flash",
                     .isa = isa_name(),
                     .prepare = prepare_flash,
                     .launch = LC_KERNEL_PTR(LaunchFlash)});
}
#endif  // HWY_ONCE
