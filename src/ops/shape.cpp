// Ops that only change metadata: windows on their input where strides allow, else copies.
#include <algorithm>
#include <limits>

#include "ops/op_list.hpp"
#include "ops/op_util.hpp"

namespace lc {
namespace {

Shape reshaped(const OpCall& call) {
  const AttrValue& attr = call.attr_of("shape");
  if (!attr.given()) throw_arg("reshape", "shape", "the new extents", "none");
  const int64_t n = call.in[0].numel();
  Shape shape(attr.ints());
  int unknown = -1;
  int64_t known = 1;
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape[i] == -1 && unknown < 0)
      unknown = i;
    else if (shape[i] < 0 || __builtin_mul_overflow(known, shape[i], &known))
      throw_arg("reshape", "shape", "extents of 0 or more, at most one of them -1", shape.str());
  }
  if (unknown >= 0) {
    if (known == 0 || n % known != 0)
      throw_arg("reshape", "shape", cat("extents that divide ", n, " elements"), shape.str());
    shape[unknown] = n / known;
  } else if (known != n) {
    throw_arg("reshape", "shape", cat(n, " elements, as x of shape ", call.in[0].shape.str()),
              shape.str());
  }
  return shape;
}

View transposed(const OpCall& call) {
  const View& x = call.in[0];
  const AttrValue& attr = call.attr_of("axes");
  View out = x;
  if (attr.given() && attr.n != x.rank())
    throw_arg("transpose", "axes", cat(x.rank(), " axes"), cat(attr.n));
  uint32_t seen = 0;
  for (int i = 0; i < x.rank(); ++i) {
    const int a =
        attr.given() ? normalize_axis("transpose", attr.i[i], x.rank(), "axes") : x.rank() - 1 - i;
    if (seen >> a & 1u) throw_arg("transpose", "axes", "each axis once", cat(a, " twice"));
    seen |= 1u << a;
    out.shape[i] = x.shape[a];
    out.strides[i] = x.strides[a];
  }
  return out;
}

/// Python's slice(start, stop, step) on one axis.
View sliced(const OpCall& call) {
  const View& x = call.in[0];
  const int axis = normalize_axis("slice", call.integer("axis"), x.rank());
  const int64_t n = x.shape[axis];
  const int64_t step = call.integer("step");
  if (step == 0 || step == std::numeric_limits<int64_t>::min())
    throw_arg("slice", "step", "a step other than 0", cat(step));
  int64_t start = call.integer("start");
  int64_t stop = call.integer("stop");
  const int64_t low = step < 0 ? -1 : 0;
  const int64_t high = step < 0 ? n - 1 : n;
  const auto bound = [&](int64_t i) { return i < 0 ? std::max(i + n, low) : std::min(i, high); };
  start = bound(start);
  stop = stop == std::numeric_limits<int64_t>::min() ? -1 : bound(stop);
  int64_t count = 0;
  if (step > 0 && stop > start) count = (stop - start - 1) / step + 1;
  if (step < 0 && stop < start) count = (start - stop - 1) / -step + 1;
  View out = x;
  out.shape[axis] = count;
  // With one element or none the stride names nothing, and stride * step could overflow.
  if (count > 1) out.strides[axis] = x.strides[axis] * step;
  // As an integer: shapes are inferred without data, and arithmetic on a null pointer is undefined.
  if (count > 0)
    out.data = reinterpret_cast<void*>(
        reinterpret_cast<uintptr_t>(x.data) +
        static_cast<uintptr_t>(start * x.strides[axis] * dtype_size(x.dtype)));
  return out;
}

View broadcasted(const OpCall& call) {
  const View& x = call.in[0];
  if (!call.attr_of("shape").given()) throw_arg("broadcast_to", "shape", "the new extents", "none");
  const Shape target(call.attr_of("shape").ints());
  for (const int64_t extent : target)
    if (extent < 0) throw_arg("broadcast_to", "shape", "extents of 0 or more", target.str());
  bool fits = x.rank() <= target.rank();
  for (int i = 0; fits && i < x.rank(); ++i)
    fits = x.shape.back(i) == 1 || x.shape.back(i) == target.back(i);
  if (!fits)
    throw_arg("broadcast_to", "shape", cat("a shape that ", x.shape.str(), " broadcasts to"),
              target.str());
  return x.broadcast_to(target);
}

/// Reads the row-major input through the window that `window` makes of it.
template <View (*window)(const OpCall&)>
void reference_window(RefCall& r) {
  OpCall call = r.call;
  call.in[0] = View(nullptr, DType::kFloat64, r.in[0].shape);
  const View w = window(call);
  const auto base = static_cast<int64_t>(reinterpret_cast<uintptr_t>(w.data)) / 8;
  size_t at = 0;
  for_each_offset(w.shape, w.strides, [&](int64_t o) { r.out[0].v[at++] = r.in[0][base + o]; });
}

template <View (*window)(const OpCall&)>
void infer_window(OpCall& call) {
  set_output(call, 0, window(call).shape, call.in[0].dtype);
}

template <View (*window)(const OpCall&)>
bool view_window(const OpCall& call, View* out) {
  *out = window(call);
  return true;
}

template <View (*window)(const OpCall&)>
OpDef window_op(const char* name, const char* doc) {
  OpDef op;
  op.name = name;
  op.doc = doc;
  op.inputs = {{"x", kAllTypes, false, "any shape"}};
  op.outputs = {"out"};
  op.infer = infer_window<window>;
  op.reference = reference_window<window>;
  op.view = view_window<window>;
  op.cost = [](const OpCall& call) { return streaming_cost(call, 0); };
  op.tolerance = {0, nullptr};
  return op;
}

Composer::Attr shape_attr(const Shape& s) {
  return {"shape", AttrValue::list({s.begin(), static_cast<size_t>(s.rank())})};
}

}  // namespace
}  // namespace lc

LC_OPS(shape) {
  using namespace lc;
  {
    OpDef op;
    op.name = "reshape";
    op.doc =
        "The same elements in row-major order under another shape; one extent may be -1.\n\n"
        "A window on x where its strides allow, else a copy.";
    op.inputs = {{"x", kAllTypes, false, "any shape"}};
    op.outputs = {"out"};
    op.attrs = {{"shape", AttrKind::kInts, AttrValue::none(), {}, true, "new extents"}};
    op.infer = [](OpCall& call) { set_output(call, 0, reshaped(call), call.in[0].dtype); };
    op.view = [](const OpCall& call, View* out) {
      return reshape_view(call.in[0], reshaped(call), out);
    };
    op.reference = [](RefCall& r) { r.out[0].v = r.in[0].v; };
    op.cost = [](const OpCall& call) { return streaming_cost(call, 0); };
    op.tolerance = {0, nullptr};
    op.vjp = [](Composer& c) {
      c.out(0, c.op("reshape", {c.in(2)}, {shape_attr(c.call().in[0].shape)}));
    };
    ops.push_back(std::move(op));
  }
  OpDef transpose = window_op<transposed>(
      "transpose", "x with its axes permuted; reversed where no axes are given. A window on x.");
  transpose.attrs = {
      {"axes", AttrKind::kInts, AttrValue::none(), {}, false, "axis of x for each output axis"}};
  transpose.vjp = [](Composer& c) {
    const AttrValue& axes = c.call().attr_of("axes");
    const int rank = c.call().in[0].rank();
    int64_t inverse[kMaxRank] = {};
    for (int i = 0; i < rank; ++i)
      inverse[axes.given() ? (axes.i[i] + rank) % rank : rank - 1 - i] = i;
    c.out(0, c.op("transpose", {c.in(2)},
                  {{"axes", AttrValue::list({inverse, static_cast<size_t>(rank)})}}));
  };
  ops.push_back(std::move(transpose));
  OpDef slice = window_op<sliced>(
      "slice",
      "Every step-th element of one axis from start to stop, as Python's slices. A window on x.");
  constexpr int64_t kLast = std::numeric_limits<int64_t>::max();
  slice.attrs = {
      {"axis", AttrKind::kInt, AttrValue::integer(0), {}, false, "the axis that is cut"},
      {"start",
       AttrKind::kInt,
       AttrValue::integer(0),
       {},
       false,
       "first element; negative: from the end"},
      {"stop",
       AttrKind::kInt,
       AttrValue::integer(kLast),
       {},
       false,
       "one past the last; the smallest int64 goes past the front with a negative step"},
      {"step", AttrKind::kInt, AttrValue::integer(1), {}, false, "may be negative, not 0"}};
  ops.push_back(std::move(slice));
  OpDef broadcast = window_op<broadcasted>(
      "broadcast_to", "x repeated along new axes and axes of extent 1, as NumPy. A window on x.");
  broadcast.attrs = {
      {"shape", AttrKind::kInts, AttrValue::none(), {}, true, "extents of the result"}};
  broadcast.vjp = [](Composer& c) {
    const Shape& from = c.call().in[0].shape;
    const Shape& to = c.call().in[2].shape;
    Dims axes;
    for (int i = 0; i < to.rank(); ++i) {
      const int own = i - (to.rank() - from.rank());
      if (own < 0 || (from[own] == 1 && to[i] != 1)) axes.push_back(i);
    }
    const std::span<const int64_t> list(axes.begin(), static_cast<size_t>(axes.rank()));
    c.out(0, c.op("reshape", {c.op("sum", {c.in(2)}, {{"axes", AttrValue::list(list)}})},
                  {shape_attr(from)}));
  };
  ops.push_back(std::move(broadcast));
}
