// conv2d:pixels. A matrix product whose rows are output pixels and whose columns, the lanes, are
// output channels: the image is transposed to pixels of channels first, unfolded a tap at a time,
// and the result is transposed back. Pixels need not fill vectors, so that 7x7 images waste
// nothing, and a stride is just another pixel. The transposes cost what a few more channels would.
//
//   bands   all weights are packed first. A task is a band of output rows of one image. For weights
//           that fit half of L2.
//   panels  the pixels of all images are unfolded first, by all threads. A task is a panel of
//           output channels, which packs its weights a chunk of channels at a time.
#include <algorithm>

#include "backends/cpu/conv.hpp"
#include "backends/cpu/simd.hpp"
#include "backends/cpu/thread_pool.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/conv_pixels.cpp"
#include "hwy/foreach_target.h"
#include "backends/cpu/conv_pixels-inl.h"
#include "backends/cpu/conv_planes-inl.h"
#include "backends/cpu/gemm-inl.h"
#include "hwy/highway.h"

#ifndef LC_CONV_PIXELS_PARAMS
#define LC_CONV_PIXELS_PARAMS
namespace lc::cpu {

struct ConvPixelsParams {
  ConvShape c;
  int64_t threads;
  bool panels;    ///< a task is a panel of output channels, else a band of rows
  bool unfolded;  ///< rows of the product are the pixels themselves: one tap, no padding
  int64_t block;  ///< output rows of a band, or that are multiplied at a time
  int64_t share;  ///< output rows that are unfolded at a time; of a band: all
  int64_t chunk;  ///< input channels whose weights are packed at a time
  // Workspace elements: packed weights (of all, or a task's) and unfolded pixels (a task's, or
  // all), and a task's transposed input and sums.
  int64_t weights, rows, pixels, sums;
  [[nodiscard]] int64_t blocks() const { return (c.oh + block - 1) / block; }
  [[nodiscard]] int64_t shares() const { return (c.oh + share - 1) / share; }
  [[nodiscard]] int64_t slices() const { return (c.group_in + kPixelSlice - 1) / kPixelSlice; }
};

}  // namespace lc::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

class ConvPixels {
 public:
  ConvPixels(const ConvPixelsParams& p, const Launch& l)
      : p_(p),
        c_(p.c),
        x_(l.in[0].ptr<const float>()),
        w_(l.in[1].ptr<const float>()),
        out_(l.out[0].ptr<float>()),
        panels_((c_.group_out + 2 * VectorLanes<float>() - 1) / (2 * VectorLanes<float>())) {
    auto* at = static_cast<float*>(l.workspace);
    const auto take = [&](int64_t n) {
      float* const taken = at;
      at += n;
      return taken;
    };
    zeros_ = take(pixel_pitch(c_));
    bias_ = take(panels_ * 2 * VectorLanes<float>());
    weights_ = take(p.weights * (p.panels ? p.threads : 1));
    rows_ = take(p.rows * (p.panels ? 1 : p.threads));
    pixels_ = take(p.pixels * p.threads);
    sums_ = take(p.sums * p.threads);
    std::fill_n(zeros_, pixel_pitch(c_), 0.0f);
    std::fill_n(bias_, panels_ * 2 * VectorLanes<float>(), 0.0f);
    for (int64_t i = 0; c_.has_bias && i < c_.group_out; ++i)
      bias_[i] = l.in[2].ptr<const float>()[i * c_.bias_step];
    if (c_.activation != Activation::kRelu) rest_.activation = c_.activation;
  }

  HWY_INLINE void Run() const { p_.panels ? Panels() : Bands(); }

 private:
  HWY_INLINE void Bands() const {
    const int64_t channels = c_.group_in;
    const int64_t panel_weights = c_.taps() * channels * 2 * VectorLanes<float>();
    const int64_t pixels = p_.block * c_.ow;
    ForPieces(p_.threads, panels_, [&](int64_t panel, int64_t) HWY_ATTR {
      PackWeights(panel, 0, channels, weights_ + panel * panel_weights);
    });
    ForPieces(p_.threads, c_.n * p_.blocks(), [&](int64_t task, int64_t t) HWY_ATTR {
      const RowsOfImage b = BlockOfRows(task, p_.blocks(), c_.oh);
      float* const rows = rows_ + t * p_.rows;
      float* const sums = sums_ + t * p_.sums;
      Unfold(b, pixels_ + t * p_.pixels, rows, pixels);
      for (int64_t panel = 0; panel < panels_; ++panel) {
        Multiply(panel, weights_ + panel * panel_weights, 0, channels, rows, pixels, b.rows * c_.ow,
                 sums, {});
        Store(panel, b, sums);
      }
    });
  }

  HWY_INLINE void Panels() const {
    const int64_t image = c_.oh * c_.ow;
    const int64_t pixels = c_.n * image;
    const int64_t blocks = c_.n * p_.blocks();
    const auto first_pixel = [&](const RowsOfImage& b) { return b.image * image + b.row0 * c_.ow; };
    ForPieces(p_.threads, c_.n * p_.shares(), [&](int64_t i, int64_t t) HWY_ATTR {
      const RowsOfImage b = BlockOfRows(i, p_.shares(), c_.oh);
      Unfold(b, pixels_ + t * p_.pixels, rows_ + first_pixel(b) * kPixelSlice, pixels);
    });
    ForPieces(p_.threads, panels_, [&](int64_t panel, int64_t t) HWY_ATTR {
      float* const weights = weights_ + t * p_.weights;
      for (int64_t c0 = 0; c0 < c_.group_in; c0 += p_.chunk) {
        const int64_t channels = std::min(p_.chunk, c_.group_in - c0);
        PackWeights(panel, c0, channels, weights);
        for (int64_t i = 0; i < blocks; ++i) {
          const RowsOfImage b = BlockOfRows(i, p_.blocks(), c_.oh);
          // Sums of several chunks are kept of all pixels, else of a block.
          float* const sums = sums_ + t * p_.sums +
                              (p_.chunk < c_.group_in ? first_pixel(b) * PanelLanes(c_, panel) : 0);
          Multiply(panel, weights, c0, channels, rows_ + first_pixel(b) * kPixelSlice, pixels,
                   b.rows * c_.ow, sums,
                   i == 0 ? WeightsAfter(c_, w_, panel, 2 * VectorLanes<float>(), c0, p_.chunk,
                                         p_.threads)
                          : WeightsAhead{});
          if (c0 + channels == c_.group_in) Store(panel, b, sums);
        }
      }
    });
  }

  /// to[tap][channel][output channel] of input channels [c0, c0 + channels).
  HWY_NOINLINE void PackWeights(int64_t panel, int64_t c0, int64_t channels,
                                float* HWY_RESTRICT to) const {
    constexpr int64_t kSome = 16;  // rows of a tap that are moved at a time
    constexpr size_t kLanes = hn::MaxLanes(GemmTag<float>());
    const GemmTag<float> d;
    const int64_t N = VectorLanes<float>();
    const int64_t width = PanelLanes(c_, panel);
    const int64_t taps = c_.taps();
    const int64_t row = c_.group_in * taps;
    alignas(64) float some[kSome * kLanes];
    for (int64_t lane = 0; lane < width; lane += N) {
      const int64_t oc = panel * 2 * N + lane;
      const int64_t lanes = std::min(N, c_.group_out - oc);
      const float* const from = w_ + oc * row + c0 * taps;
      if (lanes < N) std::fill_n(some, kSome * N, 0.0f);  // for lanes past the last channel
      if (taps == 1 && lanes == N) {
        for (int64_t k = 0; k < channels; k += N) {
          for (int64_t i = 0; i < N; ++i) hwy::Prefetch(from + i * row + k + 8 * N);
          TransposePlanes(from + k, row, N, std::min(N, channels - k), to + k * width + lane,
                          width);
        }
        continue;
      }
      int64_t tap = 0;
      int64_t channel = 0;
      for (int64_t k = 0; k < channels * taps; k += kSome) {
        const int64_t n = std::min(kSome, channels * taps - k);
        for (int64_t i = 0; i < lanes; ++i) hwy::Prefetch(from + i * row + k + 8 * kSome);
        TransposePlanes(from + k, row, lanes, n, some, N);
        for (int64_t i = 0; i < n; ++i) {
          hn::StoreU(hn::Load(d, some + i * N), d, to + (tap * channels + channel) * width + lane);
          if (++tap == taps) {
            tap = 0;
            ++channel;
          }
        }
      }
    }
  }

  /// The block's rows of the product: to[tap][slice][pixel][channel]. `all`: pixels of a slice.
  HWY_NOINLINE void Unfold(const RowsOfImage& b, float* HWY_RESTRICT pixels, float* HWY_RESTRICT to,
                           int64_t all) const {
    const int64_t N = VectorLanes<float>();
    const float* const x = x_ + b.image * c_.x_n;
    const int64_t n = b.rows * c_.ow;
    const auto slice_of = [&](int64_t ic) {
      return to + ic / kPixelSlice * all * kPixelSlice + ic % kPixelSlice;
    };
    if (p_.unfolded) {
      const bool whole = c_.stride_h == 1 && c_.stride_w == 1;
      for (int64_t ic = 0; ic < c_.group_in; ic += N) {
        const int64_t lanes = std::min(N, c_.group_in - ic);
        const float* from = x + ic * c_.x_c + b.row0 * c_.stride_h * c_.w;
        int64_t row = c_.x_c;
        if (!whole) {  // only the pixels that the stride leaves, as planes
          for (int64_t i = 0; i < lanes; ++i)
            for (int64_t y = 0; y < b.rows; ++y)
              CopyColumns(from + i * c_.x_c + y * c_.stride_h * c_.w, c_.stride_w, c_.ow,
                          pixels + i * n + y * c_.ow);
          from = pixels;
          row = n;
        }
        TransposePlanes(from, row, lanes, n, slice_of(ic), kPixelSlice);
      }
      return;
    }
    const int64_t pitch = pixel_pitch(c_);
    const int64_t y0 = std::clamp<int64_t>(b.row0 * c_.stride_h - c_.pad_h, 0, c_.h);
    const int64_t y1 = std::clamp<int64_t>(
        (b.row0 + b.rows - 1) * c_.stride_h + (c_.kh - 1) * c_.dil_h + 1 - c_.pad_h, y0, c_.h);
    for (int64_t ic = 0; ic < c_.group_in; ic += N)
      TransposePlanes(x + ic * c_.x_c + y0 * c_.w, c_.x_c, std::min(N, c_.group_in - ic),
                      (y1 - y0) * c_.w, pixels + ic, pitch);
    const int64_t tap_step = p_.slices() * all * kPixelSlice;
    for (int64_t i = 0; i < c_.kh; ++i)
      for (int64_t j = 0; j < c_.kw; ++j, to += tap_step)
        for (int64_t at = 0; at < n; ++at) {
          const int64_t y = (b.row0 + at / c_.ow) * c_.stride_h + i * c_.dil_h - c_.pad_h;
          const int64_t q = at % c_.ow * c_.stride_w + j * c_.dil_w - c_.pad_w;
          const bool inside = y >= 0 && y < c_.h && q >= 0 && q < c_.w;
          const float* const from = inside ? pixels + ((y - y0) * c_.w + q) * pitch : zeros_;
          for (int64_t ic = 0; ic < c_.group_in; ic += kPixelSlice)
            CopyColumns(from + ic, 1, std::min(kPixelSlice, c_.group_in - ic),
                        slice_of(ic) + at * kPixelSlice);
        }
  }

  /// sums[pixel][output channel] of `count` pixels, complete after the last chunk.
  HWY_NOINLINE void Multiply(int64_t panel, const float* weights, int64_t c0, int64_t channels,
                             const float* rows, int64_t all, int64_t count, float* sums,
                             const WeightsAhead& next) const {
    const int64_t width = PanelLanes(c_, panel);
    const int64_t parts = (count + kPixelRows - 1) / kPixelRows;
    PixelTile t{};
    t.a_slice = all * kPixelSlice;
    t.a_tap = p_.slices() * t.a_slice;
    t.b = weights;
    t.taps = c_.taps();
    t.channels = channels;
    t.add = c0 > 0;
    t.relu = c_.activation == Activation::kRelu;
    if (c0 + channels == c_.group_in) t.bias = bias_ + panel * 2 * VectorLanes<float>();
    for (int64_t i = 0; i < parts; ++i) {
      const int64_t first = count * i / parts;
      t.a = rows + c0 / kPixelSlice * t.a_slice + first * kPixelSlice;
      t.c = sums + first * width;
      t.ahead = next.Share(i, parts, t.taps * channels);
      RunPixelTile(t, count * (i + 1) / parts - first, width);
    }
  }

  HWY_NOINLINE void Store(int64_t panel, const RowsOfImage& b, const float* sums) const {
    const int64_t oc = panel * 2 * VectorLanes<float>();
    const int64_t n = b.rows * c_.ow;
    const int64_t channels = std::min(PanelLanes(c_, panel), c_.group_out - oc);
    float* const out = out_ + b.image * c_.o_n + oc * c_.o_c + b.row0 * c_.ow;
    StorePlanes(sums, PanelLanes(c_, panel), n, channels, out, c_.o_c);
    if (rest_.any())
      for (int64_t i = 0; i < channels; ++i) Finish(rest_, out + i * c_.o_c, 0, 0, 1, 0, n);
  }

  const ConvPixelsParams& p_;
  const ConvShape& c_;
  const float* x_;
  const float* w_;
  float* out_;
  int64_t panels_;  // of two vectors of output channels
  float *zeros_, *bias_, *weights_, *rows_, *pixels_, *sums_;
  GemmEpilogue<float> rest_;  // what Multiply() does not apply
};

void LaunchConvPixels(const Launch& l) { ConvPixels(l.prepared.get<ConvPixelsParams>(), l).Run(); }

int64_t PixelsWidth() { return 2 * VectorLanes<float>(); }

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lc::cpu {
HWY_EXPORT(LaunchConvPixels);
HWY_EXPORT(PixelsWidth);

namespace {

constexpr double kWorthSharingFlops = 4e5;  // about 3 us of one core
// Output pixels of an image from which on kernels whose lanes are pixels fill their vectors, and
// save the transposes: of a product with the image itself, and of all other calls.
constexpr int64_t kMostPlainPixels = 128;
constexpr int64_t kMostPixels = 256;

Support supports(const OpCall& call, const DeviceInfo&) {
  const ConvShape c = conv_shape(call);
  if (Support lanes = channel_lanes_support(c); !lanes) return lanes;
  const bool plain = c.taps() == 1 && c.stride_h == 1 && c.stride_w == 1;
  const int64_t most = plain ? kMostPlainPixels : kMostPixels;
  if (c.oh * c.ow > most)
    return Support::no(cat(c.oh * c.ow, " output pixels an image, above ", most));
  return Support::yes();
}

void prepare(const OpCall& call, const DeviceInfo& info, Prepared& out) {
  ConvPixelsParams p{};
  p.c = conv_shape(call);
  const ConvShape& c = p.c;
  constexpr int64_t kElement = sizeof(float);
  const int64_t width = HWY_DYNAMIC_DISPATCH(PixelsWidth)();
  const int64_t panels = (c.group_out + width - 1) / width;
  p.threads = c.flops() < kWorthSharingFlops ? 1 : info.threads;
  p.unfolded = c.taps() == 1 && c.pad_h == 0 && c.pad_w == 0;
  const int64_t row = c.taps() * p.slices() * kPixelSlice;  // elements of an unfolded pixel
  const int64_t all_pixels = c.n * c.oh * c.ow;
  const int64_t all_weights = panels * width * c.depth();
  p.panels = all_weights * kElement > info.l2_bytes / 2 && panels >= p.threads &&
             all_pixels * row * kElement <= info.l3_bytes / 2;
  p.chunk = c.group_in;
  if (p.panels) {
    const int64_t most = info.l2_bytes / 8 / (c.taps() * width * kElement);
    p.chunk = std::min(std::max<int64_t>(most / kPixelSlice, 1) * kPixelSlice, c.group_in);
  }
  // A block's unfolded pixels, or its sums, take a quarter of L2; there are some for each thread.
  const int64_t per_row = c.ow * (p.panels ? width : row) * kElement;
  p.block = std::clamp<int64_t>(info.l2_bytes / 4 / per_row, 1, c.oh);
  const int64_t wanted = p.threads > 1 ? 4 * p.threads : 1;
  p.share = std::clamp<int64_t>(c.n * c.oh / wanted, 1, p.block);
  if (!p.panels) p.block = p.share;
  const int64_t pixels = p.block * c.ow;
  p.weights = p.panels ? c.taps() * p.chunk * width : all_weights;
  p.rows = (p.panels ? all_pixels : pixels) * row;
  const int64_t input_rows = (p.share - 1) * c.stride_h + (c.kh - 1) * c.dil_h + 1;
  p.pixels = p.unfolded ? (16 * p.share * c.ow + 31) / 16 * 16 : input_rows * c.w * pixel_pitch(c);
  p.sums = (p.chunk < c.group_in ? all_pixels : pixels) * width;
  const int64_t shared = pixel_pitch(c) + panels * width + (p.panels ? p.rows : p.weights);
  const int64_t each = (p.panels ? p.weights : p.rows) + p.pixels + p.sums;
  out.workspace_bytes = (shared + p.threads * each) * kElement;
  out.contiguous_inputs = call.in[1].is_contiguous() ? 0 : 2u;
  out.contiguous_outputs = output_fits(call.out[0], true) ? 0 : 1u;
  out.set(p);
}

}  // namespace

KernelDef conv_pixels() {
  return {"conv2d", "pixels", isa_name(), supports, prepare, LC_KERNEL_PTR(LaunchConvPixels)};
}

}  // namespace lc::cpu
#endif  // HWY_ONCE
