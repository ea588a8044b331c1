// Zero-padded planes, cut into the phases of the stride; see PlaneLayout.

#if defined(LC_BACKENDS_CPU_CONV_PLANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LC_BACKENDS_CPU_CONV_PLANES_INL_H_
#undef LC_BACKENDS_CPU_CONV_PLANES_INL_H_
#else
#define LC_BACKENDS_CPU_CONV_PLANES_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "backends/cpu/conv.hpp"
#include "backends/cpu/gemm_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Columns [first, end) of a phase hold data; column `first` is column `source` of the image.
struct PhaseColumns {
  int64_t first, end, source;
};

HWY_INLINE PhaseColumns ColumnsOfPhase(const ConvShape& c, const PlaneLayout& l, int64_t phase) {
  const int64_t s = c.stride_w;
  PhaseColumns r{};
  r.first = std::min(c.pad_w > phase ? (c.pad_w - phase + s - 1) / s : 0, l.pitch);
  const int64_t last = c.w - 1 + c.pad_w - phase;
  r.end = last < 0 ? r.first : std::clamp(last / s + 1, r.first, l.pitch);
  r.source = r.first * s + phase - c.pad_w;
  return r;
}

template <typename T>
HWY_INLINE void FillZero(T* HWY_RESTRICT to, int64_t n) {
  for (int64_t e = 0; e < n; ++e) to[e] = T{0};
}

/// to[e] = from[e * step]; may write up to a vector past to[n].
template <typename T>
HWY_INLINE void CopyColumns(const T* HWY_RESTRICT from, int64_t step, int64_t n,
                            T* HWY_RESTRICT to) {
  const GemmTag<T> d;
  const int64_t N = VectorLanes<T>();
  int64_t e = 0;
  if (step != 1) {
    if (step == 2)  // the last element's right neighbour need not exist
      for (; e + N < n; e += N)
        hn::StoreU(hn::ConcatEven(d, hn::LoadU(d, from + 2 * e + N), hn::LoadU(d, from + 2 * e)), d,
                   to + e);
    for (; e < n; ++e) to[e] = from[e * step];
    return;
  }
  for (; e + N <= n; e += N) hn::StoreU(hn::LoadU(d, from + e), d, to + e);
  if (e < n) {
    if constexpr (kMaskedTails)
      hn::StoreU(hn::MaskedLoad(hn::FirstN(d, static_cast<size_t>(n - e)), d, from + e), d, to + e);
    else
      for (; e < n; ++e) to[e] = from[e];
  }
}

/// even[e] = from[2e], odd[e] = from[2e + 1] for the columns there are.
template <typename T>
HWY_INLINE void SplitColumns(const T* HWY_RESTRICT from, int64_t n, T* HWY_RESTRICT even,
                             T* HWY_RESTRICT odd) {
  const GemmTag<T> d;
  const int64_t N = VectorLanes<T>();
  int64_t e = 0;
  for (; 2 * (e + N) <= n; e += N) {
    const auto a = hn::LoadU(d, from + 2 * e);
    const auto b = hn::LoadU(d, from + 2 * e + N);
    hn::StoreU(hn::ConcatEven(d, b, a), d, even + e);
    hn::StoreU(hn::ConcatOdd(d, b, a), d, odd + e);
  }
  for (; 2 * e < n; ++e) {
    even[e] = from[2 * e];
    if (2 * e + 1 < n) odd[e] = from[2 * e + 1];
  }
}

/// The planes of one channel for output rows [y0, y0 + rows) of the layout's band.
template <typename T>
HWY_NOINLINE void PadChannel(const ConvShape& c, const PlaneLayout& l, const T* HWY_RESTRICT x,
                             int64_t y0, int64_t rows, T* HWY_RESTRICT to) {
  const int64_t phase_rows = rows + (c.kh - 1) * c.dil_h / c.stride_h;
  PhaseColumns columns[kConvMaxStride];
  for (int64_t b = 0; b < l.phases_w; ++b) columns[b] = ColumnsOfPhase(c, l, b);
  // Both phases of a row of stride 2 come from one pass.
  const bool split = l.phases_w == 2 && c.x_w == 1;
  const int64_t even = c.pad_w & 1;
  for (int64_t a = 0; a < l.phases_h; ++a) {
    T* const phases = to + a * l.phases_w * l.phase;
    for (int64_t y = 0; y < phase_rows; ++y) {
      const int64_t row = (y0 + y) * c.stride_h + a - c.pad_h;
      T* const line = phases + y * l.pitch;
      if (row < 0 || row >= c.h) {
        for (int64_t b = 0; b < l.phases_w; ++b) FillZero(line + b * l.phase, l.pitch);
        continue;
      }
      const T* const from = x + row * c.x_h;
      if (split) {
        const int64_t w = std::min(c.w, 2 * l.pitch - c.pad_w);
        SplitColumns(from, w, line + even * l.phase + (c.pad_w - even) / 2,
                     line + (1 - even) * l.phase + (c.pad_w + even) / 2);
      }
      for (int64_t b = 0; b < l.phases_w; ++b) {
        const PhaseColumns& r = columns[b];
        T* const part = line + b * l.phase;
        if (!split)
          CopyColumns(from + r.source * c.x_w, c.stride_w * c.x_w, r.end - r.first, part + r.first);
        FillZero(part, r.first);
        FillZero(part + r.end, l.pitch - r.end);
      }
    }
    for (int64_t b = 0; b < l.phases_w; ++b)
      FillZero(phases + b * l.phase + phase_rows * l.pitch, l.beyond);
  }
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // LC_BACKENDS_CPU_CONV_PLANES_INL_H_
