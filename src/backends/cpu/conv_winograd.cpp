// conv2d:winograd. A 3x3 kernel at stride 1 as F(2x2, 3x3) (Winograd 1980; Lavin and Gray 2016): a
// tile of 2x2 outputs takes 16 products of a channel instead of 36. Tiles of 4x4 inputs and the
// weights are transformed, the 16 components of all tiles and channels are 16 matrix products, and
// their results are transformed back.
//
//   bands   all weights are transformed first. A task is a few rows of tiles of one image and
//           keeps everything else to itself. For weights that fit half of L2.
//   panels  the tiles of all images are transformed first, by all threads. A task is a panel of
//           output channels, whose weights it transforms a chunk of channels at a time. For more
//           weights, and the few tiles that then come with them.
//
// Channels are the lanes of all three transforms, so that none of them shuffles and tiles need not
// fill vectors; the image is transposed before and the result after.
//
// Error: only F(2x2), whose transforms add at most four inputs and nine weights of equal weight
// (docs/performance.md has what was measured). An infinity, a NaN or an overflow that an output
// depends on makes that output's sum here infinite or NaN as well, though not always the right one
// of them: then the whole call runs again on conv2d:direct.
#include <algorithm>
#include <atomic>

#include "backends/cpu/conv.hpp"
#include "backends/cpu/simd.hpp"
#include "backends/cpu/thread_pool.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/conv_winograd.cpp"
#include "hwy/foreach_target.h"
#include "backends/cpu/conv_pixels-inl.h"
#include "backends/cpu/gemm-inl.h"
#include "hwy/highway.h"

#ifndef LC_CONV_WINOGRAD_PARAMS
#define LC_CONV_WINOGRAD_PARAMS
namespace lc::cpu {

struct ConvWinogradParams {
  ConvDirectParams direct;  ///< for a call with infinities or NaN
  void (*launch_direct)(const Launch&);
  int64_t threads;
  bool panels;            ///< a task is a panel of output channels, else a band of tile rows
  int64_t rows, columns;  ///< tiles of an image
  int64_t block;          ///< tile rows of a band, or that are multiplied at a time
  int64_t share;          ///< tile rows that are transformed at a time; of a band: all
  int64_t chunk;          ///< input channels whose weights are transformed at a time
  // Workspace elements: transformed weights (of all, or a task's) and tiles (a task's, or all), and
  // a task's transposed input, products and outputs.
  int64_t weights, tiles, pixels, products, outputs;
  [[nodiscard]] const ConvShape& c() const { return direct.c; }
  [[nodiscard]] int64_t blocks() const { return (rows + block - 1) / block; }
  [[nodiscard]] int64_t shares() const { return (rows + share - 1) / share; }
};

inline constexpr int64_t kWinogradSkew = 32;  ///< elements between components; see Component

/// Elements from a component of the transformed weights, tiles or products to the next. Components
/// are written side by side: a multiple of 4096 bytes between them would send all 16 to one set.
inline int64_t winograd_component(int64_t n) { return (n + 63) / 64 * 64 + kWinogradSkew; }
inline int64_t winograd_tiles(const ConvShape& c, int64_t tiles) {
  const int64_t slices = (c.group_in + kPixelSlice - 1) / kPixelSlice;
  return winograd_component(slices * tiles * kPixelSlice);
}

}  // namespace lc::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

class ConvWinograd {
 public:
  ConvWinograd(const ConvWinogradParams& p, const Launch& l)
      : p_(p),
        c_(p.c()),
        x_(l.in[0].ptr<const float>()),
        w_(l.in[1].ptr<const float>()),
        bias_(c_.has_bias ? l.in[2].ptr<const float>() : nullptr),
        out_(l.out[0].ptr<float>()),
        pixel_(pixel_pitch(c_)),
        panels_((c_.group_out + 2 * VectorLanes<float>() - 1) / (2 * VectorLanes<float>())) {
    auto* at = static_cast<float*>(l.workspace);
    const auto take = [&](int64_t n) {
      float* const taken = at;
      at += n;
      return taken;
    };
    zeros_ = take(pixel_);
    weights_ = take(p.weights * (p.panels ? p.threads : 1));
    tiles_ = take(p.tiles * (p.panels ? 1 : p.threads));
    pixels_ = take(p.pixels * p.threads);
    products_ = take(p.products * p.threads);
    outputs_ = take(p.outputs * p.threads);
    std::fill_n(zeros_, pixel_, 0.0f);
    if (c_.activation != Activation::kRelu) rest_.activation = c_.activation;
  }

  /// False where a result was infinite or NaN.
  HWY_INLINE bool Run() {
    p_.panels ? Panels() : Bands();
    return finite_.load(std::memory_order_relaxed);
  }

 private:
  [[nodiscard]] HWY_INLINE int64_t PanelWeights(int64_t channels) const {
    return 16 * winograd_component(channels * 2 * VectorLanes<float>());
  }

  HWY_INLINE void Bands() {
    const int64_t channels = c_.group_in;
    const int64_t tiles = p_.block * p_.columns;
    ForPieces(p_.threads, panels_, [&](int64_t panel, int64_t) HWY_ATTR {
      TransformWeights(panel, 0, channels, weights_ + panel * PanelWeights(channels));
    });
    ForPieces(p_.threads, c_.n * p_.blocks(), [&](int64_t task, int64_t t) HWY_ATTR {
      const RowsOfImage b = BlockOfRows(task, p_.blocks(), p_.rows);
      float* const from = tiles_ + t * p_.tiles;
      float* const sums = products_ + t * p_.products;
      TransformTiles(b, pixels_ + t * p_.pixels, from, tiles);
      for (int64_t panel = 0; panel < panels_; ++panel) {
        Multiply(panel, weights_ + panel * PanelWeights(channels), 0, channels, from, tiles,
                 b.rows * p_.columns, sums, tiles, {});
        TransformBack(panel, b, sums, tiles, outputs_ + t * p_.outputs);
      }
    });
  }

  HWY_INLINE void Panels() {
    const int64_t tiles_image = p_.rows * p_.columns;
    const int64_t tiles = c_.n * tiles_image;
    const int64_t blocks = c_.n * p_.blocks();
    const auto first_tile = [&](const RowsOfImage& b) {
      return b.image * tiles_image + b.row0 * p_.columns;
    };
    ForPieces(p_.threads, c_.n * p_.shares(), [&](int64_t i, int64_t t) HWY_ATTR {
      const RowsOfImage b = BlockOfRows(i, p_.shares(), p_.rows);
      TransformTiles(b, pixels_ + t * p_.pixels, tiles_ + first_tile(b) * kPixelSlice, tiles);
    });
    ForPieces(p_.threads, panels_, [&](int64_t panel, int64_t t) HWY_ATTR {
      float* const weights = weights_ + t * p_.weights;
      float* const products = products_ + t * p_.products;
      const int64_t width = PanelLanes(c_, panel);
      // Sums of several chunks are kept of all tiles, else of a block.
      const int64_t kept = p_.chunk < c_.group_in ? tiles : p_.block * p_.columns;
      for (int64_t c0 = 0; c0 < c_.group_in; c0 += p_.chunk) {
        const int64_t channels = std::min(p_.chunk, c_.group_in - c0);
        TransformWeights(panel, c0, channels, weights);
        for (int64_t i = 0; i < blocks; ++i) {
          const RowsOfImage b = BlockOfRows(i, p_.blocks(), p_.rows);
          const int64_t first = first_tile(b);
          float* const sums = products + (kept == tiles ? first * width : 0);
          Multiply(panel, weights, c0, channels, tiles_ + first * kPixelSlice, tiles,
                   b.rows * p_.columns, sums, kept,
                   i == 0 ? WeightsAfter(c_, w_, panel, 2 * VectorLanes<float>(), c0, p_.chunk,
                                         p_.threads)
                          : WeightsAhead{});
          if (c0 + channels == c_.group_in)
            TransformBack(panel, b, sums, kept, outputs_ + t * p_.outputs);
        }
      }
    });
  }

  /// U = G g G^T of input channels [c0, c0 + channels): to[component][channel][output channel].
  HWY_NOINLINE void TransformWeights(int64_t panel, int64_t c0, int64_t channels,
                                     float* HWY_RESTRICT to) const {
    constexpr int64_t kSome = 16;  // channels transposed at a time
    constexpr size_t kLanes = hn::MaxLanes(GemmTag<float>());
    const GemmTag<float> d;
    using V = hn::Vec<decltype(d)>;
    const int64_t N = VectorLanes<float>();
    const int64_t width = PanelLanes(c_, panel);
    const int64_t step = winograd_component(channels * width);
    const int64_t row = c_.group_in * 9;
    const V half = hn::Set(d, 0.5f);
    alignas(64) float taps[9 * kSome * kLanes] = {};  // zeros for lanes past the last channel
    const auto transform = [&](V g0, V g1, V g2, V* u) HWY_ATTR {
      const V ends = hn::Add(g0, g2);
      u[0] = g0;
      u[1] = hn::Mul(hn::Add(ends, g1), half);
      u[2] = hn::Mul(hn::Sub(ends, g1), half);
      u[3] = g2;
    };
    for (int64_t lane = 0; lane < width; lane += N) {
      const int64_t oc = panel * 2 * N + lane;
      const int64_t lanes = std::min(N, c_.group_out - oc);
      for (int64_t k = 0; k < channels; k += kSome) {
        const int64_t some = std::min(kSome, channels - k);
        TransposePlanes(w_ + oc * row + (c0 + k) * 9, row, lanes, 9 * some, taps, N);
        for (int64_t i = 0; i < some; ++i) {
          // Rows of the weight lie apart, which is too many streams for the hardware to foresee.
          const float* const soon = w_ + (oc + i % lanes) * row + (c0 + k + kSome) * 9;
          HWY_UNROLL(9)
          for (int64_t line = 0; line < 9; ++line) hwy::Prefetch(soon + line * kSome);
          const float* HWY_RESTRICT g = taps + 9 * i * N;
          V u[3][4];
          HWY_UNROLL(3)
          for (int j = 0; j < 3; ++j)
            transform(hn::Load(d, g + j * N), hn::Load(d, g + (3 + j) * N),
                      hn::Load(d, g + (6 + j) * N), u[j]);
          float* HWY_RESTRICT o = to + (k + i) * width + lane;
          HWY_UNROLL(4)
          for (int j = 0; j < 4; ++j) {
            V r[4];
            transform(u[0][j], u[1][j], u[2][j], r);
            HWY_UNROLL(4)
            for (int q = 0; q < 4; ++q) hn::StoreU(r[q], d, o + (4 * j + q) * step);
          }
        }
      }
    }
  }

  /// V = B^T d B of the block's tiles: to[component][slice][tile][channel]. `tiles`: of a slice.
  HWY_NOINLINE void TransformTiles(const RowsOfImage& b, float* pixels, float* HWY_RESTRICT to,
                                   int64_t tiles) const {
    const GemmTag<float> d;
    using V = hn::Vec<decltype(d)>;
    const int64_t N = VectorLanes<float>();
    const int64_t step = winograd_tiles(c_, tiles);
    const int64_t y0 = std::clamp<int64_t>(2 * b.row0 - c_.pad_h, 0, c_.h);
    const int64_t y1 = std::clamp<int64_t>(2 * (b.row0 + b.rows) + 2 - c_.pad_h, y0, c_.h);
    const float* const x = x_ + b.image * c_.x_n + y0 * c_.w;
    const int64_t n = (y1 - y0) * c_.w;
    for (int64_t ic = 0; ic < c_.group_in; ic += N) {
      const int64_t lanes = std::min(N, c_.group_in - ic);
      TransposePlanes(x + ic * c_.x_c, c_.x_c, lanes, n, pixels + ic, pixel_);
      for (int64_t at = 0; lanes < N && at < n; ++at)
        std::fill_n(pixels + at * pixel_ + ic + lanes, N - lanes, 0.0f);
    }
    const auto transform = [&](V d0, V d1, V d2, V d3, V* v) HWY_ATTR {
      v[0] = hn::Sub(d0, d2);
      v[1] = hn::Add(d1, d2);
      v[2] = hn::Sub(d2, d1);
      v[3] = hn::Sub(d1, d3);
    };
    for (int64_t tile = 0; tile < b.rows * p_.columns; ++tile) {
      const int64_t top = 2 * (b.row0 + tile / p_.columns) - c_.pad_h;
      const int64_t left = 2 * (tile % p_.columns) - c_.pad_w;
      const float* from[4][4];
      for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j) {
          const int64_t y = top + i;
          const int64_t q = left + j;
          const bool inside = y >= 0 && y < c_.h && q >= 0 && q < c_.w;
          from[i][j] = inside ? pixels + ((y - y0) * c_.w + q) * pixel_ : zeros_;
        }
      for (int64_t ic = 0; ic < c_.group_in; ic += N) {
        V v[4][4];
        HWY_UNROLL(4)
        for (int j = 0; j < 4; ++j)
          transform(hn::LoadU(d, from[0][j] + ic), hn::LoadU(d, from[1][j] + ic),
                    hn::LoadU(d, from[2][j] + ic), hn::LoadU(d, from[3][j] + ic), v[j]);
        float* HWY_RESTRICT o =
            to + (ic / kPixelSlice * tiles + tile) * kPixelSlice + ic % kPixelSlice;
        HWY_UNROLL(4)
        for (int i = 0; i < 4; ++i) {
          V r[4];
          transform(v[0][i], v[1][i], v[2][i], v[3][i], r);
          HWY_UNROLL(4)
          for (int q = 0; q < 4; ++q) hn::StoreU(r[q], d, o + (4 * i + q) * step);
        }
      }
    }
  }

  /// The 16 products: sums[component][tile][output channel], `count` of `kept` tiles.
  HWY_NOINLINE void Multiply(int64_t panel, const float* weights, int64_t c0, int64_t channels,
                             const float* tiles, int64_t all_tiles, int64_t count, float* sums,
                             int64_t kept, const WeightsAhead& next) const {
    const int64_t width = PanelLanes(c_, panel);
    const int64_t w_step = winograd_component(channels * width);
    const int64_t t_step = winograd_tiles(c_, all_tiles);
    const int64_t s_step = winograd_component(kept * width);
    const int64_t slice = all_tiles * kPixelSlice;
    const int64_t parts = (count + kPixelRows - 1) / kPixelRows;
    for (int64_t e = 0; e < 16; ++e)
      for (int64_t i = 0; i < parts; ++i) {
        const int64_t first = count * i / parts;
        const int64_t rows = count * (i + 1) / parts - first;
        PixelTile t{};
        t.a = tiles + e * t_step + c0 / kPixelSlice * slice + first * kPixelSlice;
        t.a_slice = slice;
        t.b = weights + e * w_step;
        t.taps = 1;
        t.channels = channels;
        t.c = sums + e * s_step + first * width;
        t.add = c0 > 0;
        t.ahead = next.Share(e * parts + i, 16 * parts, channels);
        RunPixelTile(t, rows, width);
      }
  }

  /// Y = A^T M A, bias and ReLU; `outputs` holds the block's before they are transposed.
  HWY_NOINLINE void TransformBack(int64_t panel, const RowsOfImage& b,
                                  const float* HWY_RESTRICT sums, int64_t kept,
                                  float* HWY_RESTRICT outputs) {
    const GemmTag<float> d;
    using V = hn::Vec<decltype(d)>;
    const int64_t N = VectorLanes<float>();
    const int64_t width = PanelLanes(c_, panel);
    const int64_t step = winograd_component(kept * width);
    const int64_t oc0 = panel * 2 * N;
    const int64_t y0 = 2 * b.row0;
    const int64_t n = (std::min(c_.oh, y0 + 2 * b.rows) - y0) * c_.ow;
    const bool relu = c_.activation == Activation::kRelu;
    V spoilt = hn::Zero(d);  // zero while every sum is finite
    for (int64_t lane = 0; lane < width; lane += N) {
      alignas(64) float some[hn::MaxLanes(GemmTag<float>())] = {};
      for (int64_t i = 0; bias_ != nullptr && i < std::min(N, c_.group_out - oc0 - lane); ++i)
        some[i] = bias_[(oc0 + lane + i) * c_.bias_step];
      const V bias = hn::Load(d, some);
      for (int64_t tile = 0; tile < b.rows * p_.columns; ++tile) {
        const float* HWY_RESTRICT m = sums + tile * width + lane;
        V s[2][4];
        HWY_UNROLL(4)
        for (int j = 0; j < 4; ++j) {
          const V m1 = hn::LoadU(d, m + (4 + j) * step);
          const V m2 = hn::LoadU(d, m + (8 + j) * step);
          s[0][j] = hn::Add(hn::Add(hn::LoadU(d, m + j * step), m1), m2);
          s[1][j] = hn::Sub(hn::Sub(m1, m2), hn::LoadU(d, m + (12 + j) * step));
        }
        const int64_t y = tile / p_.columns * 2;
        const int64_t q = tile % p_.columns * 2;
        HWY_UNROLL(2)
        for (int i = 0; i < 2; ++i) {
          V r[2] = {hn::Add(hn::Add(s[i][0], s[i][1]), s[i][2]),
                    hn::Sub(hn::Sub(s[i][1], s[i][2]), s[i][3])};
          HWY_UNROLL(2)
          for (int j = 0; j < 2; ++j) {
            spoilt = hn::MulAdd(r[j], hn::Zero(d), spoilt);
            r[j] = hn::Add(r[j], bias);
            if (relu) r[j] = VRelu(d, r[j]);
            if (y0 + y + i < c_.oh && q + j < c_.ow)
              hn::StoreU(r[j], d, outputs + ((y + i) * c_.ow + q + j) * width + lane);
          }
        }
      }
    }
    if (!hn::AllTrue(d, hn::Eq(spoilt, hn::Zero(d))))
      finite_.store(false, std::memory_order_relaxed);
    float* const out = out_ + b.image * c_.o_n + oc0 * c_.o_c + y0 * c_.ow;
    const int64_t channels = std::min(width, c_.group_out - oc0);
    StorePlanes(outputs, width, n, channels, out, c_.o_c);
    if (rest_.any())
      for (int64_t i = 0; i < channels; ++i) Finish(rest_, out + i * c_.o_c, 0, 0, 1, 0, n);
  }

  const ConvWinogradParams& p_;
  const ConvShape& c_;
  const float* x_;
  const float* w_;
  const float* bias_;
  float* out_;
  int64_t pixel_;   // elements of a transposed pixel
  int64_t panels_;  // of two vectors of output channels
  float *zeros_, *weights_, *tiles_, *pixels_, *products_, *outputs_;
  GemmEpilogue<float> rest_;  // what TransformBack() does not apply
  std::atomic<bool> finite_{true};
};

void LaunchConvWinograd(const Launch& l) {
  const auto& p = l.prepared.get<ConvWinogradParams>();
  if (ConvWinograd(p, l).Run()) return;
  Prepared direct;
  direct.set(p.direct);
  p.launch_direct(Launch{l.in, l.out, l.n_in, direct, l.workspace, l.encoder});
}

int64_t WinogradWidth() { return 2 * VectorLanes<float>(); }

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lc::cpu {
HWY_EXPORT(LaunchConvWinograd);
HWY_EXPORT(WinogradWidth);

namespace {

constexpr int64_t kLeastTiles = 4;  // fewer do not pay for the weights' transform

Support supports(const OpCall& call, const DeviceInfo&) {
  const ConvShape c = conv_shape(call);
  if (Support lanes = channel_lanes_support(c); !lanes) return lanes;
  if (c.kh != 3 || c.kw != 3) return Support::no(cat("a ", c.kh, "x", c.kw, " kernel, not 3x3"));
  if (c.stride_h != 1 || c.stride_w != 1 || c.dil_h != 1 || c.dil_w != 1)
    return Support::no("a stride or dilation above 1");
  const int64_t tiles = c.n * ((c.oh + 1) / 2) * ((c.ow + 1) / 2);
  if (tiles < kLeastTiles) return Support::no(cat(tiles, " tiles of 2x2, below ", kLeastTiles));
  if (4 * 16 * tiles > 3 * 9 * c.n * c.oh * c.ow)
    return Support::no("outputs fill so little of their tiles that few products are saved");
  return Support::yes();
}

void prepare(const OpCall& call, const DeviceInfo& info, Prepared& out) {
  const KernelDef direct = conv_direct();
  direct.prepare(call, info, out);
  const int64_t direct_bytes = out.workspace_bytes;
  ConvWinogradParams p{};
  p.direct = out.get<ConvDirectParams>();
  p.launch_direct = direct.launch;
  const ConvShape& c = p.c();
  constexpr int64_t kElement = sizeof(float);
  const int64_t width = HWY_DYNAMIC_DISPATCH(WinogradWidth)();
  const int64_t panels = (c.group_out + width - 1) / width;
  const auto panel_weights = [&](int64_t channels) {
    return 16 * winograd_component(channels * width);
  };
  p.threads = p.direct.threads;
  p.rows = (c.oh + 1) / 2;
  p.columns = (c.ow + 1) / 2;
  const int64_t all_tiles = c.n * p.rows * p.columns;
  const int64_t all_weights = panels * panel_weights(c.group_in);
  p.panels = all_weights * kElement > info.l2_bytes / 2 && panels >= p.threads &&
             16 * winograd_tiles(c, all_tiles) * kElement <= info.l3_bytes / 2;
  p.chunk = c.group_in;
  if (p.panels) {
    const int64_t most = info.l2_bytes / 4 / (16 * width * kElement);
    const int64_t slices = std::max<int64_t>(most / kPixelSlice, 1);
    p.chunk = std::min(slices * kPixelSlice, c.group_in);
  }
  // A block's tiles, or its products, take a quarter of L2; there are some blocks for each thread.
  const int64_t per_row = 16 * p.columns * (p.panels ? width : c.group_in) * kElement;
  p.block = std::clamp<int64_t>(info.l2_bytes / 4 / per_row, 1, p.rows);
  const int64_t wanted = p.threads > 1 ? 4 * p.threads : 1;
  p.share = std::clamp<int64_t>(c.n * p.rows / wanted, 1, p.block);
  if (!p.panels) p.block = p.share;
  const int64_t tiles = p.block * p.columns;
  p.weights = p.panels ? panel_weights(p.chunk) : all_weights;
  p.tiles = 16 * winograd_tiles(c, p.panels ? all_tiles : tiles);
  p.pixels = (2 * p.share + 2) * c.w * pixel_pitch(c);
  p.products = 16 * winograd_component((p.chunk < c.group_in ? all_tiles : tiles) * width);
  p.outputs = 4 * tiles * width;
  const int64_t shared = pixel_pitch(c) + (p.panels ? p.tiles : p.weights);
  const int64_t each = (p.panels ? p.weights : p.tiles) + p.pixels + p.products + p.outputs;
  out.workspace_bytes = std::max((shared + p.threads * each) * kElement, direct_bytes);
  out.set(p);
}

}  // namespace

KernelDef conv_winograd() {
  return {"conv2d", "winograd", isa_name(), supports, prepare, LC_KERNEL_PTR(LaunchConvWinograd)};
}

}  // namespace lc::cpu
#endif  // HWY_ONCE
