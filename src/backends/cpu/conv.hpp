// The geometry of a 2-D convolution, and its candidates; see kernels/conv2d.cpp for their order.
#pragma once

#include <cstdint>

#include "lightning_core/kernel.hpp"
#include "ops/activation.hpp"

namespace lc::cpu {

/// One call; strides in elements.
struct ConvShape {
  int64_t n, groups, group_in, group_out;
  int64_t h, w, oh, ow, kh, kw;
  int64_t stride_h, stride_w, pad_h, pad_w, dil_h, dil_w;
  int64_t x_n, x_c, x_h, x_w;
  int64_t w_o, w_i, w_h, w_w;
  int64_t o_n, o_c, o_h;
  int64_t bias_step;
  DType dtype;
  Activation activation;
  bool has_bias;

  [[nodiscard]] int64_t taps() const { return kh * kw; }
  /// Products of one output element.
  [[nodiscard]] int64_t depth() const { return group_in * kh * kw; }
  [[nodiscard]] double flops() const {
    return 2.0 * static_cast<double>(n * groups * group_out) * static_cast<double>(oh * ow) *
           static_cast<double>(depth());
  }
};

[[nodiscard]] ConvShape conv_shape(const OpCall& call);

/// Where the rows of zero-padded planes lie from which kernels read without looking at borders.
///
/// A plane is cut into phases, one for each residue of a row and of a column modulo the stride, so
/// that the taps of neighbouring outputs are neighbours in memory. In a phase output (y, x) reads
/// tap (i, j) at flat position y * pitch + x plus tap_offset(i, j): outputs of several rows are one
/// run of positions, with pitch - ow unused ones between rows. At stride 1 the zeros right of a row
/// are the zeros left of the next.
struct PlaneLayout {
  int64_t phases_h, phases_w;
  int64_t pitch;
  int64_t beyond;  ///< columns that the last row's taps read past its pitch
  int64_t rows;    ///< of a phase, for the output rows of a band
  int64_t phase;   ///< elements from a phase to the next
  [[nodiscard]] int64_t plane() const { return phases_h * phases_w * phase; }
  [[nodiscard]] int64_t tap_offset(const ConvShape& c, int64_t i, int64_t j) const {
    const int64_t y = i * c.dil_h;
    const int64_t x = j * c.dil_w;
    return (y % c.stride_h * phases_w + x % c.stride_w) * phase + y / c.stride_h * pitch +
           x / c.stride_w;
  }
};

inline constexpr int64_t kConvMaxStride = 4;  ///< phases a plane is cut into, each way
inline constexpr int64_t kConvMaxTaps = 128;

/// For bands of `band_rows` output rows. `lanes`: elements of the widest vector.
[[nodiscard]] PlaneLayout plane_layout(const ConvShape& c, int64_t band_rows, int64_t lanes);
/// Strides and taps that padded planes are made for.
[[nodiscard]] Support planes_support(const ConvShape& c);
/// Yes where channels may be the lanes and images are transposed for it: float32, one group, enough
/// channels, planes whose rows follow one another.
[[nodiscard]] Support channel_lanes_support(const ConvShape& c);

/// Channels of pixels that lie together where lanes are channels (conv_pixels-inl.h).
inline constexpr int64_t kPixelSlice = 64;
/// Elements from a transposed pixel to the next: a multiple of 4096 bytes would send the pixels
/// that are written side by side to one set of L1.
inline int64_t pixel_pitch(const ConvShape& c) { return (c.group_in + 15) / 16 * 16 + 16; }

/// Outputs as the kernels write them: rows of contiguous elements, one after the other where
/// `whole_planes`.
[[nodiscard]] bool output_fits(const View& out, bool whole_planes);

/// What conv2d:direct decides when a call is planned; see conv_direct.cpp.
struct ConvDirectParams {
  ConvShape c;
  PlaneLayout layout;
  int64_t threads;
  bool panels;        ///< a task is a panel of output channels, else a band of rows
  int64_t bands;      ///< of an image
  int64_t band_rows;  ///< at most
  int64_t block;      ///< channels whose weights are packed at a time
  int64_t packed;     ///< workspace elements of packed weights: of all, or of a task's block
  int64_t planes;     ///< workspace elements of a band's planes, or of all planes
  int64_t sums;       ///< workspace elements of a task's sums
};

[[nodiscard]] KernelDef conv_depthwise();
[[nodiscard]] KernelDef conv_direct();
[[nodiscard]] KernelDef conv_pixels();
[[nodiscard]] KernelDef conv_winograd();

}  // namespace lc::cpu
