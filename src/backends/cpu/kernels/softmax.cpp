// softmax and log_softmax over one axis: maximum, sum of exponentials, scaling.
//
// `rows`: the axis has unit stride, lanes along it. `columns`: another dim has, lanes across it, a
// tile of columns at a time. Other strides are copied first.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include "backends/cpu/kernel_list.hpp"
#include "backends/cpu/rows.hpp"
#include "backends/cpu/simd.hpp"
#include "backends/cpu/thread_pool.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/kernels/softmax.cpp"
#include "hwy/foreach_target.h"
#include "backends/cpu/vector_math-inl.h"
#include "hwy/highway.h"

#ifndef LC_SOFTMAX_PARAMS
#define LC_SOFTMAX_PARAMS
namespace lc::cpu {

struct SoftmaxParams {
  RowDims outer;
  int64_t n;                          ///< length of the axis
  int64_t axis_in = 1, axis_out = 1;  ///< its strides
  int64_t columns = 0;                ///< extent of the dim with unit stride; 0: rows
  bool log;
  int64_t width = 0;  ///< columns of a tile
  HalfRows half;
};

constexpr int64_t kSoftmaxTile = 256;     ///< columns
constexpr int64_t kSoftmaxGrain = 16384;  ///< elements a task
constexpr int64_t kHalfTile = 65536;  ///< floats of a tile of float16 columns, at most about that

}  // namespace lc::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <bool kLog, typename T>
void SoftmaxRow(const T* x, int64_t n, T* y) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const T minus_inf = -std::numeric_limits<T>::infinity();
  const int64_t whole = n - n % lanes;
  const auto tail = static_cast<size_t>(n - whole);

  auto m0 = hn::Set(d, minus_inf), m1 = m0, m2 = m0, m3 = m0;
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    m0 = hn::Max(m0, hn::LoadU(d, x + i));
    m1 = hn::Max(m1, hn::LoadU(d, x + i + lanes));
    m2 = hn::Max(m2, hn::LoadU(d, x + i + 2 * lanes));
    m3 = hn::Max(m3, hn::LoadU(d, x + i + 3 * lanes));
  }
  for (; i < whole; i += lanes) m0 = hn::Max(m0, hn::LoadU(d, x + i));
  if (tail != 0) m1 = hn::Max(m1, LoadTail(d, x + whole, tail, minus_inf));
  // A NaN may be lost here; it comes back through its exponential.
  const auto m = hn::MaxOfLanes(d, hn::Max(hn::Max(m0, m1), hn::Max(m2, m3)));

  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  const auto term = [&](int64_t at) HWY_ATTR {
    const auto e = VExpFast(d, hn::Sub(hn::LoadU(d, x + at), m));
    if constexpr (!kLog) hn::StoreU(e, d, y + at);
    return e;
  };
  for (i = 0; i + 4 * lanes <= n; i += 4 * lanes) {
    s0 = hn::Add(s0, term(i));
    s1 = hn::Add(s1, term(i + lanes));
    s2 = hn::Add(s2, term(i + 2 * lanes));
    s3 = hn::Add(s3, term(i + 3 * lanes));
  }
  for (; i < whole; i += lanes) s0 = hn::Add(s0, term(i));
  if (tail != 0) {
    const auto e = VExpFast(d, hn::Sub(LoadTail(d, x + whole, tail, minus_inf), m));
    // Lanes past the end are NaN where the maximum is not finite.
    s1 = hn::Add(s1, hn::IfThenElseZero(hn::FirstN(d, tail), e));
    if constexpr (!kLog) StoreTail(e, d, y + whole, tail);
  }
  const auto sum = hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)));

  if constexpr (kLog) {
    const auto log_sum = hn::Set(d, std::log(hn::GetLane(sum)));
    for (i = 0; i < whole; i += lanes)
      hn::StoreU(hn::Sub(hn::Sub(hn::LoadU(d, x + i), m), log_sum), d, y + i);
    if (tail != 0)
      StoreTail(hn::Sub(hn::Sub(LoadTail(d, x + whole, tail, T{0}), m), log_sum), d, y + whole,
                tail);
  } else {
    const auto inverse = hn::Set(d, T{1} / hn::GetLane(sum));
    for (i = 0; i < whole; i += lanes) hn::StoreU(hn::Mul(hn::LoadU(d, y + i), inverse), d, y + i);
    if (tail != 0)
      StoreTail(hn::Mul(LoadTail(d, y + whole, tail, T{0}), inverse), d, y + whole, tail);
  }
}

/// `columns` <= kSoftmaxTile columns side by side.
template <bool kLog, typename T>
void SoftmaxColumns(const T* x, int64_t xs, int64_t n, int64_t columns, T* y, int64_t ys) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  HWY_ALIGN T maximum[kSoftmaxTile];
  HWY_ALIGN T sum[kSoftmaxTile];
  const T minus_inf = -std::numeric_limits<T>::infinity();
  const int64_t whole = columns - columns % lanes;
  const auto tail = static_cast<size_t>(columns - whole);
  for (int64_t c = 0; c < columns; c += lanes) {
    hn::Store(hn::Set(d, minus_inf), d, maximum + c);
    hn::Store(hn::Zero(d), d, sum + c);
  }
  for (int64_t j = 0; j < n; ++j) {
    const T* const row = x + j * xs;
    for (int64_t c = 0; c < whole; c += lanes)
      hn::Store(hn::Max(hn::Load(d, maximum + c), hn::LoadU(d, row + c)), d, maximum + c);
    if (tail != 0)
      hn::Store(hn::Max(hn::Load(d, maximum + whole), LoadTail(d, row + whole, tail, T{0})), d,
                maximum + whole);
  }
  for (int64_t j = 0; j < n; ++j) {
    const T* const row = x + j * xs;
    T* const to = y + j * ys;
    for (int64_t c = 0; c < whole; c += lanes) {
      const auto e = VExpFast(d, hn::Sub(hn::LoadU(d, row + c), hn::Load(d, maximum + c)));
      if constexpr (!kLog) hn::StoreU(e, d, to + c);
      hn::Store(hn::Add(hn::Load(d, sum + c), e), d, sum + c);
    }
    if (tail != 0) {
      const auto e =
          VExpFast(d, hn::Sub(LoadTail(d, row + whole, tail, T{0}), hn::Load(d, maximum + whole)));
      if constexpr (!kLog) StoreTail(e, d, to + whole, tail);
      hn::Store(hn::Add(hn::Load(d, sum + whole), e), d, sum + whole);
    }
  }
  for (int64_t c = 0; c < columns; c += lanes) {
    const auto s = hn::Load(d, sum + c);
    hn::Store(kLog ? VLog(d, s) : hn::Div(hn::Set(d, T{1}), s), d, sum + c);
  }
  for (int64_t j = 0; j < n; ++j) {
    const T* const row = x + j * xs;
    T* const to = y + j * ys;
    const auto result = [&](auto v, int64_t c) HWY_ATTR {
      if constexpr (kLog) {
        return hn::Sub(hn::Sub(v, hn::Load(d, maximum + c)), hn::Load(d, sum + c));
      } else {
        return hn::Mul(v, hn::Load(d, sum + c));
      }
    };
    const T* const from = kLog ? row : to;
    for (int64_t c = 0; c < whole; c += lanes)
      hn::StoreU(result(hn::LoadU(d, from + c), c), d, to + c);
    if (tail != 0)
      StoreTail(result(LoadTail(d, from + whole, tail, T{0}), whole), d, to + whole, tail);
  }
}

template <bool kLog, typename T>
void Softmax(const Launch& launch) {
  const auto& p = launch.prepared.get<SoftmaxParams>();
  const T* const x = launch.in[0].ptr<T>();
  T* const y = launch.out[0].ptr<T>();
  const int64_t outer = p.outer.count();
  if (p.columns == 0) {
    parallel_ranges(outer, row_grain(p.n, kSoftmaxGrain), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        int64_t from, to;
        p.outer.offsets(r, &from, &to);
        SoftmaxRow<kLog>(x + from, p.n, y + to);
      }
    });
    return;
  }
  const int64_t tiles = (p.columns + p.width - 1) / p.width;
  parallel_ranges(
      outer * tiles, row_grain(p.n * p.width, kSoftmaxGrain), [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
          int64_t from, to;
          p.outer.offsets(t / tiles, &from, &to);
          const int64_t c = t % tiles * p.width;
          SoftmaxColumns<kLog>(x + from + c, p.axis_in, p.n, std::min(p.width, p.columns - c),
                               y + to + c, p.axis_out);
        }
      });
}

template <bool kLog>
void SoftmaxHalves(const Launch& launch) {
  const auto& p = launch.prepared.get<SoftmaxParams>();
  const auto* const x = launch.in[0].ptr<uint16_t>();
  auto* const y = launch.out[0].ptr<uint16_t>();
  const int64_t tiles = p.columns == 0 ? 1 : (p.columns + p.width - 1) / p.width;
  p.half.run(p.outer.count() * tiles, launch.workspace,
             [&](int64_t begin, int64_t end, float* buffer) {
               for (int64_t t = begin; t < end; ++t) {
                 int64_t from, to;
                 p.outer.offsets(t / tiles, &from, &to);
                 if (p.columns == 0) {
                   p.half.widen(x + from, buffer, p.n);
                   SoftmaxRow<kLog>(buffer, p.n, buffer);
                   p.half.narrow(buffer, y + to, p.n);
                   continue;
                 }
                 const int64_t c = t % tiles * p.width;
                 const int64_t n = std::min(p.width, p.columns - c);
                 for (int64_t j = 0; j < p.n; ++j)
                   p.half.widen(x + from + c + j * p.axis_in, buffer + j * p.width, n);
                 SoftmaxColumns<kLog>(buffer, p.width, p.n, n, buffer, p.width);
                 for (int64_t j = 0; j < p.n; ++j)
                   p.half.narrow(buffer + j * p.width, y + to + c + j * p.axis_out, n);
               }
             });
}

void LaunchSoftmax(const Launch& launch) {
  const auto& p = launch.prepared.get<SoftmaxParams>();
  const bool log = p.log;
  if (p.half.widen != nullptr) {
    log ? SoftmaxHalves<true>(launch) : SoftmaxHalves<false>(launch);
  } else if (launch.out[0].dtype == DType::kFloat32) {
    log ? Softmax<true, float>(launch) : Softmax<false, float>(launch);
  } else {
    log ? Softmax<true, double>(launch) : Softmax<false, double>(launch);
  }
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lc::cpu {

HWY_EXPORT(LaunchSoftmax);

namespace {

void prepare_softmax(const OpCall& call, const DeviceInfo&, Prepared& prepared) {
  const View& x = call.in[0];
  const int rank = x.rank();
  const int64_t axis = call.integer("axis") + (call.integer("axis") < 0 ? rank : 0);
  Strides in = x.strides;
  Strides out = call.out[0].strides;
  const auto unit = [&](int i) { return x.shape[i] == 1 || (in[i] == 1 && out[i] == 1); };
  int column = -1;
  const auto find_column = [&] {
    for (int i = rank - 1; i >= 0; --i)
      if (i != axis && x.shape[i] > 1 && unit(i)) {
        column = i;
        return true;
      }
    return false;
  };
  // A short axis is better run across another dim.
  const bool rows = unit(static_cast<int>(axis));
  if (x.shape[static_cast<int>(axis)] == 1 ? !find_column() && !rows : !rows && !find_column()) {
    prepared.contiguous_inputs = 1;
    prepared.contiguous_outputs = 1;
    in = out = contiguous_strides(x.shape);
    if (axis != rank - 1) find_column();
  }
  SoftmaxParams p{};
  p.n = x.shape[static_cast<int>(axis)];
  p.axis_in = in[static_cast<int>(axis)];
  p.axis_out = out[static_cast<int>(axis)];
  if (column >= 0) p.columns = x.shape[column];
  p.width = std::min(p.columns, kSoftmaxTile);
  for (int i = 0; i < rank; ++i)
    if (i != axis && i != column) p.outer.add(x.shape[i], in[i], out[i]);
  p.log = std::string_view(call.op->name) == "log_softmax";
  if (p.columns == 0) {
    p.half.prepare(x.dtype, p.n, p.outer.count(), row_grain(p.n, kSoftmaxGrain), prepared);
  } else if (dtype_size(x.dtype) == 2) {
    p.width = std::min(p.width, std::clamp<int64_t>(kHalfTile / p.n / 32 * 32, 32, kSoftmaxTile));
    p.half.prepare(x.dtype, p.n * p.width, p.outer.count() * ((p.columns + p.width - 1) / p.width),
                   row_grain(p.n * p.width, kSoftmaxGrain), prepared);
  }
  prepared.estimate_ns = static_cast<double>(x.numel()) * (p.log ? 0.6 : 0.8);
  prepared.set(p);
}

}  // namespace
}  // namespace lc::cpu

LC_KERNELS(softmax) {
  using namespace lc::cpu;
  for (const char* op : {"softmax", "log_softmax"})
    kernels.push_back({.op = op,
                       .name = "simd",
                       .isa = isa_name(),
                       .prepare = prepare_softmax,
                       .launch = LC_KERNEL_PTR(LaunchSoftmax),
                       .floats = kFloatTypes});
}
#endif  // HWY_ONCE
