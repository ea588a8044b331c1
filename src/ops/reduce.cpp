// Reductions over any set of axes, and the index of the extreme element.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/op_list.hpp"
#include "ops/op_util.hpp"

namespace lc {
namespace {

/// Bit i: axis i is reduced. No axes given: all.
uint32_t reduced_axes(const OpCall& call, const char* attr) {
  const AttrValue& axes = call.attr_of(attr);
  const int rank = call.in[0].rank();
  if (!axes.given()) return (1u << rank) - 1;
  uint32_t mask = 0;
  for (const int64_t axis : axes.ints()) {
    const uint32_t bit = 1u << normalize_axis(call.op->name, axis, rank, attr);
    if ((mask & bit) != 0) throw_arg(call.op->name, attr, "each axis once", cat(axis, " twice"));
    mask |= bit;
  }
  return mask;
}

Shape reduced_shape(const OpCall& call, uint32_t mask) {
  const bool keep = call.flag("keepdims");
  Shape out;
  for (int i = 0; i < call.in[0].rank(); ++i) {
    if (!(mask >> i & 1u))
      out.push_back(call.in[0].shape[i]);
    else if (keep)
      out.push_back(1);
  }
  return out;
}

int64_t reduced_count(const OpCall& call, uint32_t mask) {
  int64_t n = 1;
  for (int i = 0; i < call.in[0].rank(); ++i)
    if (mask >> i & 1u) n *= call.in[0].shape[i];
  return n;
}

void refuse_empty(const OpCall& call, uint32_t mask) {
  Shape out = reduced_shape(call, mask);
  if (reduced_count(call, mask) == 0 && out.numel() > 0)
    throw_arg(call.op->name, "x", "at least one element to choose from",
              cat("shape ", call.in[0].shape.str()));
}

/// Calls f(flat output index, flat input index).
template <typename F>
void for_each_pair(const Shape& in, uint32_t mask, F&& f) {
  Strides to;
  to.resize(in.rank());
  int64_t step = 1;
  for (int i = in.rank() - 1; i >= 0; --i) {
    const bool reduced = (mask >> i & 1u) != 0;
    to[i] = reduced ? 0 : step;
    if (!reduced) step *= in[i];
  }
  int64_t at = 0;
  for_each_offset(in, to, [&](int64_t o) { f(o, at++); });
}

void reference(RefCall& r) {
  const std::string_view op = r.call.op->name;
  const uint32_t mask = reduced_axes(r.call, "axes");
  const double infinity = std::numeric_limits<double>::infinity();
  std::vector<double>& out = r.out[0].v;
  if (op == "max") out.assign(out.size(), -infinity);
  if (op == "min") out.assign(out.size(), infinity);
  for_each_pair(r.in[0].shape, mask, [&](int64_t to, int64_t from) {
    const double x = r.in[0][from];
    double& y = out[static_cast<size_t>(to)];
    if (op == "max")
      y = x > y || std::isnan(x) ? x : y;
    else if (op == "min")
      y = x < y || std::isnan(x) ? x : y;
    else
      y += x;
  });
  if (op == "mean") {
    const double n = f64(reduced_count(r.call, mask));
    for (double& y : out) y /= n;
  }
}

void reference_arg(RefCall& r) {
  const bool largest = std::string_view(r.call.op->name) == "argmax";
  const uint32_t mask = reduced_axes(r.call, "axis");
  std::vector<double> best(r.out[0].v.size());
  std::vector<int64_t> seen(best.size(), 0);
  for_each_pair(r.in[0].shape, mask, [&](int64_t to, int64_t from) {
    const auto i = static_cast<size_t>(to);
    const double x = r.in[0][from];
    const bool better = seen[i] == 0 || (!std::isnan(best[i]) &&
                                         (std::isnan(x) || (largest ? x > best[i] : x < best[i])));
    if (better) {
      best[i] = x;
      r.out[0].v[i] = f64(seen[i]);
    }
    ++seen[i];
  });
}

// Inputs: x, y, g. The gradient, spread back over the reduced axes.
void vjp(Composer& c) {
  const OpCall& call = c.call();
  const uint32_t mask = reduced_axes(call, "axes");
  Shape kept = call.in[0].shape;
  for (int i = 0; i < kept.rank(); ++i)
    if (mask >> i & 1u) kept[i] = 1;
  const auto list = [](const Shape& s) {
    return AttrValue::list({s.begin(), static_cast<size_t>(s.rank())});
  };
  auto g = c.op("reshape", {c.in(2)}, {{"shape", list(kept)}});
  if (std::string_view(call.op->name) == "mean")
    g = c.op("mul", {g, c.constant(1 / f64(reduced_count(call, mask)), call.in[0].dtype)});
  c.out(0, c.op("broadcast_to", {g}, {{"shape", list(call.in[0].shape)}}));
}

void compose_mean(Composer& c) {
  const OpCall& call = c.call();
  const auto sum = c.op("sum", {c.in(0)},
                        {{"axes", call.attr_of("axes")}, {"keepdims", call.attr_of("keepdims")}});
  const double n = f64(reduced_count(call, reduced_axes(call, "axes")));
  c.out(0, c.op("div", {sum, c.constant(n, call.in[0].dtype)}));
}

constexpr const char* kAxesDoc = "axes to reduce; not given: all";

}  // namespace
}  // namespace lc

LC_OPS(reduce) {
  using namespace lc;
  struct Row {
    const char* name;
    const char* doc;
  };
  for (const Row& row : {Row{"sum",
                             "Sum over axes; 0 over an empty axis.\n\nx: any shape. Long sums are "
                             "split in pairs or blocks (Higham 1993)."},
                         Row{"mean", "Mean over axes; NaN over an empty axis.\n\nx: any shape."},
                         Row{"max",
                             "Largest element over axes; NaN if there is one.\n\nx: any shape; "
                             "raises for an empty axis."},
                         Row{"min",
                             "Smallest element over axes; NaN if there is one.\n\nx: any shape; "
                             "raises for an empty axis."}}) {
    OpDef op;
    op.name = row.name;
    op.doc = row.doc;
    op.inputs = {{"x", kFloatTypes, false, "any shape"}};
    op.outputs = {"out"};
    op.attrs = {
        {"axes", AttrKind::kInts, AttrValue::none(), {}, false, kAxesDoc},
        {"keepdims", AttrKind::kBool, AttrValue::integer(0), {}, false, "keep reduced axes as 1"}};
    const bool sums = row.name[0] == 's' || std::string_view(row.name) == "mean";
    op.infer = sums ? +[](OpCall& call) {
      const uint32_t mask = reduced_axes(call, "axes");
      set_output(call, 0, reduced_shape(call, mask), call.in[0].dtype);
    } : +[](OpCall& call) {
      const uint32_t mask = reduced_axes(call, "axes");
      refuse_empty(call, mask);
      set_output(call, 0, reduced_shape(call, mask), call.in[0].dtype);
    };
    op.cost = [](const OpCall& call) { return streaming_cost(call, f64(call.in[0].numel())); };
    op.reference = reference;
    if (sums) op.vjp = vjp;
    if (row.name == std::string_view("mean")) op.compose = compose_mean;
    op.tolerance = {
        sums ? 8.0 : 0.0, [](const OpCall& call) {
          return f64(std::max<int64_t>(reduced_count(call, reduced_axes(call, "axes")), 1));
        }};
    ops.push_back(std::move(op));
  }
  for (const bool largest : {true, false}) {
    OpDef op;
    op.name = largest ? "argmax" : "argmin";
    op.doc = largest ? "Index of the first largest element along an axis; the first NaN wins.\n\n"
                       "x: any shape; the result is int64; raises for an empty axis."
                     : "Index of the first smallest element along an axis; the first NaN wins.\n\n"
                       "x: any shape; the result is int64; raises for an empty axis.";
    op.inputs = {{"x", kFloatTypes, false, "any shape"}};
    op.outputs = {"out"};
    op.attrs = {
        {"axis",
         AttrKind::kInts,
         AttrValue::none(),
         {},
         false,
         "one axis; not given: of all elements, flat"},
        {"keepdims", AttrKind::kBool, AttrValue::integer(0), {}, false, "keep reduced axes as 1"}};
    op.infer = [](OpCall& call) {
      if (call.attr_of("axis").given() && call.attr_of("axis").n != 1)
        throw_arg(call.op->name, "axis", "one axis or none", cat(call.attr_of("axis").n));
      const uint32_t mask = reduced_axes(call, "axis");
      refuse_empty(call, mask);
      set_output(call, 0, reduced_shape(call, mask), DType::kInt64);
    };
    op.cost = [](const OpCall& call) { return streaming_cost(call, f64(call.in[0].numel())); };
    op.reference = reference_arg;
    op.tolerance = {0, nullptr};
    ops.push_back(std::move(op));
  }
}
