#include <algorithm>

#include "ops/activation.hpp"
#include "ops/op_list.hpp"
#include "ops/op_util.hpp"

namespace lc {
namespace {

constexpr const char* kDoc =
    "2-D cross-correlation with zero padding: activation(conv(x, weight) + bias).\n\n"
    "x: [n, c, h, w]; weight: [oc, c / groups, kh, kw]; bias: [oc]. Out: [n, oc, oh, ow] with\n"
    "oh = (h + 2 * padding - dilation * (kh - 1) - 1) / stride + 1. Raises for a channel mismatch, "
    "a\n"
    "kernel larger than the padded input, strides or dilations below 1, negative padding.";

struct Pair {
  int64_t h, w;
};

Pair pair_of(const OpCall& call, const char* name, int64_t least) {
  const AttrValue& v = call.attr_of(name);
  if (v.n != 2) throw_arg("conv2d", name, "two numbers (height, width)", cat(v.n));
  for (int i = 0; i < 2; ++i)
    if (v.i[i] < least || v.i[i] > (int64_t{1} << 31))
      throw_arg("conv2d", name, cat(least, " to 2^31"), cat(v.i[i]));
  return {v.i[0], v.i[1]};
}

void infer(OpCall& call) {
  const View& x = call.in[0];
  const View& w = call.in[1];
  if (x.rank() != 4) throw_arg("conv2d", "x", "rank 4 (n, c, h, w)", cat("shape ", x.shape.str()));
  if (w.rank() != 4)
    throw_arg("conv2d", "weight", "rank 4 (oc, c / groups, kh, kw)", cat("shape ", w.shape.str()));
  const Pair stride = pair_of(call, "stride", 1);
  const Pair padding = pair_of(call, "padding", 0);
  const Pair dilation = pair_of(call, "dilation", 1);
  const int64_t groups = call.integer("groups");
  if (groups < 1) throw_arg("conv2d", "groups", "1 or more", cat(groups));
  if (x.shape[1] % groups != 0)
    throw_arg("conv2d", "groups", cat("a divisor of x's ", x.shape[1], " channels"), cat(groups));
  if (w.shape[0] % groups != 0)
    throw_arg("conv2d", "groups", cat("a divisor of weight's ", w.shape[0], " output channels"),
              cat(groups));
  if (w.shape[1] != x.shape[1] / groups)
    throw_arg("conv2d", "weight", cat(x.shape[1] / groups, " input channels (x's over groups)"),
              cat(w.shape[1]));
  if (w.shape[2] < 1 || w.shape[3] < 1)
    throw_arg("conv2d", "weight", "a kernel of at least 1x1", cat("shape ", w.shape.str()));
  if (call.in[2].present() && !(call.in[2].shape == Shape{w.shape[0]}))
    throw_arg("conv2d", "bias", cat("shape (", w.shape[0], ",)"),
              cat("shape ", call.in[2].shape.str()));
  const auto extent = [](int64_t in, int64_t k, int64_t s, int64_t p, int64_t d, const char* axis) {
    const int64_t padded = in + 2 * p;
    int64_t reach = 0;
    if (__builtin_mul_overflow(d, k - 1, &reach) || reach + 1 > padded)
      throw_arg("conv2d", "weight", cat("a kernel within the padded ", axis, " ", padded),
                cat("one that reaches over ", reach + 1));
    return (padded - reach - 1) / s + 1;
  };
  const int64_t oh = extent(x.shape[2], w.shape[2], stride.h, padding.h, dilation.h, "height");
  const int64_t ow = extent(x.shape[3], w.shape[3], stride.w, padding.w, dilation.w, "width");
  set_output(call, 0, Shape{x.shape[0], w.shape[0], oh, ow}, x.dtype);
}

void reference(RefCall& r) {
  const OpCall& call = r.call;
  const Shape& x = r.in[0].shape;
  const Shape& w = r.in[1].shape;
  const Shape& o = r.out[0].shape;
  const Pair stride = pair_of(call, "stride", 1);
  const Pair padding = pair_of(call, "padding", 0);
  const Pair dilation = pair_of(call, "dilation", 1);
  const int64_t groups = call.integer("groups");
  const auto activation = static_cast<Activation>(call.integer("activation"));
  const int64_t per_group = w[0] / groups;
  size_t at = 0;
  for (int64_t n = 0; n < o[0]; ++n)
    for (int64_t c = 0; c < o[1]; ++c)
      for (int64_t i = 0; i < o[2]; ++i)
        for (int64_t j = 0; j < o[3]; ++j) {
          double sum = r.has(2) ? r.in[2][c] : 0.0;
          const int64_t first = c / per_group * w[1];
          for (int64_t e = 0; e < w[1]; ++e)
            for (int64_t kh = 0; kh < w[2]; ++kh)
              for (int64_t kw = 0; kw < w[3]; ++kw) {
                const int64_t ih = i * stride.h + kh * dilation.h - padding.h;
                const int64_t iw = j * stride.w + kw * dilation.w - padding.w;
                if (ih < 0 || ih >= x[2] || iw < 0 || iw >= x[3]) continue;
                sum += r.in[0][((n * x[1] + first + e) * x[2] + ih) * x[3] + iw] *
                       r.in[1][((c * w[1] + e) * w[2] + kh) * w[3] + kw];
              }
          r.out[0].v[at++] = activate(activation, sum);
        }
}

double terms(const OpCall& call) {
  const Shape& w = call.in[1].shape;
  return f64(std::max<int64_t>(w[1] * w[2] * w[3], 1));
}

}  // namespace
}  // namespace lc

LC_OPS(conv2d) {
  using namespace lc;
  const int64_t ones[] = {1, 1};
  const int64_t zeros[] = {0, 0};
  OpDef op;
  op.name = "conv2d";
  op.doc = kDoc;
  op.inputs = {{"x", kFloatTypes, false, "[n, c, h, w]"},
               {"weight", kFloatTypes, false, "[oc, c / groups, kh, kw]"},
               {"bias", kFloatTypes, true, "[oc]"}};
  op.outputs = {"out"};
  op.attrs = {
      {"stride", AttrKind::kInts, AttrValue::list(ones), {}, false, "height, width"},
      {"padding",
       AttrKind::kInts,
       AttrValue::list(zeros),
       {},
       false,
       "zeros on each side: height, width"},
      {"dilation", AttrKind::kInts, AttrValue::list(ones), {}, false, "step between kernel taps"},
      {"groups",
       AttrKind::kInt,
       AttrValue::integer(1),
       {},
       false,
       "independent slices of the channels"},
      {"activation", AttrKind::kEnum, AttrValue::integer(0), LC_ACTIVATION_WORDS, false,
       "applied last"}};
  op.infer = infer;
  op.cost = [](const OpCall& call) {
    return streaming_cost(
        call, 2.0 * f64(call.out[0].numel()) * (call.in[1].numel() > 0 ? terms(call) : 0.0));
  };
  op.reference = reference;
  op.tolerance = {8, terms};
  ops.push_back(std::move(op));
}
