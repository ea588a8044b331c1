#include "ops/op_list.hpp"
#include "ops/op_util.hpp"

LC_OPS(concat) {
  using namespace lc;
  OpDef op;
  op.name = "concat";
  op.doc =
      "Arrays one after the other along an axis.\n\n"
      "xs: up to 32 arrays of one dtype, whose shapes agree but for that axis.";
  op.inputs = {{"xs", kAllTypes, false, "equal shapes but for `axis`"}};
  op.outputs = {"out"};
  op.attrs = {{"axis", AttrKind::kInt, AttrValue::integer(0), {}, false, "the axis that grows"}};
  op.variadic = true;
  op.infer = [](OpCall& call) {
    Shape out = call.in[0].shape;
    if (out.rank() == 0) throw_arg("concat", "xs[0]", "rank 1 or more", "rank 0");
    const int axis = normalize_axis("concat", call.integer("axis"), out.rank());
    for (int i = 1; i < call.n_in; ++i) {
      const View& x = call.in[i];
      if (x.dtype != call.in[0].dtype)
        throw_arg(ErrorCode::kInvalidType, "concat", cat("xs[", i, "]"),
                  cat(dtype_name(call.in[0].dtype), " (as xs[0])"), dtype_name(x.dtype));
      bool fits = x.rank() == out.rank();
      for (int d = 0; fits && d < out.rank(); ++d) fits = d == axis || x.shape[d] == out[d];
      if (!fits)
        throw_arg("concat", cat("xs[", i, "]"),
                  cat("a shape like ", call.in[0].shape.str(), " but for axis ", axis),
                  cat("shape ", x.shape.str()));
      if (__builtin_add_overflow(out[axis], x.shape[axis], &out[axis]))
        throw_arg("concat", "xs", "at most 2^63 elements along the axis", "more");
    }
    set_output(call, 0, out, call.in[0].dtype);
  };
  op.cost = [](const OpCall& call) { return streaming_cost(call, 0); };
  op.reference = [](RefCall& r) {
    const Shape& out = r.out[0].shape;
    const int axis = normalize_axis("concat", r.call.integer("axis"), out.rank());
    int64_t inner = 1;
    for (int i = axis + 1; i < out.rank(); ++i) inner *= out[i];
    int64_t at = 0;
    for (const RefArray& x : r.in) {
      const int64_t run = x.shape[axis] * inner;
      for (int64_t i = 0; i < x.shape.numel(); ++i)
        r.out[0][i / run * out[axis] * inner + at + i % run] = x[i];
      at += run;
    }
  };
  op.tolerance = {0, nullptr};
  ops.push_back(std::move(op));
}
