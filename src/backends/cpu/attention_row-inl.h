// Attention of one query at a time, lanes over channels.

#if defined(LC_BACKENDS_CPU_ATTENTION_ROW_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LC_BACKENDS_CPU_ATTENTION_ROW_INL_H_
#undef LC_BACKENDS_CPU_ATTENTION_ROW_INL_H_
#else
#define LC_BACKENDS_CPU_ATTENTION_ROW_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <limits>

#include "backends/cpu/attention.hpp"
#include "backends/cpu/half-inl.h"
#include "backends/cpu/vector_math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

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
  const int64_t padded = (keys + n - 1) / n * n;
  std::fill(scores + keys, scores + padded, minus_inf);
  if (p.mask != MaskKind::kNone) {
    const int64_t sj = mask.stride[3];
    for (j = 0; j < keys; ++j) {
      const int64_t at = mask_offset + j * sj;
      if (p.mask == MaskKind::kBool) {
        if (!static_cast<const uint8_t*>(mask.data)[at]) scores[j] = minus_inf;
      } else {
        const T bias = ToFloat(static_cast<const S*>(mask.data)[at]);
        scores[j] += bias * static_cast<T>(1.4426950408889634);
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

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // LC_BACKENDS_CPU_ATTENTION_ROW_INL_H_
