#include <algorithm>
#include <cmath>

#include "ops/op_list.hpp"
#include "ops/op_util.hpp"

namespace lc {
namespace {

int64_t width(const OpCall& call) { return call.in[0].shape.back(); }

void infer(OpCall& call) {
  const View& x = call.in[0];
  if (x.rank() == 0) throw_arg(call.op->name, "x", "rank 1 or more", "rank 0");
  for (int i = 1; i < call.n_in; ++i)
    if (call.in[i].present() && !(call.in[i].shape == Shape{x.shape.back()}))
      throw_arg(call.op->name, call.op->inputs[static_cast<size_t>(i)].name,
                cat("shape (", x.shape.back(), ",), the last dimension of x"),
                cat("shape ", call.in[i].shape.str()));
  if (!(call.real("eps") >= 0)) throw_arg(call.op->name, "eps", "0 or more", cat(call.real("eps")));
  set_output(call, 0, x.shape, x.dtype);
}

void reference(RefCall& r) {
  const bool centre = std::string_view(r.call.op->name) == "layer_norm";
  const RefArray& x = r.in[0];
  const int64_t n = x.shape.back();
  const double eps = r.call.real("eps");
  for (int64_t base = 0; base < x.shape.numel(); base += n) {
    double mean = 0;
    if (centre) {
      for (int64_t i = 0; i < n; ++i) mean += x[base + i];
      mean /= f64(n);
    }
    double square = 0;
    for (int64_t i = 0; i < n; ++i) square += (x[base + i] - mean) * (x[base + i] - mean);
    const double scale = 1 / std::sqrt(square / f64(n) + eps);
    for (int64_t i = 0; i < n; ++i) {
      double y = (x[base + i] - mean) * scale;
      if (r.has(1)) y *= r.in[1][i];
      if (centre && r.has(2)) y += r.in[2][i];
      r.out[0][base + i] = y;
    }
  }
}

void compose(Composer& c) {
  using Value = Composer::Value;
  const int64_t last = -1;
  const Composer::Attr axes{"axes", AttrValue::list({&last, 1})};
  const Composer::Attr keep{"keepdims", AttrValue::integer(1)};
  const bool centre = std::string_view(c.call().op->name) == "layer_norm";
  Value x = c.in(0);
  if (centre) x = c.op("sub", {x, c.op("mean", {x}, {axes, keep})});
  const Value variance = c.op("mean", {c.op("square", {x})}, {axes, keep});
  const Value eps = c.constant(c.call().real("eps"), c.call().in[0].dtype);
  Value y = c.op("mul", {x, c.op("rsqrt", {c.op("add", {variance, eps})})});
  if (c.has(1)) y = c.op("mul", {y, c.in(1)});
  if (centre && c.has(2)) y = c.op("add", {y, c.in(2)});
  c.out(0, y);
}

OpDef norm_op() {
  OpDef op;
  op.outputs = {"out"};
  op.attrs = {{"eps",
               AttrKind::kFloat,
               AttrValue::real(1e-5),
               {},
               false,
               "added to the mean square before the root"}};
  op.inputs = {{"x", kFloatTypes, false, "[..., n]"}, {"weight", kFloatTypes, true, "[n]"}};
  op.infer = infer;
  op.cost = [](const OpCall& call) { return streaming_cost(call, 8.0 * f64(call.out[0].numel())); };
  op.reference = reference;
  op.compose = compose;
  op.tolerance = {8, [](const OpCall& call) { return f64(std::max<int64_t>(width(call), 1)); }};
  return op;
}

}  // namespace
}  // namespace lc

LC_OPS(norm) {
  using namespace lc;
  OpDef layer = norm_op();
  layer.name = "layer_norm";
  layer.doc =
      "(x - mean) / sqrt(variance + eps) * weight + bias over the last axis (Ba et al. 2016).\n\n"
      "x: [..., n]; weight, bias: [n], absent: 1 and 0. The variance divides by n.";
  layer.inputs.push_back({"bias", kFloatTypes, true, "[n]"});
  ops.push_back(std::move(layer));
  OpDef rms = norm_op();
  rms.name = "rms_norm";
  rms.doc =
      "x / sqrt(mean(x^2) + eps) * weight over the last axis (Zhang and Sennrich 2019).\n\n"
      "x: [..., n]; weight: [n], absent: 1.";
  ops.push_back(std::move(rms));
}
