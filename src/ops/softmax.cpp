#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/op_list.hpp"
#include "ops/op_util.hpp"

namespace lc {
namespace {

void infer(OpCall& call) {
  const View& x = call.in[0];
  if (x.rank() == 0) throw_arg(call.op->name, "x", "rank 1 or more", "rank 0");
  (void)normalize_axis(call.op->name, call.integer("axis"), x.rank());
  set_output(call, 0, x.shape, x.dtype);
}

int64_t axis_length(const OpCall& call) {
  const View& x = call.in[0];
  return x.shape[normalize_axis(call.op->name, call.integer("axis"), x.rank())];
}

void reference(RefCall& r) {
  const bool log = std::string_view(r.call.op->name) == "log_softmax";
  const RefArray& x = r.in[0];
  const int axis = normalize_axis("softmax", r.call.integer("axis"), x.shape.rank());
  const int64_t n = x.shape[axis];
  int64_t inner = 1;
  for (int i = axis + 1; i < x.shape.rank(); ++i) inner *= x.shape[i];
  const int64_t outer = n * inner == 0 ? 0 : x.shape.numel() / (n * inner);
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < inner; ++i) {
      const int64_t base = o * n * inner + i;
      double largest = -std::numeric_limits<double>::infinity();
      for (int64_t j = 0; j < n; ++j) {
        const double v = x[base + j * inner];
        if (v > largest || std::isnan(v)) largest = v;
        if (std::isnan(v)) break;
      }
      double sum = 0;
      for (int64_t j = 0; j < n; ++j) sum += std::exp(x[base + j * inner] - largest);
      for (int64_t j = 0; j < n; ++j) {
        const double shifted = x[base + j * inner] - largest;
        r.out[0][base + j * inner] = log ? shifted - std::log(sum) : std::exp(shifted) / sum;
      }
    }
}

/// x - max(x) over the axis.
Composer::Value shifted(Composer& c, Composer::Attr axes) {
  const auto keep = AttrValue::integer(1);
  const auto largest = c.op("max", {c.in(0)}, {axes, {"keepdims", keep}});
  return c.op("sub", {c.in(0), largest});
}

Composer::Attr axes_of(const Composer& c) {
  const int64_t axis = c.call().integer("axis");
  return {"axes", AttrValue::list({&axis, 1})};
}

void compose_softmax(Composer& c) {
  const auto axes = axes_of(c);
  const auto e = c.op("exp", {shifted(c, axes)});
  const auto sum = c.op("sum", {e}, {axes, {"keepdims", AttrValue::integer(1)}});
  c.out(0, c.op("div", {e, sum}));
}

void compose_log_softmax(Composer& c) {
  const auto axes = axes_of(c);
  const auto x = shifted(c, axes);
  const auto sum = c.op("sum", {c.op("exp", {x})}, {axes, {"keepdims", AttrValue::integer(1)}});
  c.out(0, c.op("sub", {x, c.op("log", {sum})}));
}

// Inputs: x, y, g. softmax: y * (g - sum(g * y)); log_softmax: g - exp(y) * sum(g).
void vjp_softmax(Composer& c) {
  const auto axes = axes_of(c);
  const auto sum =
      c.op("sum", {c.op("mul", {c.in(2), c.in(1)})}, {axes, {"keepdims", AttrValue::integer(1)}});
  c.out(0, c.op("mul", {c.in(1), c.op("sub", {c.in(2), sum})}));
}
void vjp_log_softmax(Composer& c) {
  const auto axes = axes_of(c);
  const auto sum = c.op("sum", {c.in(2)}, {axes, {"keepdims", AttrValue::integer(1)}});
  c.out(0, c.op("sub", {c.in(2), c.op("mul", {c.op("exp", {c.in(1)}), sum})}));
}

}  // namespace
}  // namespace lc

LC_OPS(softmax) {
  using namespace lc;
  for (const bool log : {false, true}) {
    OpDef op;
    op.name = log ? "log_softmax" : "softmax";
    op.doc = log ? "Logarithm of softmax over one axis, computed as (x - max) - log(sum(exp(x - "
                   "max))).\n\n"
                   "x: any shape of rank 1 or more. A row of -inf gives NaN."
                 : "exp(x - max) / sum(exp(x - max)) over one axis.\n\n"
                   "x: any shape of rank 1 or more. A row of -inf gives NaN.";
    op.inputs = {{"x", kFloatTypes, false, "rank 1 or more"}};
    op.outputs = {"out"};
    op.attrs = {
        {"axis", AttrKind::kInt, AttrValue::integer(-1), {}, false, "the axis that sums to one"}};
    op.inplace = true;
    op.infer = infer;
    op.cost = [](const OpCall& call) {
      return streaming_cost(call, 16.0 * f64(call.out[0].numel()));
    };
    op.reference = reference;
    op.compose = log ? compose_log_softmax : compose_softmax;
    op.vjp = log ? vjp_log_softmax : vjp_softmax;
    op.tolerance = {
        8, [](const OpCall& call) { return f64(std::max<int64_t>(axis_length(call), 1)); }};
    ops.push_back(std::move(op));
  }
}
