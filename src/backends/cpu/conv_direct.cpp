// conv2d:direct. A matrix product without its second matrix: the columns of the unfolded input are
// read in place from zero-padded planes (PlaneLayout), a tap at a time, at the tap's offset.
// Nothing is unfolded, so a value of the image is copied once instead of once a tap, and the
// planes of a band of rows stay in near caches.
//
//   bands   all weights are packed first, once. A task is a band of output rows of one image: it
//           pads its own part of the image and multiplies it by all weights. For weights that
//           fit half of L2.
//   panels  the planes of all images are padded first, by all threads. A task is one panel of
//           output channels: it packs its weights a block of channels at a time and keeps its sums
//           in a buffer. For more weights, and the few pixels that then come with them.
//
// A register tile is kTileRows output channels by two vectors of flat positions. Positions between
// rows are computed and dropped (compressed away) when the tile is stored.
#include <algorithm>

#include "backends/cpu/conv.hpp"
#include "backends/cpu/simd.hpp"
#include "backends/cpu/thread_pool.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/conv_direct.cpp"
#include "hwy/foreach_target.h"
#include "backends/cpu/conv_planes-inl.h"
#include "backends/cpu/gemm-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Higher and narrower than a product's tile: a position's row of output is short.
#if HWY_TARGET == HWY_AVX3
inline constexpr int kTileRows = 14;
#elif HWY_TARGET == HWY_NEON
inline constexpr int kTileRows = 12;
#else
inline constexpr int kTileRows = kMr;
#endif

/// Where a tile of finished sums goes: flat positions [first, first + cols) of rows of `pitch`
/// positions, of which the first `ow` are outputs.
template <typename T, int kNv>
struct ConvTileColumns {
  hn::Mask<GemmTag<T>> kept[kNv];
  int64_t count[kNv];   ///< positions kept of each vector
  int64_t offset[kNv];  ///< of the first of them in the output plane
  bool whole;           ///< every position of every vector is kept

  HWY_INLINE ConvTileColumns(int64_t first, int64_t cols, int64_t pitch, int64_t ow) : whole(true) {
    const GemmTag<T> d;
    const int64_t N = VectorLanes<T>();
    for (int v = 0; v < kNv; ++v) {
      const int64_t lanes = std::clamp<int64_t>(cols - v * N, 0, N);
      const int64_t at = first + v * N;
      const int64_t row = at / pitch;
      const int64_t in_row = at - row * pitch;
      offset[v] = row * ow + std::min(in_row, ow);
      count[v] = 0;
      kept[v] = hn::FirstN(d, 0);
      for (int64_t begin = -in_row; begin < lanes; begin += pitch) {
        const int64_t from = std::max<int64_t>(begin, 0);
        const int64_t to = std::min(begin + ow, lanes);
        if (to <= from) continue;
        count[v] += to - from;
        kept[v] = hn::Or(kept[v], hn::AndNot(hn::FirstN(d, static_cast<size_t>(from)),
                                             hn::FirstN(d, static_cast<size_t>(to))));
      }
      whole &= count[v] == N;
    }
  }
};

template <typename T>
struct ConvTile {
  const T* a;           ///< packed weights: [channel, tap][row]
  const T* x;           ///< planes, at the tile's first position
  const int64_t* taps;  ///< offsets
  int64_t n_taps;
  int64_t channels, plane;
  T* sums;  ///< unfinished sums, a row of them `sums_row` on
  int64_t sums_row;
  bool add;     ///< to the sums that are there
  bool finish;  ///< to `out`, else to `sums`
  T* out;
  int64_t out_row;
  const T* bias;  ///< of the first row; null: none
  int64_t bias_step;
  bool relu;
  int64_t first, cols, pitch, ow;  ///< see ConvTileColumns
};

template <typename T, int kRows, int kNv, bool kMasked>
HWY_NOINLINE void RunConvTile(const ConvTile<T>& t) {
  const GemmTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t N = VectorLanes<T>();
  const int64_t rest = kMasked ? t.cols - (kNv - 1) * N : N;
  const auto last = hn::FirstN(d, static_cast<size_t>(rest));
  V acc[kRows][kNv];
  HWY_UNROLL(16)
  for (auto& row : acc) {
    HWY_UNROLL(2)
    for (auto& v : row) v = hn::Zero(d);
  }
  const T* HWY_RESTRICT a = t.a;
  const T* HWY_RESTRICT x = t.x;
  const int64_t* const taps = t.taps;
  const int64_t* const taps_end = taps + t.n_taps;
  constexpr int64_t kAhead = 16 * kRows;
  for (int64_t c = t.channels; c > 0; --c, x += t.plane) {
    for (const int64_t* tap = taps; tap != taps_end; ++tap) {
      const T* HWY_RESTRICT b = x + *tap;
      hwy::Prefetch(a + kAhead);
      V bv[kNv];
      HWY_UNROLL(2)
      for (int v = 0; v < kNv; ++v)
        bv[v] =
            kMasked && v == kNv - 1 ? LoadPart(d, last, rest, b + v * N) : hn::LoadU(d, b + v * N);
      HWY_UNROLL(16)
      for (int i = 0; i < kRows; ++i) {
        const V w = hn::Set(d, a[i]);
        HWY_UNROLL(2)
        for (int v = 0; v < kNv; ++v) acc[i][v] = hn::MulAdd(w, bv[v], acc[i][v]);
      }
      a += kRows;
    }
  }
  // Rows of sums are padded to whole vectors.
  if (t.add) {
    HWY_UNROLL(16)
    for (int i = 0; i < kRows; ++i) {
      HWY_UNROLL(2)
      for (int v = 0; v < kNv; ++v)
        acc[i][v] = hn::Add(acc[i][v], hn::LoadU(d, t.sums + i * t.sums_row + v * N));
    }
  }
  if (!t.finish) {
    HWY_UNROLL(16)
    for (int i = 0; i < kRows; ++i) {
      HWY_UNROLL(2)
      for (int v = 0; v < kNv; ++v) hn::StoreU(acc[i][v], d, t.sums + i * t.sums_row + v * N);
    }
    return;
  }
  if (t.bias != nullptr) {
    HWY_UNROLL(16)
    for (int i = 0; i < kRows; ++i) {
      const V bias = hn::Set(d, t.bias[i * t.bias_step]);
      HWY_UNROLL(2)
      for (int v = 0; v < kNv; ++v) acc[i][v] = hn::Add(acc[i][v], bias);
    }
  }
  if (t.relu) {
    HWY_UNROLL(16)
    for (int i = 0; i < kRows; ++i) {
      HWY_UNROLL(2)
      for (int v = 0; v < kNv; ++v) acc[i][v] = VRelu(d, acc[i][v]);
    }
  }
  const ConvTileColumns<T, kNv> columns(t.first, t.cols, t.pitch, t.ow);
  T* HWY_RESTRICT out = t.out;
  HWY_UNROLL(16)
  for (int i = 0; i < kRows; ++i, out += t.out_row) {
    HWY_UNROLL(2)
    for (int v = 0; v < kNv; ++v) {
      T* HWY_RESTRICT to = out + columns.offset[v];
      if (columns.whole) {
        hn::StoreU(acc[i][v], d, to);
        continue;
      }
      const int64_t n = columns.count[v];
      StorePart(hn::Compress(acc[i][v], columns.kept[v]), d, hn::FirstN(d, static_cast<size_t>(n)),
                n, to);
    }
  }
}

template <typename T>
using ConvTileFn = void (*)(const ConvTile<T>&);

template <typename T, int... kRow>
HWY_INLINE ConvTileFn<T> FindConvTile(int64_t rows, int vectors, bool masked,
                                      std::integer_sequence<int, kRow...>) {
  static constexpr ConvTileFn<T> kTable[][2][2] = {
      {{RunConvTile<T, kRow + 1, 1, false>, RunConvTile<T, kRow + 1, 1, true>},
       {RunConvTile<T, kRow + 1, 2, false>, RunConvTile<T, kRow + 1, 2, true>}}...};
  return kTable[rows - 1][vectors - 1][masked ? 1 : 0];
}

template <typename T>
class ConvDirect {
 public:
  ConvDirect(const ConvDirectParams& p, const Launch& l)
      : p_(p),
        c_(p.c),
        x_(l.in[0].ptr<const T>()),
        w_(l.in[1].ptr<const T>()),
        bias_(p.c.has_bias ? l.in[2].ptr<const T>() : nullptr),
        out_(l.out[0].ptr<T>()),
        workspace_(static_cast<T*>(l.workspace)) {
    for (int64_t i = 0; i < c_.kh; ++i)
      for (int64_t j = 0; j < c_.kw; ++j) taps_[i * c_.kw + j] = p.layout.tap_offset(c_, i, j);
    if (c_.activation != Activation::kRelu) rest_.activation = c_.activation;
  }

  HWY_INLINE void Bands() const {
    const int64_t panels = c_.groups * GroupPanels();
    const int64_t pack_tasks = c_.groups * c_.group_out * c_.depth() < kPackAlone ? 1 : p_.threads;
    ForPieces(pack_tasks, pack_tasks, [&](int64_t i, int64_t) HWY_ATTR {
      for (int64_t panel = panels * i / pack_tasks; panel < panels * (i + 1) / pack_tasks; ++panel)
        PackWeights(panel, 0, c_.group_in, workspace_ + FirstRow(panel) * c_.depth());
    });
    ForPieces(p_.threads, c_.n * c_.groups * p_.bands, [&](int64_t task, int64_t t) HWY_ATTR {
      Band(task, workspace_ + p_.packed + t * p_.planes);
    });
  }

  HWY_INLINE void Panels() const {
    T* const planes = workspace_ + p_.threads * (p_.packed + p_.sums);
    const int64_t channels = c_.groups * c_.group_in;
    const int64_t plane = p_.layout.plane();
    const int64_t all = c_.n * channels;
    const int64_t pad_tasks = std::min(p_.threads * 4, all);
    ForPieces(p_.threads, pad_tasks, [&](int64_t i, int64_t) HWY_ATTR {
      for (int64_t at = all * i / pad_tasks; at < all * (i + 1) / pad_tasks; ++at)
        PadChannel(c_, p_.layout, x_ + at / channels * c_.x_n + at % channels * c_.x_c, 0, c_.oh,
                   planes + at * plane);
    });
    ForPieces(p_.threads, c_.groups * GroupPanels(), [&](int64_t panel, int64_t t) HWY_ATTR {
      T* const packed = workspace_ + t * (p_.packed + p_.sums);
      Panel(panel, planes, packed, packed + p_.packed);
    });
  }

 private:
  static constexpr int64_t kPackAlone = 8192;  // fewer weights are packed by the caller

  [[nodiscard]] HWY_INLINE int64_t GroupPanels() const {
    return (c_.group_out + kTileRows - 1) / kTileRows;
  }
  /// First output channel of a panel; panels of a group are of nearly equal height.
  [[nodiscard]] HWY_INLINE int64_t FirstRow(int64_t panel) const {
    const int64_t n = GroupPanels();
    return panel / n * c_.group_out + c_.group_out * (panel % n) / n;
  }
  [[nodiscard]] HWY_INLINE int64_t Height(int64_t panel) const {
    const int64_t n = GroupPanels();
    return c_.group_out * (panel % n + 1) / n - c_.group_out * (panel % n) / n;
  }
  HWY_INLINE void PackWeights(int64_t panel, int64_t channel, int64_t channels, T* to) const {
    const int64_t height = Height(panel);
    PackPanel(w_ + FirstRow(panel) * c_.depth() + channel * c_.taps(), c_.depth(), 1, height,
              channels * c_.taps(), to, height);
  }

  /// A tile of the outputs of one panel, all of them in rows from y0 on of one image.
  HWY_INLINE ConvTile<T> Tile(int64_t panel, int64_t image, int64_t y0) const {
    const int64_t oc = FirstRow(panel);
    ConvTile<T> t{};
    t.taps = taps_;
    t.n_taps = c_.taps();
    t.plane = p_.layout.plane();
    t.out = out_ + image * c_.o_n + oc * c_.o_c + y0 * c_.ow;
    t.out_row = c_.o_c;
    t.bias = bias_ != nullptr ? bias_ + oc * c_.bias_step : nullptr;
    t.bias_step = c_.bias_step;
    t.relu = c_.activation == Activation::kRelu;
    t.pitch = p_.layout.pitch;
    t.ow = c_.ow;
    return t;
  }

  HWY_INLINE void RunTile(const ConvTile<T>& t, int64_t height) const {
    const int64_t N = VectorLanes<T>();
    const int vectors = t.cols > N ? 2 : 1;
    FindConvTile<T>(height, vectors, t.cols != vectors * N,
                    std::make_integer_sequence<int, kTileRows>())(t);
  }

  HWY_INLINE void Band(int64_t task, T* planes) const {
    const int64_t NR = 2 * VectorLanes<T>();
    const int64_t image = task / (c_.groups * p_.bands);
    const int64_t group = task / p_.bands % c_.groups;
    const int64_t y0 = c_.oh * (task % p_.bands) / p_.bands;
    const int64_t rows = c_.oh * (task % p_.bands + 1) / p_.bands - y0;
    const int64_t plane = p_.layout.plane();
    const T* const x = x_ + image * c_.x_n + group * c_.group_in * c_.x_c;
    for (int64_t ic = 0; ic < c_.group_in; ++ic)
      PadChannel(c_, p_.layout, x + ic * c_.x_c, y0, rows, planes + ic * plane);
    const int64_t positions = (rows - 1) * p_.layout.pitch + c_.ow;
    const int64_t panels = GroupPanels();
    for (int64_t col = 0; col < positions; col += NR)
      for (int64_t i = 0; i < panels; ++i) {
        const int64_t panel = group * panels + i;
        ConvTile<T> t = Tile(panel, image, y0);
        t.a = workspace_ + FirstRow(panel) * c_.depth();
        t.x = planes + col;
        t.channels = c_.group_in;
        t.finish = true;
        t.first = col;
        t.cols = std::min(NR, positions - col);
        RunTile(t, Height(panel));
      }
    if (rest_.any())
      for (int64_t i = 0; i < c_.group_out; ++i)
        Finish(rest_, out_ + image * c_.o_n + (group * c_.group_out + i) * c_.o_c + y0 * c_.ow, 0,
               0, 1, 0, rows * c_.ow);
  }

  HWY_INLINE void Panel(int64_t panel, const T* planes, T* packed, T* sums) const {
    const int64_t NR = 2 * VectorLanes<T>();
    const int64_t height = Height(panel);
    const int64_t group = panel / GroupPanels();
    const int64_t plane = p_.layout.plane();
    const int64_t positions = (c_.oh - 1) * p_.layout.pitch + c_.ow;
    const int64_t tiles = (positions + NR - 1) / NR;
    for (int64_t ic = 0; ic < c_.group_in; ic += p_.block) {
      const int64_t channels = std::min(p_.block, c_.group_in - ic);
      PackWeights(panel, ic, channels, packed);
      for (int64_t image = 0; image < c_.n; ++image) {
        ConvTile<T> t = Tile(panel, image, 0);
        t.a = packed;
        t.channels = channels;
        t.sums_row = NR;
        t.add = ic > 0;
        t.finish = ic + channels == c_.group_in;
        const T* const x =
            planes + (image * c_.groups * c_.group_in + group * c_.group_in + ic) * plane;
        for (int64_t i = 0; i < tiles; ++i) {
          t.x = x + i * NR;
          t.sums = sums + (image * tiles + i) * kTileRows * NR;
          t.first = i * NR;
          t.cols = std::min(NR, positions - i * NR);
          RunTile(t, height);
        }
      }
    }
    if (rest_.any())
      for (int64_t image = 0; image < c_.n; ++image)
        for (int64_t i = 0; i < height; ++i)
          Finish(rest_, out_ + image * c_.o_n + (FirstRow(panel) + i) * c_.o_c, 0, 0, 1, 0,
                 c_.oh * c_.ow);
  }

  const ConvDirectParams& p_;
  const ConvShape& c_;
  const T* x_;
  const T* w_;
  const T* bias_;
  T* out_;
  T* workspace_;
  GemmEpilogue<T> rest_;  // what the tiles do not apply
  int64_t taps_[kConvMaxTaps];
};

void LaunchConvDirect(const Launch& l) {
  const auto& p = l.prepared.get<ConvDirectParams>();
  const auto run = [&](const auto& conv) HWY_ATTR { p.panels ? conv.Panels() : conv.Bands(); };
  if (p.c.dtype == DType::kFloat32)
    run(ConvDirect<float>(p, l));
  else
    run(ConvDirect<double>(p, l));
}

/// Rows and columns of the register tile, for the plan.
void ConvDirectTileSize(DType dtype, int64_t* rows, int64_t* cols) {
  *rows = kTileRows;
  *cols = 2 * (dtype == DType::kFloat32 ? VectorLanes<float>() : VectorLanes<double>());
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lc::cpu {
HWY_EXPORT(LaunchConvDirect);
HWY_EXPORT(ConvDirectTileSize);

namespace {

constexpr double kWorthSharingFlops = 4e5;  // about 3 us of one core

Support supports(const OpCall& call, const DeviceInfo&) {
  const ConvShape c = conv_shape(call);
  if (c.taps() == 1 && c.stride_h == 1 && c.stride_w == 1 && c.pad_h == 0 && c.pad_w == 0)
    return Support::no("a 1x1 kernel at stride 1 is a plain product");
  if (c.n * c.groups * c.group_out * c.oh * c.ow == 0 || c.group_in == 0)
    return Support::no("nothing to multiply");
  return planes_support(c);
}

void prepare(const OpCall& call, const DeviceInfo& info, Prepared& out) {
  ConvDirectParams p{};
  p.c = conv_shape(call);
  const ConvShape& c = p.c;
  const int64_t element = dtype_size(c.dtype);
  const auto line = [](int64_t n) { return (n + 63) / 64 * 64; };
  int64_t tile_rows = 0;
  int64_t tile_cols = 0;
  HWY_DYNAMIC_DISPATCH(ConvDirectTileSize)(c.dtype, &tile_rows, &tile_cols);
  const int64_t lanes = tile_cols / 2;
  p.threads = c.flops() < kWorthSharingFlops ? 1 : info.threads;
  const int64_t weights = c.groups * c.group_out * c.depth();
  p.panels = c.group_out * c.depth() * element > info.l2_bytes / 2 &&
             c.groups * c.group_out >= 2 * p.threads * tile_rows;
  if (p.panels) {
    p.bands = 1;
    p.band_rows = c.oh;
    p.layout = plane_layout(c, c.oh, lanes);
    const int64_t depth = info.l1_bytes * 2 / 3 / (tile_rows * element);
    p.block = std::clamp<int64_t>(depth / c.taps(), 1, c.group_in);
    const int64_t blocks = (c.group_in + p.block - 1) / p.block;
    p.block = (c.group_in + blocks - 1) / blocks;
    p.packed = line(tile_rows * p.block * c.taps());
    const int64_t tiles = ((c.oh - 1) * p.layout.pitch + c.ow + tile_cols - 1) / tile_cols;
    p.sums = blocks > 1 ? line(c.n * tiles * tile_rows * tile_cols) : 0;
    p.planes = c.n * c.groups * c.group_in * p.layout.plane() + 64;
    out.workspace_bytes = (p.threads * (p.packed + p.sums) + p.planes) * element;
  } else {
    // Bands of at least some tiles whose planes fit a quarter of L2; a few for each thread.
    const int64_t tile_lines = (8 * tile_cols + c.ow) / std::max<int64_t>(c.ow, 1);
    const int64_t most = std::max<int64_t>(c.oh / std::max<int64_t>(tile_lines, 1), 1);
    const int64_t images = c.n * c.groups;
    p.bands = p.threads == 1 ? 1 : std::max<int64_t>((p.threads * 4 + images - 1) / images, 1);
    if (c.flops() < 10 * kWorthSharingFlops)
      p.bands = images % p.threads == 0 ? 1 : p.threads;
    else
      p.bands = std::min(p.bands, most);
    p.bands = std::clamp<int64_t>(p.bands, 1, c.oh);
    const auto fit = [&] {
      p.band_rows = (c.oh + p.bands - 1) / p.bands;
      p.layout = plane_layout(c, p.band_rows, lanes);
      p.planes = line(c.group_in * p.layout.plane() + 64);
    };
    fit();
    while (p.planes * element > info.l2_bytes / 4 && p.bands * 2 <= most) {
      p.bands *= 2;
      fit();
    }
    p.block = c.group_in;
    p.packed = line(weights + 16 * tile_rows);
    out.workspace_bytes = (p.packed + p.threads * p.planes) * element;
  }
  out.contiguous_inputs = call.in[1].is_contiguous() ? 0 : 2u;
  out.contiguous_outputs = output_fits(call.out[0], true) ? 0 : 1u;
  out.set(p);
}

}  // namespace

KernelDef conv_direct() {
  return {"conv2d", "direct", isa_name(), supports, prepare, LC_KERNEL_PTR(LaunchConvDirect)};
}

}  // namespace lc::cpu
#endif  // HWY_ONCE
