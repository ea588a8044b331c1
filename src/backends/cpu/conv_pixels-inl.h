// What convolutions share whose lanes are channels: products of rows of pixels, and the way from
// planes to pixels and back.

#if defined(LC_BACKENDS_CPU_CONV_PIXELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LC_BACKENDS_CPU_CONV_PIXELS_INL_H_
#undef LC_BACKENDS_CPU_CONV_PIXELS_INL_H_
#else
#define LC_BACKENDS_CPU_CONV_PIXELS_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <utility>

#include "backends/cpu/conv.hpp"
#include "backends/cpu/gemm_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Higher and narrower than a product's tile: output channels are often a multiple of 32, not of 48.
#if HWY_TARGET == HWY_AVX3
inline constexpr int kPixelRows = 14;
#elif HWY_TARGET == HWY_NEON
inline constexpr int kPixelRows = 12;
#else
inline constexpr int kPixelRows = kMr;
#endif

/// Rows [row0, row0 + rows) of an image, of outputs or of tiles of them.
struct RowsOfImage {
  int64_t image, row0, rows;
};

/// The index-th of blocks of nearly equal height, n to an image of `height` rows.
[[nodiscard]] HWY_INLINE RowsOfImage BlockOfRows(int64_t index, int64_t n, int64_t height) {
  const int64_t i = index % n;
  const int64_t row0 = height * i / n;
  return {index / n, row0, height * (i + 1) / n - row0};
}

/// Lanes of a panel of output channels: two vectors, or one that holds the last of them.
[[nodiscard]] HWY_INLINE int64_t PanelLanes(const ConvShape& c, int64_t panel) {
  const int64_t N = VectorLanes<float>();
  return c.group_out - panel * 2 * N > N ? 2 * N : N;
}

/// c = a b (+ c): rows of pixels by one or two vectors of output channels.
struct PixelTile {
  const float* a;   ///< rows kPixelSlice apart
  int64_t a_tap;    ///< elements from a tap's slices to the next's
  int64_t a_slice;  ///< from a slice of channels to the next
  const float* b;   ///< [tap][channel][output channel]
  int64_t taps, channels;
  float* c;           ///< rows of as many elements as b's
  bool add;           ///< to what is in c
  const float* bias;  ///< of the output channels; null: neither bias nor ReLU
  bool relu;
  Ahead ahead;  ///< brought to L2 meanwhile
};

/// Weights that are packed next, brought to L2 while tiles are multiplied: `rows` rows of `lines`
/// cache lines. Their packing reads memory that is in no near cache, and little else hides that.
struct WeightsAhead {
  const float* at = nullptr;
  int64_t rows = 0, lines = 0, row = 0;  // elements from a row to the next

  /// The i-th of n shares, during `steps` steps of a tile.
  [[nodiscard]] HWY_INLINE Ahead Share(int64_t i, int64_t n, int64_t steps) const {
    if (at == nullptr) return {};
    const int64_t first = rows * lines * i / n;
    const int64_t count = rows * lines * (i + 1) / n - first;
    // A share starts with the row that it falls into: cheap to find, and some lines come twice.
    const int64_t per_group = (count + steps / 4 - 1) / std::max<int64_t>(steps / 4, 1);
    return {at + first / lines * row, lines, row * static_cast<int64_t>(sizeof(float)),
            std::clamp<int64_t>(per_group, 1, 8)};
  }
};

template <int kRows, int kNv>
HWY_NOINLINE void MultiplyPixels(const PixelTile& t) {
  const GemmTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t N = VectorLanes<float>();
  V acc[kRows][kNv];
  HWY_UNROLL(16)
  for (auto& row : acc) {
    HWY_UNROLL(2)
    for (auto& v : row) v = hn::Zero(d);
  }
  const float* HWY_RESTRICT b = t.b;
  const auto step = [&](const float* HWY_RESTRICT a) HWY_ATTR {
    V bv[kNv];
    HWY_UNROLL(2)
    for (int v = 0; v < kNv; ++v) bv[v] = hn::LoadU(d, b + v * N);
    HWY_UNROLL(16)
    for (int i = 0; i < kRows; ++i) {
      const V x = hn::Set(d, a[i * kPixelSlice]);
      HWY_UNROLL(2)
      for (int v = 0; v < kNv; ++v) acc[i][v] = hn::MulAdd(x, bv[v], acc[i][v]);
    }
    b += kNv * N;
  };
  constexpr int64_t kUnroll = 4;
  constexpr int64_t kLine = kLineBytes / static_cast<int64_t>(sizeof(float));
  const char* soon = static_cast<const char*>(t.ahead.at);
  if (soon == nullptr) soon = reinterpret_cast<const char*>(b);
  int64_t left_in_row = t.ahead.run;
  for (int64_t tap = 0; tap < t.taps; ++tap) {
    const float* HWY_RESTRICT a = t.a + tap * t.a_tap;
    for (int64_t left = t.channels; left > 0; left -= kPixelSlice, a += t.a_slice) {
      const int64_t depth = std::min(left, kPixelSlice);
      // Rows of a slice are one run of memory; what follows it comes to L1 meanwhile.
      const float* const next = left > kPixelSlice ? a + t.a_slice
                                : tap + 1 < t.taps ? t.a + (tap + 1) * t.a_tap
                                                   : t.a + kRows * kPixelSlice;
      int64_t k = 0;
      for (; k + kUnroll <= depth; k += kUnroll) {
        for (int64_t l = 0; l < t.ahead.lines; ++l) {
          __builtin_prefetch(soon, 0, 2);
          soon += kLineBytes;
          if (--left_in_row == 0) {
            left_in_row = t.ahead.run;
            soon += t.ahead.jump - t.ahead.run * kLineBytes;
          }
        }
        HWY_UNROLL(4)
        for (int64_t at = 0; at < kUnroll * kRows; at += kLine)
          hwy::Prefetch(next + k * kRows + at);
        HWY_UNROLL(4)
        for (int64_t u = 0; u < kUnroll; ++u) {
          HWY_UNROLL(2)
          for (int v = 0; v < kNv; ++v) hwy::Prefetch(b + (8 * kNv + v) * N);
          step(a + k + u);
          HWY_FENCE;  // loads moved up from the next step would cost registers that are not there
        }
      }
      for (; k < depth; ++k) step(a + k);
    }
  }
  if (t.add) {
    HWY_UNROLL(16)
    for (int i = 0; i < kRows; ++i) {
      HWY_UNROLL(2)
      for (int v = 0; v < kNv; ++v)
        acc[i][v] = hn::Add(acc[i][v], hn::LoadU(d, t.c + (i * kNv + v) * N));
    }
  }
  if (t.bias != nullptr) {
    V bias[kNv];
    HWY_UNROLL(2)
    for (int v = 0; v < kNv; ++v) bias[v] = hn::LoadU(d, t.bias + v * N);
    HWY_UNROLL(16)
    for (int i = 0; i < kRows; ++i) {
      HWY_UNROLL(2)
      for (int v = 0; v < kNv; ++v) {
        acc[i][v] = hn::Add(acc[i][v], bias[v]);
        if (t.relu) acc[i][v] = VRelu(d, acc[i][v]);
      }
    }
  }
  HWY_UNROLL(16)
  for (int i = 0; i < kRows; ++i) {
    HWY_UNROLL(2)
    for (int v = 0; v < kNv; ++v) hn::StoreU(acc[i][v], d, t.c + (i * kNv + v) * N);
  }
}

template <int... kRow>
HWY_INLINE void RunPixelTile(const PixelTile& t, int64_t rows, int64_t width,
                             std::integer_sequence<int, kRow...>) {
  using Fn = void (*)(const PixelTile&);
  static constexpr Fn kTable[][2] = {{MultiplyPixels<kRow + 1, 1>, MultiplyPixels<kRow + 1, 2>}...};
  kTable[rows - 1][width / VectorLanes<float>() - 1](t);
}
HWY_INLINE void RunPixelTile(const PixelTile& t, int64_t rows, int64_t width) {
  RunPixelTile(t, rows, width, std::make_integer_sequence<int, kPixelRows>());
}

/// What a thread packs after channels [c0, c0 + chunk) of a panel of `width` output channels: the
/// panel's next ones, else likely those of the panel after the other threads'.
HWY_INLINE WeightsAhead WeightsAfter(const ConvShape& c, const float* weights, int64_t panel,
                                     int64_t width, int64_t c0, int64_t chunk, int64_t threads) {
  c0 += chunk;
  if (c0 >= c.group_in) {
    c0 = 0;
    panel += threads;
  }
  const int64_t oc = panel * width;
  if (oc >= c.group_out) return {};
  const int64_t elements = std::min(chunk, c.group_in - c0) * c.taps();
  return {weights + oc * c.depth() + c0 * c.taps(), std::min(width, c.group_out - oc),
          elements * static_cast<int64_t>(sizeof(float)) / kLineBytes + 1, c.depth()};
}

/// A function of its own: inlined into a loop, its row pointers and vectors spill.
template <typename T>
HWY_NOINLINE void TransposeVectors(const T* from, int64_t row, T* to, int64_t to_step) {
  TransposeSquare(GemmTag<T>(), from, row, to, to_step);
}

/// to[p * to_step + i] = from[i * row + p] for i < rows, p < n: whole squares, of which the last
/// may overlap the one before it.
HWY_INLINE void TransposePlanes(const float* from, int64_t row, int64_t rows, int64_t n, float* to,
                                int64_t to_step) {
  constexpr size_t kLanes = hn::MaxLanes(GemmTag<float>());
  const int64_t N = VectorLanes<float>();
  if (rows < N || n < N) {
    PackTransposed<float, kLanes>(from, row, rows, n, to, to_step);
    return;
  }
  for (int64_t p = 0; p < n; p += N) {
    const int64_t at = std::min(p, n - N);
    TransposeVectors(from + at, row, to + at * to_step, to_step);
  }
}

/// `n` pixels of `width` channels to planes `plane` apart, of which there are `channels`.
HWY_INLINE void StorePlanes(const float* pixels, int64_t width, int64_t n, int64_t channels,
                            float* out, int64_t plane) {
  const int64_t N = VectorLanes<float>();
  for (int64_t p = 0; p < n; p += N) {
    const int64_t at = n < N ? p : std::min(p, n - N);
    const int64_t some = std::min(N, n - at);
    for (int64_t lane = 0; lane < channels; lane += N)
      TransposePlanes(pixels + at * width + lane, width, some, std::min(N, channels - lane),
                      out + lane * plane + at, plane);
  }
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // LC_BACKENDS_CPU_CONV_PIXELS_INL_H_
