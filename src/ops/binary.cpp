// Elementwise functions of two operands with NumPy broadcasting, from the rows of binary.inc.
#include <cmath>

#include "ops/op_list.hpp"
#include "ops/op_util.hpp"

namespace lc {
namespace {

struct Row {
  const char* name;
  double (*value)(double, double);
  double flops;
  double coef;
  bool compare;
  const char* doc;
};

const Row kRows[] = {
#define LC_SHAPES_DOC                                                                            \
  ".\n\na, b: any floats (promoted as NumPy does; float16 with bfloat16 gives float32), shapes " \
  "that broadcast as NumPy's. "                                                                  \
  "Raises where they do not."
#define LC_BINARY(name, SimdName, expr, flops, coef, doc) \
  {#name, [](double a, double b) -> double { return expr; },           \
   flops, coef,                                           \
   false, doc LC_SHAPES_DOC " out may be a or b itself where it has their shape."},
#define LC_COMPARE(name, SimdName, expr, doc)   \
  {#name, [](double a, double b) -> double { return (expr) ? 1.0 : 0.0; }, \
   1,     0,                                    \
   true,  doc LC_SHAPES_DOC " out is bool; a comparison with NaN is false, but for not_equal."},
#include "ops/binary.inc"
#undef LC_BINARY
#undef LC_COMPARE
#undef LC_SHAPES_DOC
};

const Row& row_of(const OpCall& call) {
  for (const Row& row : kRows)
    if (std::string_view(row.name) == call.op->name) return row;
  throw_arg("binary", "op", "a row of binary.inc", call.op->name);
}

using Value = Composer::Value;

/// Sums a gradient over the axes along which the operand was broadcast, back to its shape.
Value unbroadcast(Composer& c, Value grad, const View& operand, const View& out) {
  if (operand.shape == out.shape) return grad;
  Dims axes;
  const int lead = out.rank() - operand.rank();
  for (int i = 0; i < out.rank(); ++i)
    if (i < lead || (operand.shape[i - lead] == 1 && out.shape[i] != 1)) axes.push_back(i);
  const std::span<const int64_t> list(axes.begin(), static_cast<size_t>(axes.rank()));
  const std::span<const int64_t> shape(operand.shape.begin(), static_cast<size_t>(operand.rank()));
  const Value sum =
      axes.rank() == 0 ? grad : c.op("sum", {grad}, {{"axes", AttrValue::list(list)}});
  return c.op("reshape", {sum}, {{"shape", AttrValue::list(shape)}});
}

// Inputs of a vjp: a, b, out, gradient of out.
void gradients(Composer& c, Value grad_a, Value grad_b) {
  const OpCall& call = c.call();
  c.out(0, unbroadcast(c, grad_a, call.in[0], call.in[3]));
  c.out(1, unbroadcast(c, grad_b, call.in[1], call.in[3]));
}
void vjp_add(Composer& c) { gradients(c, c.in(3), c.in(3)); }
void vjp_sub(Composer& c) { gradients(c, c.in(3), c.op("neg", {c.in(3)})); }
void vjp_mul(Composer& c) {
  const Value a = c.op("mul", {c.in(3), c.in(1)});
  gradients(c, a, c.op("mul", {c.in(3), c.in(0)}));
}
void vjp_div(Composer& c) {
  const Value a = c.op("div", {c.in(3), c.in(1)});
  gradients(c, a, c.op("neg", {c.op("mul", {a, c.in(2)})}));
}

}  // namespace
}  // namespace lc

LC_OPS(binary) {
  using namespace lc;
  for (const Row& row : kRows) {
    OpDef op;
    op.name = row.name;
    op.doc = row.doc;
    op.inputs = {{"a", kFloatTypes, false, "any shape"},
                 {"b", kFloatTypes, false, "a shape that broadcasts with a's"}};
    op.outputs = {"out"};
    op.inplace = !row.compare;
    op.infer = [](OpCall& call) {
      const Shape shape = broadcast_shapes(call.op->name, call.in[0].shape, call.in[1].shape);
      set_output(call, 0, shape, row_of(call).compare ? DType::kBool : call.in[0].dtype);
    };
    op.cost = [](const OpCall& call) {
      return streaming_cost(call, row_of(call).flops * f64(call.out[0].numel()));
    };
    op.reference = [](RefCall& r) {
      const auto value = row_of(r.call).value;
      const RefArray a = broadcast(r.in[0], r.out[0].shape);
      const RefArray b = broadcast(r.in[1], r.out[0].shape);
      for (size_t i = 0; i < a.v.size(); ++i) r.out[0].v[i] = value(a.v[i], b.v[i]);
    };
    op.tolerance = {row.coef, nullptr};
    const std::string_view name = row.name;
    if (name == "add") op.vjp = vjp_add;
    if (name == "sub") op.vjp = vjp_sub;
    if (name == "mul") op.vjp = vjp_mul;
    if (name == "div") op.vjp = vjp_div;
    ops.push_back(std::move(op));
  }
}
