// conv2d's candidates in the order they are tried, and the one that takes every call:
//
//   depthwise      conv_depthwise.cpp; one input channel a group
//   winograd       conv_winograd.cpp; float32, 3x3 at stride 1 with enough channels
//   pixels         conv_pixels.cpp; float32, small images with enough channels
//   direct         conv_direct.cpp; kernels and strides of ordinary size, but not 1x1 at stride 1
//   implicit_gemm  here: out[oc, oh * ow] = weight[oc, c * kh * kw] x columns, the columns of the
//                  unfolded input packed panel by panel straight into the product (Chellapilla et
//                  al. 2006, without the buffer); a 1x1 kernel's columns are the image itself
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/kernels/conv2d.cpp"
#include "hwy/foreach_target.h"
#include "backends/cpu/conv.hpp"
#include "backends/cpu/gemm-inl.h"
#include "hwy/highway.h"

#ifndef LC_CONV_PARAMS
#define LC_CONV_PARAMS
namespace lc::cpu {

struct ConvParams : ConvShape {
  GemmSizes s;  ///< of one image and group: oc / groups, oh * ow, c / groups * kh * kw
  GemmBlocks blocks;
  int64_t threads;        ///< of one product
  int64_t image_threads;  ///< images and groups at the same time, each on one thread
  int64_t slot;           ///< workspace elements of one product
};
static_assert(sizeof(ConvParams) <= 512);

}  // namespace lc::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {

inline constexpr double kConvParallelFlops = 8e5;

/// Threads inside a product, or images side by side where there are enough of them.
HWY_INLINE void ShareConv(ConvParams& p, const DeviceInfo& info) {
  p.threads = p.image_threads = 1;
  if (p.flops() < kConvParallelFlops || info.threads <= 1) return;
  const int64_t products = p.n * p.groups;
  if (products % info.threads == 0 || products >= 4 * info.threads)
    p.image_threads = info.threads;
  else
    p.threads = info.threads;
}

void PrepareImplicitGemm(const OpCall& call, const DeviceInfo& info, Prepared& out) {
  ConvParams p{};
  static_cast<ConvShape&>(p) = conv_shape(call);
  p.s = {p.group_out, p.oh * p.ow, p.depth(), 1.0};
  ShareConv(p, info);
  const int64_t width = p.dtype == DType::kFloat32 ? PanelWidth<float>() : PanelWidth<double>();
  p.blocks = gemm_blocks(p.s, width, dtype_size(p.dtype), p.threads, info);
  p.slot = p.blocks.elements(p.threads);
  out.workspace_bytes = p.image_threads * p.slot * dtype_size(p.dtype);
  // The product sees weight and out as matrices: weight's last three dimensions, and out's last
  // two, must be contiguous.
  out.contiguous_inputs = call.in[1].is_contiguous() ? 0 : 2u;
  out.contiguous_outputs = output_fits(call.out[0], true) ? 0 : 1u;
  out.set(p);
}

/// Packs columns of the unfolded input: row q of the panel is one tap (channel, kernel row, kernel
/// column), its columns are output positions. Whole output rows inside one panel are copied by
/// vectors where the stride allows; borders become zeros.
template <typename T>
struct ImageColumns {
  const ConvParams& p;
  const T* x;  // first channel of the group, of one image

  [[nodiscard]] HWY_INLINE bool by_rows() const { return false; }
  [[nodiscard]] HWY_INLINE Ahead ahead(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t) const {
    return {};
  }
  HWY_INLINE void pack(int64_t q0, int64_t kc, int64_t col, int64_t cols, T* to) const {
    const int64_t NR = PanelWidth<T>();
    for (int64_t j = 0; j < cols; j += NR)
      PackOne(q0, kc, col + j, std::min(NR, cols - j), to + j * kc);
  }

  HWY_INLINE void PackOne(int64_t q0, int64_t kc, int64_t col, int64_t cols, T* panel) const {
    const int64_t NR = PanelWidth<T>();
    const int64_t taps = p.kh * p.kw;
    int64_t c = q0 / taps;
    int64_t i = q0 % taps / p.kw;
    int64_t j = q0 % p.kw;
    const int64_t first_row = col / p.ow;
    const int64_t first_col = col % p.ow;
    for (int64_t q = 0; q < kc; ++q) {
      const T* plane = x + c * p.x_c;
      T* HWY_RESTRICT to = panel + q * NR;
      int64_t y = first_row;
      int64_t ox = first_col;
      int64_t done = 0;
      while (done < cols) {
        const int64_t run = std::min(cols - done, p.ow - ox);
        const int64_t iy = y * p.stride_h + i * p.dil_h - p.pad_h;
        if (iy < 0 || iy >= p.h)
          Zero(to + done, run);
        else
          CopyRow(plane + iy * p.x_h, ox * p.stride_w + j * p.dil_w - p.pad_w, run, to + done);
        done += run;
        ox = 0;
        ++y;
      }
      if (++j == p.kw) {
        j = 0;
        if (++i == p.kh) {
          i = 0;
          ++c;
        }
      }
    }
  }

  static HWY_INLINE void Zero(T* HWY_RESTRICT to, int64_t n) {
    for (int64_t e = 0; e < n; ++e) to[e] = T{0};
  }

  /// to[e] = row[ix + e * stride], zero outside of [0, w).
  HWY_INLINE void CopyRow(const T* row, int64_t ix, int64_t n, T* HWY_RESTRICT to) const {
    if (p.stride_w == 1 && p.x_w == 1) {
      int64_t begin = 0;
      for (; begin < n && ix + begin < 0; ++begin) to[begin] = T{0};
      const int64_t end = std::max(begin, std::min(n, p.w - ix));
      const GemmTag<T> d;
      const int64_t N = VectorLanes<T>();
      int64_t e = begin;
      for (; e + N <= end; e += N) hn::StoreU(hn::LoadU(d, row + ix + e), d, to + e);
      for (; e < end; ++e) to[e] = row[ix + e];
      for (; e < n; ++e) to[e] = T{0};
      return;
    }
    for (int64_t e = 0; e < n; ++e) {
      const int64_t at = ix + e * p.stride_w;
      to[e] = at >= 0 && at < p.w ? row[at * p.x_w] : T{0};
    }
  }
};

template <typename T>
void RunImplicitGemm(const ConvParams& p, const Launch& l) {
  const T* x = l.in[0].ptr<const T>();
  const T* w = l.in[1].ptr<const T>();
  T* out = l.out[0].ptr<T>();
  T* const workspace = static_cast<T*>(l.workspace);
  const bool plain = p.kh == 1 && p.kw == 1 && p.stride_h == 1 && p.stride_w == 1 && p.pad_h == 0 &&
                     p.pad_w == 0 && p.x_h == p.w * p.x_w;
  const auto one = [&](int64_t index, int64_t slot) HWY_ATTR {
    const int64_t image = index / p.groups;
    const int64_t g = index % p.groups;
    GemmEpilogue<T> e;
    e.activation = p.activation;
    e.bias_step = p.bias_step;
    if (p.has_bias) e.row_bias = l.in[2].ptr<const T>() + g * p.group_out * p.bias_step;
    const T* const from = x + image * p.x_n + g * p.group_in * p.x_c;
    const T* const weight = w + g * p.group_out * p.s.k;
    T* const to = out + image * p.o_n + g * p.group_out * p.o_c;
    const auto multiply = [&](const auto& from_b) HWY_ATTR {
      GemmPacked(Product<T, std::decay_t<decltype(from_b)>>{p.s, p.blocks, e, weight, p.s.k, 1, to,
                                                            p.o_c, 1, from_b},
                 workspace + slot * p.slot, p.threads);
    };
    if (plain)  // a 1x1 convolution is a product with the image itself
      multiply(MatrixB<T>{from, p.x_c, p.x_w});
    else
      multiply(ImageColumns<T>{p, from});
  };
  const int64_t products = p.n * p.groups;
  if (p.image_threads <= 1) {
    for (int64_t i = 0; i < products; ++i) one(i, 0);
    return;
  }
  parallel_for(p.image_threads, [&](int64_t t) HWY_ATTR {
    for (int64_t i = products * t / p.image_threads; i < products * (t + 1) / p.image_threads; ++i)
      one(i, t);
  });
}

void LaunchImplicitGemm(const Launch& l) {
  const auto& p = l.prepared.get<ConvParams>();
  if (p.dtype == DType::kFloat32)
    RunImplicitGemm<float>(p, l);
  else
    RunImplicitGemm<double>(p, l);
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "backends/cpu/kernel_list.hpp"
#include "backends/cpu/simd.hpp"

namespace lc::cpu {
HWY_EXPORT(PrepareImplicitGemm);
HWY_EXPORT(LaunchImplicitGemm);
}  // namespace lc::cpu

LC_KERNELS(conv2d) {
  using namespace lc::cpu;
  kernels.push_back(conv_depthwise());
  kernels.push_back(conv_winograd());
  kernels.push_back(conv_pixels());
  kernels.push_back(conv_direct());
  kernels.push_back({"conv2d", "implicit_gemm", isa_name(), nullptr,
                     LC_KERNEL_PTR(PrepareImplicitGemm), LC_KERNEL_PTR(LaunchImplicitGemm)});
}
#endif  // HWY_ONCE
