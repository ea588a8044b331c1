// conv2d:depthwise. One input channel a group, so each output plane is computed from one input
// plane, with a block of output rows in registers: a vector of an input row is loaded once for all
// output rows that need it.
//
//   3x3, padding 1, stride 1 or 2   reads the image in place; the zeros beside a row are shifted in
//   everything else                 reads a copy of the plane with its zeros around it
//
// The copy was slower on every 3x3 shape measured (docs/performance.md).
#include <algorithm>

#include "backends/cpu/conv.hpp"
#include "backends/cpu/simd.hpp"
#include "backends/cpu/thread_pool.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/conv_depthwise.cpp"
#include "hwy/foreach_target.h"
#include "backends/cpu/conv_planes-inl.h"
#include "hwy/highway.h"

#ifndef LC_CONV_DEPTHWISE_PARAMS
#define LC_CONV_DEPTHWISE_PARAMS
namespace lc::cpu {

struct DepthwiseParams {
  ConvShape c;
  PlaneLayout layout;
  int64_t band_rows;  ///< output rows that are computed from one buffer
  int64_t tasks;
  int64_t slot;  ///< workspace elements of a task
  bool in_place;
};

}  // namespace lc::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// What one output plane is made with.
template <typename T>
struct DepthwisePlane {
  const ConvShape& c;
  const PlaneLayout& l;
  const T* taps;           ///< kh * kw values
  const int64_t* offsets;  ///< of the taps in the padded planes
  T bias;
};

template <typename T>
HWY_INLINE void StoreColumns(hn::Vec<GemmTag<T>> v, bool relu, int64_t n, T* HWY_RESTRICT to) {
  const GemmTag<T> d;
  if (relu) v = VRelu(d, v);
  if (n >= VectorLanes<T>())
    hn::StoreU(v, d, to);
  else
    StorePart(v, d, hn::FirstN(d, static_cast<size_t>(n)), n, to);
}

/// Any kernel: rows [0, rows) of the band, a vector of columns at a time.
template <typename T>
HWY_NOINLINE void DepthwiseRows(const DepthwisePlane<T>& p, const T* HWY_RESTRICT x, int64_t rows,
                                T* HWY_RESTRICT out) {
  const GemmTag<T> d;
  const int64_t N = VectorLanes<T>();
  const int64_t taps = p.c.taps();
  const bool relu = p.c.activation == Activation::kRelu;
  const auto bias = hn::Set(d, p.bias);
  for (int64_t y = 0; y < rows; ++y) {
    const T* HWY_RESTRICT line = x + y * p.l.pitch;
    T* HWY_RESTRICT to = out + y * p.c.o_h;
    int64_t col = 0;
    for (; col + N < p.c.ow; col += 2 * N) {
      auto v0 = bias;
      auto v1 = bias;
      for (int64_t t = 0; t < taps; ++t) {
        const T* HWY_RESTRICT at = line + col + p.offsets[t];
        const auto w = hn::Set(d, p.taps[t]);
        v0 = hn::MulAdd(w, hn::LoadU(d, at), v0);
        v1 = hn::MulAdd(w, hn::LoadU(d, at + N), v1);
      }
      StoreColumns(v0, relu, N, to + col);
      StoreColumns(v1, relu, p.c.ow - col - N, to + col + N);
    }
    if (col < p.c.ow) {
      auto v = bias;
      for (int64_t t = 0; t < taps; ++t)
        v = hn::MulAdd(hn::Set(d, p.taps[t]), hn::LoadU(d, line + col + p.offsets[t]), v);
      StoreColumns(v, relu, p.c.ow - col, to + col);
    }
  }
}

/// kRows output rows of a kSize x kSize kernel at stride 1 and dilation 1.
template <typename T, int kSize, int kRows>
HWY_INLINE void DepthwiseBlock(const DepthwisePlane<T>& p, const T* HWY_RESTRICT x,
                               T* HWY_RESTRICT out) {
  const GemmTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t N = VectorLanes<T>();
  const bool relu = p.c.activation == Activation::kRelu;
  for (int64_t col = 0; col < p.c.ow; col += N) {
    V acc[kRows];
    HWY_UNROLL(8)
    for (auto& v : acc) v = hn::Set(d, p.bias);
    HWY_UNROLL(16)
    for (int i = 0; i < kRows + kSize - 1; ++i) {
      const T* HWY_RESTRICT line = x + i * p.l.pitch + col;
      HWY_UNROLL(8)
      for (int j = 0; j < kSize; ++j) {
        const V v = hn::LoadU(d, line + j);
        HWY_UNROLL(8)
        for (int r = 0; r < kRows; ++r)
          if (i - r >= 0 && i - r < kSize)
            acc[r] = hn::MulAdd(v, hn::Set(d, p.taps[(i - r) * kSize + j]), acc[r]);
      }
    }
    HWY_UNROLL(8)
    for (int r = 0; r < kRows; ++r)
      StoreColumns(acc[r], relu, p.c.ow - col, out + r * p.c.o_h + col);
  }
}

template <typename T, int kSize>
HWY_NOINLINE void DepthwiseSquare(const DepthwisePlane<T>& p, const T* x, int64_t rows, T* out) {
  int64_t y = 0;
  const auto block = [&](auto count) HWY_ATTR {
    constexpr int kRows = decltype(count)::value;
    DepthwiseBlock<T, kSize, kRows>(p, x + y * p.l.pitch, out + y * p.c.o_h);
    y += kRows;
  };
  while (y + 4 <= rows) block(std::integral_constant<int, 4>());
  if (y + 2 <= rows) block(std::integral_constant<int, 2>());
  if (y < rows) block(std::integral_constant<int, 1>());
}

/// Lane l of the result is lane l - 1, lane 0 is zero.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V SlideUp(D d, V v) {
  const hn::RebindToSigned<D> di;
  const auto before = hn::Iota(di, -1);
  const auto index =
      hn::And(before, hn::Set(di, static_cast<hn::TFromD<decltype(di)>>(hn::Lanes(d) - 1)));
  return hn::IfThenZeroElse(hn::FirstN(d, 1),
                            hn::TableLookupLanes(v, hn::IndicesFromVec(d, index)));
}
/// Lane l of the result is lane l + 1, the last is zero.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V SlideDown(D d, V v) {
  const hn::RebindToSigned<D> di;
  const auto after = hn::Iota(di, 1);
  const auto index =
      hn::And(after, hn::Set(di, static_cast<hn::TFromD<decltype(di)>>(hn::Lanes(d) - 1)));
  return hn::IfThenElseZero(hn::FirstN(d, hn::Lanes(d) - 1),
                            hn::TableLookupLanes(v, hn::IndicesFromVec(d, index)));
}

/// One vector of output columns of a 3x3 kernel with padding 1, and which of the input columns
/// left of, at and right of them (at stride 2: two vectors of each) lie inside of the row.
template <typename T, int kStride>
struct Columns3 {
  using Mask = hn::Mask<GemmTag<T>>;
  struct Part {
    int64_t from, count;
    Mask mask;
    HWY_INLINE Part(int64_t first, int64_t rest)
        : from(first),
          count(std::clamp<int64_t>(rest, 0, VectorLanes<T>())),
          mask(hn::FirstN(GemmTag<T>(), static_cast<size_t>(count))) {}
    HWY_INLINE hn::Vec<GemmTag<T>> Load(const T* line) const {
      return LoadPart(GemmTag<T>(), mask, count, line + from);
    }
  };
  int64_t col, at, rest;
  Part left0, left1, mid0, mid1, out;

  HWY_INLINE Columns3(const ConvShape& c, int64_t column)
      : col(column),
        at(column * kStride),
        rest(c.w - at),
        left0(at - 1, rest + 1),
        left1(at - 1 + VectorLanes<T>(), rest + 1 - VectorLanes<T>()),
        mid0(at, rest),
        mid1(at + VectorLanes<T>(), rest - VectorLanes<T>()),
        out(column, c.ow - column) {}
  [[nodiscard]] HWY_INLINE bool inside() const {
    return at > 0 && rest > kStride * VectorLanes<T>();
  }

  /// Zeros stand for columns outside of the row.
  template <bool kInside>
  HWY_INLINE void Load(const T* HWY_RESTRICT line, hn::Vec<GemmTag<T>>* HWY_RESTRICT v) const {
    const GemmTag<T> d;
    const int64_t N = VectorLanes<T>();
    if constexpr (kInside && kStride == 1) {
      for (int j = 0; j < 3; ++j) v[j] = hn::LoadU(d, line + at - 1 + j);
    } else if constexpr (kInside) {
      const auto a = hn::LoadU(d, line + at);
      const auto b = hn::LoadU(d, line + at + N);
      v[0] = hn::ConcatEven(d, hn::LoadU(d, line + at - 1 + N), hn::LoadU(d, line + at - 1));
      v[1] = hn::ConcatEven(d, b, a);
      v[2] = hn::ConcatOdd(d, b, a);
    } else if constexpr (kStride == 1) {
      v[1] = mid0.Load(line);
      v[0] = at > 0 ? left0.Load(line) : SlideUp(d, v[1]);
      v[2] = rest > N ? hn::LoadU(d, line + at + 1) : SlideDown(d, v[1]);
    } else {
      const auto a = mid0.Load(line);
      const auto b = mid1.count > 0 ? mid1.Load(line) : hn::Zero(d);
      v[1] = hn::ConcatEven(d, b, a);
      v[2] = hn::ConcatOdd(d, b, a);
      if (at == 0)
        v[0] = SlideUp(d, v[2]);
      else
        v[0] =
            hn::ConcatEven(d, left1.count > 0 ? left1.Load(line) : hn::Zero(d), left0.Load(line));
    }
  }
};

/// kRows output rows from row y. Input rows outside of the image add nothing.
template <typename T, int kStride, bool kInside, int kRows>
HWY_INLINE void DepthwiseRows3(const DepthwisePlane<T>& p, const Columns3<T, kStride>& columns,
                               const T* HWY_RESTRICT x, int64_t y, T* HWY_RESTRICT out) {
  const GemmTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t h = p.c.h;
  const int64_t x_h = p.c.x_h;
  const int64_t o_h = p.c.o_h;
  const T* const taps = p.taps;
  V acc[kRows];
  HWY_UNROLL(8)
  for (auto& v : acc) v = hn::Set(d, p.bias);
  HWY_UNROLL(16)
  for (int i = 0; i < (kRows - 1) * kStride + 3; ++i) {
    const int64_t row = y * kStride + i - 1;
    if (row < 0 || row >= h) continue;
    V v[3];
    columns.template Load<kInside>(x + row * x_h, v);
    HWY_UNROLL(8)
    for (int r = 0; r < kRows; ++r) {
      const int k = i - r * kStride;
      if (k < 0 || k >= 3) continue;
      HWY_UNROLL(4)
      for (int j = 0; j < 3; ++j) acc[r] = hn::MulAdd(v[j], hn::Set(d, taps[k * 3 + j]), acc[r]);
    }
  }
  T* HWY_RESTRICT to = out + y * o_h + columns.col;
  if (p.c.activation == Activation::kRelu) {
    HWY_UNROLL(8)
    for (auto& v : acc) v = VRelu(d, v);
  }
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) {
    if constexpr (kInside)
      hn::StoreU(acc[r], d, to + r * o_h);
    else
      StorePart(acc[r], d, columns.out.mask, columns.out.count, to + r * o_h);
  }
}

template <typename T, int kStride>
HWY_NOINLINE void DepthwisePlane3(const DepthwisePlane<T>& p, const T* x, T* out) {
  const int64_t oh = p.c.oh;
  const auto down = [&](auto inside, const Columns3<T, kStride>& columns) HWY_ATTR {
    constexpr bool kInside = decltype(inside)::value;
    int64_t y = 0;
    for (; y + 4 <= oh; y += 4) DepthwiseRows3<T, kStride, kInside, 4>(p, columns, x, y, out);
    if (y + 3 == oh) {
      DepthwiseRows3<T, kStride, kInside, 3>(p, columns, x, y, out);
      return;
    }
    for (; y < oh; ++y) DepthwiseRows3<T, kStride, kInside, 1>(p, columns, x, y, out);
  };
  for (int64_t col = 0; col < p.c.ow; col += VectorLanes<T>()) {
    const Columns3<T, kStride> columns(p.c, col);
    if (columns.inside())
      down(std::true_type(), columns);
    else
      down(std::false_type(), columns);
  }
}

template <typename T>
void RunDepthwise(const DepthwiseParams& p, const Launch& l) {
  const ConvShape& c = p.c;
  const T* x = l.in[0].ptr<const T>();
  const T* w = l.in[1].ptr<const T>();
  T* out = l.out[0].ptr<T>();
  const int64_t channels = c.groups * c.group_out;
  const bool unit = c.stride_h == 1 && c.stride_w == 1 && c.dil_h == 1 && c.dil_w == 1;
  const int64_t square = unit && c.kh == c.kw ? c.kh : 0;
  int64_t offsets[kConvMaxTaps];
  for (int64_t i = 0; i < c.kh; ++i)
    for (int64_t j = 0; j < c.kw; ++j) offsets[i * c.kw + j] = p.layout.tap_offset(c, i, j);
  GemmEpilogue<T> rest;  // what StoreColumns does not apply
  if (c.activation != Activation::kRelu) rest.activation = c.activation;
  const auto run = [&](int64_t task) HWY_ATTR {
    T* const planes = static_cast<T*>(l.workspace) + task * p.slot;
    T taps[kConvMaxTaps];
    int64_t padded = -1;  // the plane that the buffer holds
    const int64_t total = c.n * channels;
    const int64_t end = total * (task + 1) / p.tasks;
    for (int64_t index = total * task / p.tasks; index < end; ++index) {
      const int64_t image = index / channels;
      const int64_t oc = index % channels;
      const int64_t source = image * c.groups + oc / c.group_out;
      const T* const from = x + image * c.x_n + oc / c.group_out * c.x_c;
      T* const to = out + image * c.o_n + oc * c.o_c;
      for (int64_t i = 0; i < c.kh; ++i)
        for (int64_t j = 0; j < c.kw; ++j)
          taps[i * c.kw + j] = w[oc * c.w_o + i * c.w_h + j * c.w_w];
      const T bias = c.has_bias ? l.in[2].ptr<const T>()[oc * c.bias_step] : T{0};
      const DepthwisePlane<T> plane{c, p.layout, taps, offsets, bias};
      if (p.in_place) {
        if (c.stride_w == 1)
          DepthwisePlane3<T, 1>(plane, from, to);
        else
          DepthwisePlane3<T, 2>(plane, from, to);
        Finish(rest, to, c.o_h, 0, c.oh, 0, c.ow);
        continue;
      }
      for (int64_t y = 0; y < c.oh; y += p.band_rows) {
        const int64_t rows = std::min(p.band_rows, c.oh - y);
        if (rows < c.oh || padded != source) PadChannel(c, p.layout, from, y, rows, planes);
        padded = source;
        T* const band = to + y * c.o_h;
        if (square == 3)
          DepthwiseSquare<T, 3>(plane, planes, rows, band);
        else if (square == 5)
          DepthwiseSquare<T, 5>(plane, planes, rows, band);
        else
          DepthwiseRows(plane, planes, rows, band);
        Finish(rest, band, c.o_h, 0, rows, 0, c.ow);
      }
    }
  };
  if (p.tasks <= 1)
    run(0);
  else
    parallel_for(p.tasks, run);
}

void LaunchDepthwise(const Launch& l) {
  const auto& p = l.prepared.get<DepthwiseParams>();
  if (p.c.dtype == DType::kFloat32)
    RunDepthwise<float>(p, l);
  else
    RunDepthwise<double>(p, l);
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lc::cpu {
HWY_EXPORT(LaunchDepthwise);

namespace {

constexpr int64_t kLanes = 16;  // of the widest vector

Support supports(const OpCall& call, const DeviceInfo&) {
  if (call.in[1].shape[1] != 1)
    return Support::no(cat(call.in[1].shape[1], " input channels a group, not 1"));
  if (call.in[0].shape[1] == 1 && call.in[1].shape[0] > 2)
    return Support::no("one input channel for many outputs");
  return planes_support(conv_shape(call));
}

void prepare(const OpCall& call, const DeviceInfo& info, Prepared& out) {
  DepthwiseParams p{};
  p.c = conv_shape(call);
  const int64_t element = dtype_size(p.c.dtype);
  // A buffer takes at most half of L2; smaller bands would copy more rows twice.
  p.band_rows = std::max<int64_t>(p.c.oh, 1);
  const auto fit = [&] { p.layout = plane_layout(p.c, p.band_rows, kLanes); };
  fit();
  while (p.band_rows > 4 && p.layout.plane() * element > info.l2_bytes / 2) {
    p.band_rows = (p.band_rows + 1) / 2;
    fit();
  }
  // A copy of the plane and a multiply-add a tap and output, at what one core does in cache.
  const auto planes = static_cast<double>(p.c.n * p.c.groups * p.c.group_out);
  const double ns = planes * (20 + 0.03 * static_cast<double>(p.layout.plane()) +
                              p.c.flops() / std::max(planes, 1.0) / 50);
  constexpr double kWorthSharingNs = 3000;
  p.tasks = ns < kWorthSharingNs
                ? 1
                : std::clamp<int64_t>(p.c.n * p.c.groups * p.c.group_out, 1, info.threads);
  p.in_place = p.c.kh == 3 && p.c.kw == 3 && p.c.pad_h == 1 && p.c.pad_w == 1 && p.c.dil_h == 1 &&
               p.c.dil_w == 1 && p.c.stride_h == p.c.stride_w && p.c.stride_h <= 2 && p.c.x_w == 1;
  p.slot = p.in_place ? 0 : (p.layout.plane() + 63) / 64 * 64;
  out.workspace_bytes = p.tasks * p.slot * element;
  out.estimate_ns = ns / static_cast<double>(p.tasks);
  out.contiguous_outputs = output_fits(call.out[0], false) ? 0 : 1u;
  out.set(p);
}

}  // namespace

KernelDef conv_depthwise() {
  return {"conv2d", "depthwise", isa_name(), supports, prepare, LC_KERNEL_PTR(LaunchDepthwise)};
}

}  // namespace lc::cpu
#endif  // HWY_ONCE
