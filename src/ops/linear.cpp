// linear, and pack_weight, which lays its weight out in the order in which products read it.
#include <algorithm>

#include "ops/activation.hpp"
#include "ops/op_list.hpp"
#include "ops/op_util.hpp"
#include "ops/weight_form.hpp"

namespace lc {
namespace {

constexpr const char* kLinearDoc =
    "activation(x @ weight.T + bias), as torch.nn.functional.linear.\n\n"
    "x: [..., in]; weight: [out, in], or packed by pack_weight(); bias: [out]. With an int8 "
    "weight:\n"
    "activation((x @ weight.T) * scale + bias), the sums in x's dtype. A packed weight has as many "
    "rows as\n"
    "out_features says, else bias, else scale, else all of its columns count. Raises where x's "
    "last\n"
    "dimension is not `in`.";

constexpr const char* kPackDoc =
    "A weight in the order in which linear() reads it: [panels, in, width].\n\n"
    "weight: [out, in], any strides. out[p, i, j] is weight[p * width + j, i], zero behind the "
    "last row.\n"
    "A width that is a multiple of the register tile's is read in place, as 48 is on every "
    "processor;\n"
    "another is rewritten at every call. Worth its memory for a weight that is used more than "
    "once.\n"
    "Source: Goto and van de Geijn (2008).";

int64_t panels_of(int64_t rows, int64_t width) { return rows / width + (rows % width != 0); }

void infer_linear(OpCall& call) {
  const View& x = call.in[0];
  const View& w = call.in[1];
  const WeightForm form = weight_form(call);
  if (x.rank() == 0) throw_arg("linear", "x", "rank 1 or more", "rank 0");
  if (x.shape.back() != form.in)
    throw_arg("linear", "x", cat("last dimension ", form.in, " (that of weight)"),
              cat(x.shape.back(), " in shape ", x.shape.str()));
  for (const int i : {2, 3})
    if (call.in[i].present() && !(call.in[i].shape == Shape{form.out}))
      throw_arg("linear", call.op->inputs[static_cast<size_t>(i)].name,
                cat("shape (", form.out, ",)"), cat("shape ", call.in[i].shape.str()));
  const bool narrow = w.dtype == DType::kInt8;
  if (narrow && !call.in[3].present())
    throw_arg("linear", "scale", "one factor for each row of an int8 weight", "none");
  if (!narrow && call.in[3].present())
    throw_arg("linear", "scale", "none with a weight of floats", "scale",
              "multiply the weight by it once");
  Shape out = x.shape;
  out[out.rank() - 1] = form.out;
  set_output(call, 0, out, x.dtype);
}

void compose_linear(Composer& c) {
  const OpCall& call = c.call();
  const WeightForm form = weight_form(call);
  int w = c.in(1);
  const auto list = [](std::initializer_list<int64_t> values) {
    return AttrValue::list({values.begin(), values.size()});
  };
  const bool narrow = call.in[1].dtype == DType::kInt8;
  if (narrow)
    w = c.op("cast", {w}, {{"dtype", AttrValue::integer(static_cast<int64_t>(call.in[0].dtype))}});
  if (form.packed()) {
    w = c.op("transpose", {w}, {{"axes", list({0, 2, 1})}});
    w = c.op("reshape", {w}, {{"shape", list({call.in[1].shape[0] * form.width, form.in})}});
    w = c.op("slice", {w}, {{"stop", AttrValue::integer(form.out)}});
  }
  const auto activation = call.integer("activation");
  if (!narrow) {
    c.out(0, c.op("matmul", {c.in(0), w, c.has(2) ? c.in(2) : Composer::kAbsent},
                  {{"trans_b", AttrValue::integer(1)},
                   {"activation", AttrValue::integer(activation)}}));
    return;
  }
  int y = c.op("matmul", {c.in(0), w, Composer::kAbsent}, {{"trans_b", AttrValue::integer(1)}});
  y = c.op("mul", {y, c.in(3)});
  if (c.has(2)) y = c.op("add", {y, c.in(2)});
  const auto& words = call.op->attrs[static_cast<size_t>(call.op->attr_index("activation"))].words;
  if (activation != 0) y = c.op(words[static_cast<size_t>(activation)], {y});
  c.out(0, y);
}

void reference_linear(RefCall& r) {
  const WeightForm form = weight_form(r.call);
  const int64_t rows = form.out == 0 ? 0 : r.out[0].shape.numel() / form.out;
  const auto activation = static_cast<Activation>(r.call.integer("activation"));
  const auto weight = [&](int64_t o, int64_t p) {
    const int64_t panel = form.packed() ? o / form.width : o;
    const int64_t width = form.packed() ? form.width : 1;
    return r.in[1][(panel * form.in + p) * width + (form.packed() ? o % width : 0)];
  };
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < form.out; ++j) {
      double sum = 0;
      for (int64_t p = 0; p < form.in; ++p) sum += r.in[0][i * form.in + p] * weight(j, p);
      if (r.has(3)) sum *= r.in[3][j];
      if (r.has(2)) sum += r.in[2][j];
      r.out[0][i * form.out + j] = activate(activation, sum);
    }
}

// Inputs: x, weight, bias, scale, out, gradient of out.
void vjp_linear(Composer& c) {
  const OpCall& call = c.call();
  if (call.integer("activation") != 0)
    throw_arg(ErrorCode::kNotSupported, "linear", "gradient", "a call without activation",
              "an activation");
  if (call.in[1].rank() != 2 || call.in[1].dtype == DType::kInt8)
    throw_arg(ErrorCode::kNotSupported, "linear", "gradient", "a plain weight of floats",
              "a packed or int8 one", "pack and quantise after training");
  constexpr int kNone = Composer::kAbsent;
  const auto rows = [&](int value, int64_t width) {
    const int64_t shape[] = {-1, width};
    return c.op("reshape", {value}, {{"shape", AttrValue::list(shape)}});
  };
  const auto g = rows(c.in(5), call.in[1].shape[0]);
  c.out(0, c.op("matmul", {c.in(5), c.in(1), kNone}));
  c.out(1, c.op("matmul", {g, rows(c.in(0), call.in[1].shape[1]), kNone},
                {{"trans_a", AttrValue::integer(1)}}));
  const int64_t first = 0;
  if (c.has(2)) c.out(2, c.op("sum", {g}, {{"axes", AttrValue::list({&first, 1})}}));
}

}  // namespace

WeightForm weight_form(const OpCall& call) {
  const View& w = call.in[1];
  const int64_t wanted = call.integer("out_features");
  if (w.rank() != 2 && w.rank() != 3)
    throw_arg("linear", "weight", "rank 2 (out, in), or rank 3 as of pack_weight()",
              cat("shape ", w.shape.str()));
  if (wanted < 0)
    throw_arg("linear", "out_features", "0 (as the weight says) or more", cat(wanted));
  if (w.rank() == 2) {
    if (wanted != 0 && wanted != w.shape[0])
      throw_arg("linear", "out_features", cat(w.shape[0], " (rows of weight), or none"),
                cat(wanted));
    return {w.shape[0], w.shape[1], 0};
  }
  const int64_t width = w.shape[2];
  if (width == 0)
    throw_arg("linear", "weight", "panels of 1 column or more", cat("shape ", w.shape.str()));
  WeightForm form{w.shape[0] * width, w.shape[1], width};
  if (wanted != 0)
    form.out = wanted;
  else if (call.in[2].present() && call.in[2].rank() == 1)
    form.out = call.in[2].shape[0];
  else if (call.in[3].present() && call.in[3].rank() == 1)
    form.out = call.in[3].shape[0];
  if (panels_of(form.out, width) != w.shape[0])
    throw_arg(
        "linear", "weight",
        cat(panels_of(form.out, width), " panels of ", width, " columns for ", form.out, " rows"),
        cat(w.shape[0], " in shape ", w.shape.str()));
  return form;
}

}  // namespace lc

LC_OPS(linear) {
  using namespace lc;
  OpDef op;
  op.name = "linear";
  op.doc = kLinearDoc;
  op.inputs = {
      {"x", kFloatTypes, false, "[..., in]"},
      {"weight", kFloatTypes | dtype_bit(DType::kInt8), false, "[out, in] or [panels, in, width]"},
      {"bias", kFloatTypes, true, "[out]"},
      {"scale", kFloatTypes, true, "[out], of an int8 weight"}};
  op.outputs = {"out"};
  op.attrs = {{"activation", AttrKind::kEnum, AttrValue::integer(0), LC_ACTIVATION_WORDS, false,
               "applied last"},
              {"out_features",
               AttrKind::kInt,
               AttrValue::integer(0),
               {},
               false,
               "rows of a packed weight; 0: as bias, scale or the panels say"}};
  op.infer = infer_linear;
  op.cost = [](const OpCall& call) {
    return streaming_cost(call, 2.0 * f64(call.out[0].numel()) * f64(call.in[1].shape[1]));
  };
  op.compose = compose_linear;
  op.reference = reference_linear;
  op.vjp = vjp_linear;
  op.tolerance = {
      8, [](const OpCall& call) { return f64(std::max<int64_t>(call.in[1].shape[1], 1)); }};
  ops.push_back(std::move(op));

  OpDef pack;
  pack.name = "pack_weight";
  pack.doc = kPackDoc;
  pack.inputs = {{"weight", kFloatTypes | dtype_bit(DType::kInt8), false, "[out, in]"}};
  pack.outputs = {"out"};
  pack.attrs = {{"width",
                 AttrKind::kInt,
                 AttrValue::integer(kPanelColumns),
                 {},
                 false,
                 "columns of a panel"}};
  pack.infer = [](OpCall& call) {
    const View& w = call.in[0];
    if (w.rank() != 2)
      throw_arg("pack_weight", "weight", "rank 2 (out, in)", cat("shape ", w.shape.str()));
    const int64_t width = call.integer("width");
    if (width < 1) throw_arg("pack_weight", "width", "1 column or more", cat(width));
    set_output(call, 0, Shape{panels_of(w.shape[0], width), w.shape[1], width}, w.dtype);
  };
  pack.cost = [](const OpCall& call) { return streaming_cost(call, 0); };
  pack.reference = [](RefCall& r) {
    const Shape& shape = r.out[0].shape;
    const int64_t rows = r.in[0].shape[0];
    const int64_t in = shape[1];
    const int64_t width = shape[2];
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t i = 0; i < in; ++i)
        r.out[0][(row / width * in + i) * width + row % width] = r.in[0][row * in + i];
  };
  pack.tolerance = {0, nullptr};
  ops.push_back(std::move(pack));
}
