// max_pool2d, avg_pool2d with PyTorch's rules for padding, ceil_mode and divisors.
//
// One output row at a time: the rows of the window are joined into a row buffer (contiguous, full
// vectors), then the buffer is joined along the width with the stride.
#include <algorithm>
#include <limits>

#include "backends/cpu/elementwise.hpp"
#include "backends/cpu/kernel_list.hpp"
#include "backends/cpu/simd.hpp"
#include "backends/cpu/thread_pool.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/kernels/pool.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#ifndef LC_POOL_PARAMS
#define LC_POOL_PARAMS
namespace lc::cpu {

struct PoolParams {
  int64_t kernel[2], stride[2], padding[2], dilation[2];
  int64_t planes[2];  ///< extents of the dims before height and width; the first is the batch
  int64_t in_size[2], out_size[2];
  int64_t in_stride[4], out_stride[4];  ///< elements
  bool count_padding;
};
inline constexpr int64_t kPoolSpan = 2048;  ///< columns of the row buffer

}  // namespace lc::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {

template <bool kMax, typename T>
HWY_INLINE T Join(T acc, T x) {
  if constexpr (kMax) return (x > acc) | (x != x) ? x : acc;
  return acc + x;
}

template <bool kMax, typename T>
HWY_NOINLINE void JoinRow(T* HWY_RESTRICT acc, const T* HWY_RESTRICT x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) acc[i] = Join<kMax>(acc[i], x[i]);
}
template <bool kMax, typename T>
HWY_NOINLINE void JoinStrided(T* HWY_RESTRICT acc, const T* HWY_RESTRICT x, int64_t stride,
                              int64_t n) {
  if (stride == 2) {
    for (int64_t i = 0; i < n; ++i) acc[i] = Join<kMax>(acc[i], x[2 * i]);
  } else {
    for (int64_t i = 0; i < n; ++i) acc[i] = Join<kMax>(acc[i], x[i * stride]);
  }
}

/// Valid taps of the window that starts at `start`: [first, last) of k with 0 <= start + k * d <
/// size.
HWY_INLINE void Taps(int64_t start, int64_t k, int64_t d, int64_t size, int64_t* first,
                     int64_t* last) {
  *first = start >= 0 ? 0 : std::min(k, (-start + d - 1) / d);
  *last = start >= size ? 0 : std::min(k, (size - start + d - 1) / d);
  *last = std::max(*first, *last);
}

template <bool kMax, typename T>
void PoolRow(const PoolParams& p, const T* plane, T* out, int64_t oh) {
  constexpr T kIdentity = kMax ? -std::numeric_limits<T>::infinity() : T{0};
  const int64_t width = p.in_size[1];
  const int64_t h0 = oh * p.stride[0] - p.padding[0];
  int64_t kh0 = 0;
  int64_t kh1 = 0;
  Taps(h0, p.kernel[0], p.dilation[0], p.in_size[0], &kh0, &kh1);
  const int64_t reach = (p.kernel[1] - 1) * p.dilation[1] + 1;
  const int64_t chunk =
      reach >= kPoolSpan ? 1 : std::clamp<int64_t>((kPoolSpan - reach) / p.stride[1] + 1, 1, 512);
  const int64_t ws = p.in_stride[3];
  T acc[512];
  T buffer[kPoolSpan];
  for (int64_t w = 0; w < p.out_size[1]; w += chunk) {
    const int64_t n = std::min(chunk, p.out_size[1] - w);
    const int64_t w0 = w * p.stride[1] - p.padding[1];
    const int64_t span = (n - 1) * p.stride[1] + reach;
    std::fill_n(acc, n, kIdentity);
    if (span > kPoolSpan) {  // one wide window (chunk is 1)
      int64_t kw0 = 0;
      int64_t kw1 = 0;
      Taps(w0, p.kernel[1], p.dilation[1], width, &kw0, &kw1);
      for (int64_t i = kh0; i < kh1; ++i)
        for (int64_t j = kw0; j < kw1; ++j)
          acc[0] = Join<kMax>(
              acc[0],
              plane[(h0 + i * p.dilation[0]) * p.in_stride[2] + (w0 + j * p.dilation[1]) * ws]);
    } else {
      const int64_t b = std::clamp<int64_t>(-w0, 0, span);  // columns [b, e) are inside
      const int64_t e = std::clamp<int64_t>(width - w0, b, span);
      std::fill_n(buffer, span, kIdentity);
      for (int64_t i = kh0; i < kh1; ++i) {
        const T* row = plane + (h0 + i * p.dilation[0]) * p.in_stride[2] + (w0 + b) * ws;
        if (ws == 1) {
          JoinRow<kMax, T>(buffer + b, row, e - b);
        } else {
          for (int64_t j = 0; j < e - b; ++j)
            buffer[b + j] = Join<kMax>(buffer[b + j], row[j * ws]);
        }
      }
      for (int64_t j = 0; j < p.kernel[1]; ++j) {
        const T* from = buffer + j * p.dilation[1];
        if (p.stride[1] == 1) {
          JoinRow<kMax, T>(acc, from, n);
        } else {
          JoinStrided<kMax, T>(acc, from, p.stride[1], n);
        }
      }
    }
    if constexpr (!kMax) {
      const int64_t h_end = std::min(h0 + p.kernel[0], p.in_size[0] + p.padding[0]);
      for (int64_t i = 0; i < n; ++i) {
        const int64_t start = w0 + i * p.stride[1];
        const int64_t w_end = std::min(start + p.kernel[1], width + p.padding[1]);
        const int64_t terms =
            p.count_padding ? (h_end - h0) * (w_end - start)
                            : (kh1 - kh0) * (std::min(w_end, width) - std::max<int64_t>(start, 0));
        acc[i] = terms > 0 ? acc[i] / static_cast<T>(terms) : T{0};
      }
    }
    for (int64_t i = 0; i < n; ++i) out[(w + i) * p.out_stride[3]] = acc[i];
  }
}

template <bool kMax>
void Pool(const Launch& launch) {
  const auto& p = launch.prepared.get<PoolParams>();
  const auto go = [&]<typename T>(T* out) {
    const T* x = launch.in[0].ptr<T>();
    const int64_t rows = p.planes[0] * p.planes[1] * p.out_size[0];
    const double ns =
        10 + 0.15 * static_cast<double>(p.kernel[0] * p.in_size[1] + p.kernel[1] * p.out_size[1]);
    parallel_ranges(rows, range_grain(rows, ns), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t oh = r % p.out_size[0];
        const int64_t plane = r / p.out_size[0];
        const int64_t c = plane % p.planes[1];
        const int64_t b = plane / p.planes[1];
        PoolRow<kMax, T>(p, x + b * p.in_stride[0] + c * p.in_stride[1],
                         out + b * p.out_stride[0] + c * p.out_stride[1] + oh * p.out_stride[2],
                         oh);
      }
    });
  };
  if (launch.in[0].dtype == DType::kFloat32) {
    go(launch.out[0].ptr<float>());
  } else {
    go(launch.out[0].ptr<double>());
  }
}
void MaxPool(const Launch& launch) { Pool<true>(launch); }
void AvgPool(const Launch& launch) { Pool<false>(launch); }

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lc::cpu {
HWY_EXPORT(MaxPool);
HWY_EXPORT(AvgPool);

namespace {

void prepare_pool(const OpCall& call, const DeviceInfo&, Prepared& prepared) {
  PoolParams p{};
  const View& x = call.in[0];
  const View& out = call.out[0];
  const bool is_max = std::string_view(call.op->name) == "max_pool2d";
  const AttrValue& kernel = call.attr_of("kernel");
  const AttrValue& stride = call.attr_of("stride");
  // One number stands for both dims.
  const auto pair = [](const AttrValue& a, int64_t* to) {
    to[0] = a.i[0];
    to[1] = a.n > 1 ? a.i[1] : a.i[0];
  };
  pair(kernel, p.kernel);
  pair(stride.n > 0 ? stride : kernel, p.stride);
  pair(call.attr_of("padding"), p.padding);
  p.dilation[0] = p.dilation[1] = 1;
  if (is_max) pair(call.attr_of("dilation"), p.dilation);
  p.count_padding = !is_max && call.flag("count_include_pad");
  const int lead = 4 - x.rank();  // a missing batch dim is one of extent 1
  for (int i = 0; i < 4; ++i) {
    const bool missing = i < lead;
    p.in_stride[i] = missing ? 0 : x.strides[i - lead];
    p.out_stride[i] = missing ? 0 : out.strides[i - lead];
    const int64_t in_extent = missing ? 1 : x.shape[i - lead];
    const int64_t out_extent = missing ? 1 : out.shape[i - lead];
    if (i < 2) {
      p.planes[i] = in_extent;
    } else {
      p.in_size[i - 2] = in_extent;
      p.out_size[i - 2] = out_extent;
    }
  }
  prepared.estimate_ns = static_cast<double>(x.numel() * 2 + out.numel() * p.kernel[1]) * 0.15;
  prepared.set(p);
}

}  // namespace
}  // namespace lc::cpu

LC_KERNELS(pool) {
  using namespace lc::cpu;
  kernels.push_back({.op = "max_pool2d",
                     .name = "rows",
                     .isa = isa_name(),
                     .prepare = prepare_pool,
                     .launch = LC_KERNEL_PTR(MaxPool)});
  kernels.push_back({.op = "avg_pool2d",
                     .name = "rows",
                     .isa = isa_name(),
                     .prepare = prepare_pool,
                     .launch = LC_KERNEL_PTR(AvgPool)});
}
#endif
