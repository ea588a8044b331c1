#include <algorithm>

#include "ops/activation.hpp"
#include "ops/op_list.hpp"
#include "ops/op_util.hpp"

namespace lc {
namespace {

constexpr const char* kDoc =
    "Matrix product: activation(alpha * a @ b + bias), batched as np.matmul.\n\n"
    "a: [..., m, k], or [..., k, m] with trans_a; b: [..., k, n], or [..., n, k] with trans_b; "
    "leading\n"
    "dimensions broadcast. A 1-D operand is a vector, as in np.matmul. bias: [n]. Products are\n"
    "accumulated in the dtype of the operands, of float16 and bfloat16 in float32. Raises where "
    "the inner dimensions differ.";

/// The operand as a matrix: a vector a is one row, a vector b one column.
struct Matrices {
  Shape batch;  // broadcast leading dimensions
  Shape batch_a, batch_b;
  int64_t m, n, k;
  bool vector_a, vector_b;
};

Matrices matrices(const OpCall& call) {
  const View& a = call.in[0];
  const View& b = call.in[1];
  const bool trans_a = call.flag("trans_a");
  const bool trans_b = call.flag("trans_b");
  Matrices x{};
  for (int i = 0; i < 2; ++i)
    if (call.in[i].rank() == 0)
      throw_arg("matmul", call.op->inputs[static_cast<size_t>(i)].name, "rank 1 or more", "rank 0",
                "multiply by a number with mul()");
  x.vector_a = a.rank() == 1;
  x.vector_b = b.rank() == 1;
  if (x.vector_a && trans_a)
    throw_arg("matmul", "trans_a", "rank 2 or more to transpose", "rank 1");
  if (x.vector_b && trans_b)
    throw_arg("matmul", "trans_b", "rank 2 or more to transpose", "rank 1");
  x.m = x.vector_a ? 1 : a.shape.back(trans_a ? 0 : 1);
  x.k = x.vector_a ? a.shape[0] : a.shape.back(trans_a ? 1 : 0);
  x.n = x.vector_b ? 1 : b.shape.back(trans_b ? 1 : 0);
  const int64_t kb = x.vector_b ? b.shape[0] : b.shape.back(trans_b ? 0 : 1);
  if (x.k != kb)
    throw_arg("matmul", "b",
              cat("inner dimension ", x.k, " (that of a, shape ", a.shape.str(), ")"),
              cat(kb, " in shape ", b.shape.str()));
  for (int i = 0; i < a.rank() - 2; ++i) x.batch_a.push_back(a.shape[i]);
  for (int i = 0; i < b.rank() - 2; ++i) x.batch_b.push_back(b.shape[i]);
  x.batch = broadcast_shapes("matmul", x.batch_a, x.batch_b);
  return x;
}

void infer(OpCall& call) {
  const Matrices x = matrices(call);
  Shape out = x.batch;
  if (!x.vector_a) out.insert(out.rank(), x.m);
  if (!x.vector_b) out.insert(out.rank(), x.n);
  const View& bias = call.in[2];
  if (bias.present() && !(bias.shape == Shape{x.n}))
    throw_arg("matmul", "bias", cat("shape (", x.n, ",)"), cat("shape ", bias.shape.str()));
  set_output(call, 0, out, call.in[0].dtype);
}

void reference(RefCall& r) {
  const OpCall& call = r.call;
  const Matrices x = matrices(call);
  const bool trans_a = call.flag("trans_a");
  const bool trans_b = call.flag("trans_b");
  const double alpha = call.real("alpha");
  const auto activation = static_cast<Activation>(call.integer("activation"));
  std::vector<int64_t> base_a;
  std::vector<int64_t> base_b;
  for_each_offset(x.batch, broadcast_strides(x.batch_a, x.batch),
                  [&](int64_t o) { base_a.push_back(o * x.m * x.k); });
  for_each_offset(x.batch, broadcast_strides(x.batch_b, x.batch),
                  [&](int64_t o) { base_b.push_back(o * x.k * x.n); });
  const int64_t step_a = trans_a ? x.m : 1;  // along k
  const int64_t step_b = trans_b ? x.k : 1;  // along n
  std::vector<double> row(static_cast<size_t>(x.n));
  size_t at = 0;
  for (size_t batch = 0; batch < base_a.size(); ++batch)
    for (int64_t i = 0; i < x.m; ++i) {
      std::fill(row.begin(), row.end(), 0.0);
      const double* a = r.in[0].v.data() + base_a[batch] + i * (trans_a ? 1 : x.k);
      for (int64_t p = 0; p < x.k; ++p) {
        const double factor = a[p * step_a];
        const double* b = r.in[1].v.data() + base_b[batch] + p * (trans_b ? 1 : x.n);
        for (size_t j = 0; j < row.size(); ++j)
          row[j] += factor * b[static_cast<int64_t>(j) * step_b];
      }
      for (int64_t j = 0; j < x.n; ++j)
        r.out[0].v[at++] = activate(
            activation, alpha * row[static_cast<size_t>(j)] + (r.has(2) ? r.in[2][j] : 0.0));
    }
}

// Inputs: a, b, bias, out, gradient of out.
void vjp(Composer& c) {
  const OpCall& call = c.call();
  const Matrices x = matrices(call);
  if (call.integer("activation") != 0)
    throw_arg(ErrorCode::kNotSupported, "matmul", "gradient", "a call without activation",
              "an activation");
  if (x.vector_a || x.vector_b || !(x.batch_a == x.batch_b))
    throw_arg(ErrorCode::kNotSupported, "matmul", "gradient", "matrices of equal batch dimensions",
              cat("shapes ", call.in[0].shape.str(), " and ", call.in[1].shape.str()));
  using Attr = Composer::Attr;
  const auto on = AttrValue::integer(1);
  const auto off = AttrValue::integer(0);
  const Attr alpha{"alpha", AttrValue::real(call.real("alpha"))};
  const auto product = [&](int p, bool tp, int q, bool tq) {
    return c.op("matmul", {p, q, Composer::kAbsent},
                {{"trans_a", tp ? on : off}, {"trans_b", tq ? on : off}, alpha});
  };
  const bool ta = call.flag("trans_a");
  const bool tb = call.flag("trans_b");
  const int g = c.in(4);
  c.out(0, ta ? product(c.in(1), tb, g, true) : product(g, false, c.in(1), !tb));
  c.out(1, tb ? product(g, true, c.in(0), ta) : product(c.in(0), !ta, g, false));
  if (c.has(2)) {
    Dims axes;
    for (int i = 0; i + 1 < call.in[4].rank(); ++i) axes.push_back(i);
    const std::span<const int64_t> list(axes.begin(), static_cast<size_t>(axes.rank()));
    c.out(2, c.op("sum", {g}, {{"axes", AttrValue::list(list)}}));
  }
}

}  // namespace
}  // namespace lc

LC_OPS(matmul) {
  using namespace lc;
  OpDef op;
  op.name = "matmul";
  op.doc = kDoc;
  op.inputs = {{"a", kFloatTypes, false, "[..., m, k]"},
               {"b", kFloatTypes, false, "[..., k, n]"},
               {"bias", kFloatTypes, true, "[n]"}};
  op.outputs = {"out"};
  op.attrs = {
      {"trans_a", AttrKind::kBool, AttrValue::integer(0), {}, false, "a is given as [..., k, m]"},
      {"trans_b", AttrKind::kBool, AttrValue::integer(0), {}, false, "b is given as [..., n, k]"},
      {"alpha", AttrKind::kFloat, AttrValue::real(1), {}, false, "factor of the product"},
      {"activation", AttrKind::kEnum, AttrValue::integer(0), LC_ACTIVATION_WORDS, false,
       "applied last"}};
  op.infer = infer;
  op.cost = [](const OpCall& call) {
    const Matrices x = matrices(call);
    return streaming_cost(call, 2.0 * f64(x.batch.numel()) * f64(x.m) * f64(x.n) * f64(x.k));
  };
  op.reference = reference;
  op.vjp = vjp;
  op.tolerance = {8,
                  [](const OpCall& call) { return f64(std::max<int64_t>(matrices(call).k, 1)); }};
  ops.push_back(std::move(op));
}
