#include <algorithm>

#include "ops/activation.hpp"
#include "ops/op_list.hpp"
#include "ops/op_util.hpp"

LC_OPS(linear) {
  using namespace lc;
  OpDef op;
  op.name = "linear";
  op.doc =
      "activation(x @ weight.T + bias), as torch.nn.functional.linear.\n\n"
      "x: [..., in]; weight: [out, in]; bias: [out]. Raises where x's last dimension is not `in`.";
  op.inputs = {{"x", kFloatTypes, false, "[..., in]"},
               {"weight", kFloatTypes, false, "[out, in]"},
               {"bias", kFloatTypes, true, "[out]"}};
  op.outputs = {"out"};
  op.attrs = {{"activation", AttrKind::kEnum, AttrValue::integer(0), LC_ACTIVATION_WORDS, false,
               "applied last"}};
  op.infer = [](OpCall& call) {
    const View& x = call.in[0];
    const View& w = call.in[1];
    if (w.rank() != 2)
      throw_arg("linear", "weight", "rank 2 (out, in)", cat("shape ", w.shape.str()));
    if (x.rank() == 0) throw_arg("linear", "x", "rank 1 or more", "rank 0");
    if (x.shape.back() != w.shape[1])
      throw_arg("linear", "x", cat("last dimension ", w.shape[1], " (that of weight)"),
                cat(x.shape.back(), " in shape ", x.shape.str()));
    if (call.in[2].present() && !(call.in[2].shape == Shape{w.shape[0]}))
      throw_arg("linear", "bias", cat("shape (", w.shape[0], ",)"),
                cat("shape ", call.in[2].shape.str()));
    Shape out = x.shape;
    out[out.rank() - 1] = w.shape[0];
    set_output(call, 0, out, x.dtype);
  };
  op.cost = [](const OpCall& call) {
    return streaming_cost(call, 2.0 * f64(call.out[0].numel()) * f64(call.in[1].shape[1]));
  };
  op.compose = [](Composer& c) {
    c.out(0, c.op("matmul", {c.in(0), c.in(1), c.has(2) ? c.in(2) : Composer::kAbsent},
                  {{"trans_b", AttrValue::integer(1)},
                   {"activation", AttrValue::integer(c.call().integer("activation"))}}));
  };
  op.reference = [](RefCall& r) {
    const int64_t in = r.call.in[1].shape[1];
    const int64_t out = r.call.in[1].shape[0];
    const int64_t rows = in == 0 || out == 0 ? (out == 0 ? 0 : r.out[0].shape.numel() / out)
                                             : r.in[0].shape.numel() / in;
    const auto activation = static_cast<Activation>(r.call.integer("activation"));
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < out; ++j) {
        double sum = r.has(2) ? r.in[2][j] : 0.0;
        for (int64_t p = 0; p < in; ++p) sum += r.in[0][i * in + p] * r.in[1][j * in + p];
        r.out[0][i * out + j] = activate(activation, sum);
      }
  };
  // Inputs: x, weight, bias, out, gradient of out.
  op.vjp = [](Composer& c) {
    const OpCall& call = c.call();
    if (call.integer("activation") != 0)
      throw_arg(ErrorCode::kNotSupported, "linear", "gradient", "a call without activation",
                "an activation");
    constexpr int kNone = Composer::kAbsent;
    const auto rows = [&](int value, int64_t width) {
      const int64_t shape[] = {-1, width};
      return c.op("reshape", {value}, {{"shape", AttrValue::list(shape)}});
    };
    const auto g = rows(c.in(4), call.in[1].shape[0]);
    c.out(0, c.op("matmul", {c.in(4), c.in(1), kNone}));
    c.out(1, c.op("matmul", {g, rows(c.in(0), call.in[1].shape[1]), kNone},
                  {{"trans_a", AttrValue::integer(1)}}));
    const int64_t first = 0;
    if (c.has(2)) c.out(2, c.op("sum", {g}, {{"axes", AttrValue::list({&first, 1})}}));
  };
  op.tolerance = {
      8, [](const OpCall& call) { return f64(std::max<int64_t>(call.in[1].shape[1], 1)); }};
  ops.push_back(std::move(op));
}
