// layer_norm and rms_norm over the last axis.
//
// The mean is taken twice: a first estimate m, then the mean of x - m, which has no large common
// part left to cancel; the variance is that of x - m, less the square of its (tiny) mean. So rows
// far from zero keep full accuracy without wider sums (Chan, Golub and LeVeque 1983).
#include <algorithm>
#include <cmath>
#include <string_view>

#include "backends/cpu/kernel_list.hpp"
#include "backends/cpu/rows.hpp"
#include "backends/cpu/simd.hpp"
#include "backends/cpu/thread_pool.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/kernels/norm.cpp"
#include "hwy/foreach_target.h"
#include "backends/cpu/vector_math-inl.h"
#include "hwy/highway.h"

#ifndef LC_NORM_PARAMS
#define LC_NORM_PARAMS
namespace lc::cpu {

struct NormParams {
  RowDims rows;
  int64_t n;
  double eps;
  bool layer;  ///< subtract the mean
  HalfRows half;
};

constexpr int64_t kNormGrain = 32768;  ///< elements a task

}  // namespace lc::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Sums of t and t^2 over t = x - shift.
template <bool kSquares, class D, class T = hn::TFromD<D>>
HWY_INLINE void Moments(D d, const T* x, int64_t n, T shift, T* sum, T* squares) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto m = hn::Set(d, shift);
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0, q0 = s0, q1 = s0, q2 = s0, q3 = s0;
  const auto add = [&](auto v, auto& s, auto& q) HWY_ATTR {
    const auto t = hn::Sub(v, m);
    s = hn::Add(s, t);
    if constexpr (kSquares) q = hn::MulAdd(t, t, q);
  };
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    add(hn::LoadU(d, x + i), s0, q0);
    add(hn::LoadU(d, x + i + lanes), s1, q1);
    add(hn::LoadU(d, x + i + 2 * lanes), s2, q2);
    add(hn::LoadU(d, x + i + 3 * lanes), s3, q3);
  }
  for (; i + lanes <= n; i += lanes) add(hn::LoadU(d, x + i), s0, q0);
  // The fill is the shift, which adds nothing unless it is not finite, and then all is NaN anyway.
  if (i < n) add(LoadTail(d, x + i, static_cast<size_t>(n - i), shift), s1, q1);
  *sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
  if constexpr (kSquares)
    *squares = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(q0, q1), hn::Add(q2, q3))));
}

/// y = ((x - shift) scale - offset) weight + bias.
template <bool kWeight, bool kBias, class D, class T = hn::TFromD<D>>
HWY_INLINE void Normalise(D d, const T* x, int64_t n, T shift, T scale, T offset, const T* weight,
                          const T* bias, T* y) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto m = hn::Set(d, shift), s = hn::Set(d, scale), o = hn::Set(d, offset);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    auto v = hn::MulSub(hn::Sub(hn::LoadU(d, x + i), m), s, o);
    if constexpr (kWeight && kBias)
      v = hn::MulAdd(v, hn::LoadU(d, weight + i), hn::LoadU(d, bias + i));
    if constexpr (kWeight && !kBias) v = hn::Mul(v, hn::LoadU(d, weight + i));
    if constexpr (!kWeight && kBias) v = hn::Add(v, hn::LoadU(d, bias + i));
    hn::StoreU(v, d, y + i);
  }
  if (i < n) {
    const auto tail = static_cast<size_t>(n - i);
    auto v = hn::MulSub(hn::Sub(LoadTail(d, x + i, tail, T{0}), m), s, o);
    if constexpr (kWeight) v = hn::Mul(v, LoadTail(d, weight + i, tail, T{0}));
    if constexpr (kBias) v = hn::Add(v, LoadTail(d, bias + i, tail, T{0}));
    StoreTail(v, d, y + i, tail);
  }
}

template <typename T>
void NormRow(const NormParams& p, const T* x, const T* weight, const T* bias, T* y) {
  const hn::ScalableTag<T> d;
  const double count = static_cast<double>(p.n);
  T shift = 0;
  T sum = 0;
  T squares = 0;
  if (p.layer) {
    Moments<false>(d, x, p.n, T{0}, &sum, &squares);
    shift = static_cast<T>(sum / count);
  }
  Moments<true>(d, x, p.n, shift, &sum, &squares);
  double centre = 0;
  double variance = squares / count;
  if (p.layer) {
    centre = sum / count;
    variance -= centre * centre;
    if (variance < 0) variance = 0;
  }
  const double inverse = 1 / std::sqrt(variance + p.eps);
  const T scale = static_cast<T>(inverse);
  const T offset = static_cast<T>(centre * inverse);
  if (weight != nullptr && bias != nullptr) {
    Normalise<true, true>(d, x, p.n, shift, scale, offset, weight, bias, y);
  } else if (weight != nullptr) {
    Normalise<true, false>(d, x, p.n, shift, scale, offset, weight, bias, y);
  } else if (bias != nullptr) {
    Normalise<false, true>(d, x, p.n, shift, scale, offset, weight, bias, y);
  } else {
    Normalise<false, false>(d, x, p.n, shift, scale, offset, weight, bias, y);
  }
}

template <typename T>
void Norm(const Launch& launch) {
  const auto& p = launch.prepared.get<NormParams>();
  const T* const x = launch.in[0].ptr<T>();
  const auto optional = [&](int i) -> const T* {
    return launch.n_in > i && launch.in[i].present() ? launch.in[i].ptr<T>() : nullptr;
  };
  const T* const weight = optional(1);
  const T* const bias = p.layer ? optional(2) : nullptr;
  T* const y = launch.out[0].ptr<T>();
  parallel_ranges(p.rows.count(), row_grain(p.n, kNormGrain), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      int64_t from, to;
      p.rows.offsets(r, &from, &to);
      NormRow<T>(p, x + from, weight, bias, y + to);
    }
  });
}

void NormHalves(const Launch& launch) {
  const auto& p = launch.prepared.get<NormParams>();
  const auto* const x = launch.in[0].ptr<uint16_t>();
  auto* const y = launch.out[0].ptr<uint16_t>();
  p.half.run(p.rows.count(), launch.workspace, [&](int64_t begin, int64_t end, float* row) {
    const auto optional = [&](int i) -> const float* {
      if (launch.n_in <= i || !launch.in[i].present()) return nullptr;
      p.half.widen(launch.in[i].data, row + i * p.n, p.n);
      return row + i * p.n;
    };
    const float* const weight = optional(1);
    const float* const bias = p.layer ? optional(2) : nullptr;
    for (int64_t r = begin; r < end; ++r) {
      int64_t from, to;
      p.rows.offsets(r, &from, &to);
      p.half.widen(x + from, row, p.n);
      NormRow<float>(p, row, weight, bias, row);
      p.half.narrow(row, y + to, p.n);
    }
  });
}

void LaunchNorm(const Launch& launch) {
  if (launch.prepared.get<NormParams>().half.widen != nullptr)
    NormHalves(launch);
  else if (launch.out[0].dtype == DType::kFloat32)
    Norm<float>(launch);
  else
    Norm<double>(launch);
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lc::cpu {

HWY_EXPORT(LaunchNorm);

namespace {

void prepare_norm(const OpCall& call, const DeviceInfo&, Prepared& prepared) {
  const View& x = call.in[0];
  const int last = x.rank() - 1;
  Strides in = x.strides;
  Strides out = call.out[0].strides;
  for (int i = 0; i < call.n_in; ++i) {
    const View& v = call.in[i];
    if (v.present() && v.shape.back() != 1 && v.strides.back() != 1)
      prepared.contiguous_inputs |= 1u << i;
  }
  if ((prepared.contiguous_inputs & 1) != 0) in = contiguous_strides(x.shape);
  if (x.shape[last] != 1 && out[last] != 1) {
    prepared.contiguous_outputs = 1;
    out = contiguous_strides(x.shape);
  }
  NormParams p{};
  p.n = x.shape[last];
  for (int i = 0; i < last; ++i) p.rows.add(x.shape[i], in[i], out[i]);
  p.eps = call.real("eps");
  p.layer = std::string_view(call.op->name) == "layer_norm";
  p.half.prepare(x.dtype, 3 * p.n, p.rows.count(), row_grain(p.n, kNormGrain), prepared);
  prepared.estimate_ns = 50 + static_cast<double>(x.numel()) * 0.15;
  prepared.set(p);
}

}  // namespace
}  // namespace lc::cpu

LC_KERNELS(norm) {
  using namespace lc::cpu;
  for (const char* op : {"layer_norm", "rms_norm"})
    kernels.push_back({.op = op,
                       .name = "simd",
                       .isa = isa_name(),
                       .prepare = prepare_norm,
                       .launch = LC_KERNEL_PTR(LaunchNorm),
                       .floats = kFloatTypes});
}
#endif  // HWY_ONCE
