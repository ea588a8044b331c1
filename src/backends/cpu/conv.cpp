#include "backends/cpu/conv.hpp"

#include <algorithm>

namespace lc::cpu {

ConvShape conv_shape(const OpCall& call) {
  const View& x = call.in[0];
  const View& w = call.in[1];
  const View& out = call.out[0];
  ConvShape c{};
  c.dtype = x.dtype;
  c.n = x.shape[0];
  c.h = x.shape[2];
  c.w = x.shape[3];
  c.groups = call.integer("groups");
  c.group_in = w.shape[1];
  c.group_out = w.shape[0] / c.groups;
  c.kh = w.shape[2];
  c.kw = w.shape[3];
  c.oh = out.shape[2];
  c.ow = out.shape[3];
  const auto pair = [&](const char* name, int64_t* a, int64_t* b) {
    const AttrValue& v = call.attr_of(name);
    *a = v.i[0];
    *b = v.i[1];
  };
  pair("stride", &c.stride_h, &c.stride_w);
  pair("padding", &c.pad_h, &c.pad_w);
  pair("dilation", &c.dil_h, &c.dil_w);
  c.x_n = x.strides[0];
  c.x_c = x.strides[1];
  c.x_h = x.strides[2];
  c.x_w = x.strides[3];
  c.w_o = w.strides[0];
  c.w_i = w.strides[1];
  c.w_h = w.strides[2];
  c.w_w = w.strides[3];
  c.o_n = out.strides[0];
  c.o_c = out.strides[1];
  c.o_h = out.strides[2];
  c.has_bias = call.in[2].present();
  c.bias_step = c.has_bias ? call.in[2].strides[0] : 0;
  c.activation = static_cast<Activation>(call.integer("activation"));
  return c;
}

PlaneLayout plane_layout(const ConvShape& c, int64_t band_rows, int64_t lanes) {
  const int64_t below = (c.kh - 1) * c.dil_h / c.stride_h;
  const int64_t right = (c.kw - 1) * c.dil_w / c.stride_w;
  PlaneLayout p{};
  p.phases_h = c.kh == 1 ? 1 : c.stride_h;
  p.phases_w = c.kw == 1 ? 1 : c.stride_w;
  p.pitch = c.stride_w == 1 ? std::max(c.pad_w + c.w, c.ow) : c.ow + right;
  p.beyond = std::max<int64_t>(c.ow + right - p.pitch, 0);
  p.rows = band_rows + below;
  // Vectors are loaded and stored whole: up to one past the last row.
  p.phase = (p.rows * p.pitch + p.beyond + 2 * lanes + 15) / 16 * 16;
  return p;
}

Support planes_support(const ConvShape& c) {
  if (c.stride_h > kConvMaxStride || c.stride_w > kConvMaxStride)
    return Support::no(cat("stride ", c.stride_h, ",", c.stride_w, " above ", kConvMaxStride));
  if (c.taps() > kConvMaxTaps) return Support::no(cat(c.taps(), " taps, above ", kConvMaxTaps));
  // Zeros, not data, would fill the planes.
  if (c.pad_h > c.h + 8 || c.pad_w > c.w + 8)
    return Support::no(cat("padding ", c.pad_h, ",", c.pad_w, " wider than the input"));
  return Support::yes();
}

bool output_fits(const View& o, bool whole_planes) {
  const bool rows = o.shape[3] <= 1 || o.strides[3] == 1;
  return rows && (!whole_planes || o.shape[2] <= 1 || o.strides[2] == o.shape[3]);
}

Support channel_lanes_support(const ConvShape& c) {
  // Of input and output: fewer leave lanes empty and do not pay for the transposes.
  constexpr int64_t kLeastChannels = 16;
  if (c.dtype != DType::kFloat32) return Support::no("not float32");
  if (c.groups != 1) return Support::no("more than one group");
  if (c.group_in < kLeastChannels || c.group_out < kLeastChannels)
    return Support::no(cat(c.group_in, " to ", c.group_out, " channels, below ", kLeastChannels));
  if (c.n * c.oh * c.ow == 0) return Support::no("nothing to multiply");
  if (c.h > 1 && c.x_h != c.w) return Support::no("rows of x are apart");
  if (c.w > 1 && c.x_w != 1) return Support::no("columns of x are apart");
  return planes_support(c);
}

}  // namespace lc::cpu
