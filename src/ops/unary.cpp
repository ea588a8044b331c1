// Elementwise functions of one operand, from the rows of unary.inc; and their gradients.
#include <cmath>

#include "ops/activation.hpp"
#include "ops/op_list.hpp"
#include "ops/op_util.hpp"
#include "runtime/fork_mutex.hpp"

namespace lc {
namespace {

struct Row {
  const char* name;
  double (*value)(double);
  double flops;
  double coef;
  const char* doc;
};

const Row kRows[] = {
#define LC_UNARY(name, SimdName, expr, flops, coef, doc)        \
  {#name, [](double x) -> double { return expr; }, flops, coef, \
   doc ".\n\nx: any float, any shape; out has its dtype and shape and may be x itself."},
#include "ops/unary.inc"
#undef LC_UNARY
};

const Row& row_of(const OpCall& call) {
  for (const Row& row : kRows)
    if (std::string_view(row.name) == call.op->name) return row;
  throw_arg("unary", "op", "a row of unary.inc", call.op->name);
}

// Inputs of a vjp: x, y, gradient of y.
using Value = Composer::Value;

DType dtype_of(Composer& c) { return c.call().in[0].dtype; }

struct Gradient {
  const char* name;
  void (*vjp)(Composer&);
};

const Gradient kGradients[] = {
    {"neg", [](Composer& c) { c.out(0, c.op("neg", {c.in(2)})); }},
    {"abs", [](Composer& c) { c.out(0, c.op("mul", {c.in(2), c.op("sign", {c.in(0)})})); }},
    {"square",
     [](Composer& c) {
       const Value two_x = c.op("add", {c.in(0), c.in(0)});
       c.out(0, c.op("mul", {c.in(2), two_x}));
     }},
    {"sqrt",
     [](Composer& c) {
       const Value two_y = c.op("add", {c.in(1), c.in(1)});
       c.out(0, c.op("div", {c.in(2), two_y}));
     }},
    {"reciprocal",
     [](Composer& c) {
       const Value y2 = c.op("square", {c.in(1)});
       c.out(0, c.op("neg", {c.op("mul", {c.in(2), y2})}));
     }},
    {"rsqrt",
     [](Composer& c) {
       const Value y3 = c.op("mul", {c.op("square", {c.in(1)}), c.in(1)});
       const Value half = c.constant(-0.5, dtype_of(c));
       c.out(0, c.op("mul", {c.in(2), c.op("mul", {half, y3})}));
     }},
    {"exp", [](Composer& c) { c.out(0, c.op("mul", {c.in(2), c.in(1)})); }},
    {"expm1",
     [](Composer& c) {
       const Value slope = c.op("add", {c.in(1), c.constant(1, dtype_of(c))});
       c.out(0, c.op("mul", {c.in(2), slope}));
     }},
    {"log", [](Composer& c) { c.out(0, c.op("div", {c.in(2), c.in(0)})); }},
    {"log1p",
     [](Composer& c) {
       const Value below = c.op("add", {c.in(0), c.constant(1, dtype_of(c))});
       c.out(0, c.op("div", {c.in(2), below}));
     }},
    {"sin", [](Composer& c) { c.out(0, c.op("mul", {c.in(2), c.op("cos", {c.in(0)})})); }},
    {"cos",
     [](Composer& c) { c.out(0, c.op("neg", {c.op("mul", {c.in(2), c.op("sin", {c.in(0)})})})); }},
    {"tanh",
     [](Composer& c) {
       const Value slope = c.op("sub", {c.constant(1, dtype_of(c)), c.op("square", {c.in(1)})});
       c.out(0, c.op("mul", {c.in(2), slope}));
     }},
    {"sigmoid",
     [](Composer& c) {
       const Value rest = c.op("sub", {c.constant(1, dtype_of(c)), c.in(1)});
       c.out(0, c.op("mul", {c.in(2), c.op("mul", {c.in(1), rest})}));
     }},
    {"erf",
     [](Composer& c) {
       const Value bell = c.op("exp", {c.op("neg", {c.op("square", {c.in(0)})})});
       const Value scale = c.constant(2 / std::sqrt(M_PI), dtype_of(c));
       c.out(0, c.op("mul", {c.in(2), c.op("mul", {scale, bell})}));
     }},
    {"relu",
     [](Composer& c) {
       // sign(relu(x)) is 1 where x > 0, else 0.
       c.out(0, c.op("mul", {c.in(2), c.op("sign", {c.in(1)})}));
     }},
    {"silu",
     [](Composer& c) {
       // s + y * (1 - s) with s = sigmoid(x).
       const Value s = c.op("sigmoid", {c.in(0)});
       const Value rest = c.op("sub", {c.constant(1, dtype_of(c)), s});
       const Value slope = c.op("add", {s, c.op("mul", {c.in(1), rest})});
       c.out(0, c.op("mul", {c.in(2), slope}));
     }},
    {"gelu",
     [](Composer& c) {
       // Phi(x) + x * phi(x).
       const DType t = dtype_of(c);
       const Value e = c.op("erf", {c.op("mul", {c.in(0), c.constant(std::sqrt(0.5), t)})});
       const Value cdf = c.op("mul", {c.constant(0.5, t), c.op("add", {e, c.constant(1, t)})});
       const Value half_square = c.op("mul", {c.constant(-0.5, t), c.op("square", {c.in(0)})});
       const Value bell =
           c.op("mul", {c.constant(1 / std::sqrt(2 * M_PI), t), c.op("exp", {half_square})});
       const Value slope = c.op("add", {cdf, c.op("mul", {c.in(0), bell})});
       c.out(0, c.op("mul", {c.in(2), slope}));
     }},
    {"gelu_tanh",
     [](Composer& c) {
       // With s = sigmoid(u), u = 2a(x + b x^3): s + y * (1 - s) * 2a(1 + 3b x^2).
       const DType t = dtype_of(c);
       const double a = 2 * std::sqrt(2 / M_PI);
       const Value x2 = c.op("square", {c.in(0)});
       const Value inner =
           c.op("add", {c.constant(a, t), c.op("mul", {c.constant(a * 0.044715, t), x2})});
       const Value s = c.op("sigmoid", {c.op("mul", {c.in(0), inner})});
       const Value du =
           c.op("add", {c.constant(a, t), c.op("mul", {c.constant(3 * a * 0.044715, t), x2})});
       const Value rest = c.op("mul", {c.op("sub", {c.constant(1, t), s}), du});
       const Value slope = c.op("add", {s, c.op("mul", {c.in(1), rest})});
       c.out(0, c.op("mul", {c.in(2), slope}));
     }},
    {"softplus", [](Composer& c) { c.out(0, c.op("mul", {c.in(2), c.op("sigmoid", {c.in(0)})})); }},
};

void compose_sigmoid(Composer& c) {
  const Value e = c.op("exp", {c.op("neg", {c.in(0)})});
  c.out(0, c.op("reciprocal", {c.op("add", {e, c.constant(1, dtype_of(c))})}));
}

void compose_silu(Composer& c) { c.out(0, c.op("mul", {c.in(0), c.op("sigmoid", {c.in(0)})})); }

void compose_gelu(Composer& c) {
  const DType t = dtype_of(c);
  const Value e = c.op("erf", {c.op("mul", {c.in(0), c.constant(std::sqrt(0.5), t)})});
  const Value half = c.op("mul", {c.constant(0.5, t), c.in(0)});
  c.out(0, c.op("mul", {half, c.op("add", {e, c.constant(1, t)})}));
}

void compose_gelu_tanh(Composer& c) {
  const DType t = dtype_of(c);
  const Value cube = c.op("mul", {c.op("square", {c.in(0)}), c.in(0)});
  const Value inner = c.op("add", {c.in(0), c.op("mul", {c.constant(0.044715, t), cube})});
  const Value twice = c.op("mul", {c.constant(2 * std::sqrt(2 / M_PI), t), inner});
  c.out(0, c.op("mul", {c.in(0), c.op("sigmoid", {twice})}));
}

void compose_softplus(Composer& c) {
  const Value above = c.op("maximum", {c.in(0), c.constant(0, dtype_of(c))});
  const Value e = c.op("exp", {c.op("neg", {c.op("abs", {c.in(0)})})});
  c.out(0, c.op("add", {above, c.op("log1p", {e})}));
}

void compose_relu(Composer& c) { c.out(0, c.op("maximum", {c.in(0), c.constant(0, dtype_of(c))})); }

void compose_rsqrt(Composer& c) { c.out(0, c.op("reciprocal", {c.op("sqrt", {c.in(0)})})); }

}  // namespace

double activate(Activation activation, double x) {
  using Function = double (*)(double);
  static const std::vector<Function> functions = [] {
    std::vector<Function> found;
    for (const char* word : LC_ACTIVATION_WORDS) {
      found.push_back([](double v) { return v; });  // none
      for (const Row& row : kRows)
        if (std::string_view(row.name) == word) found.back() = row.value;
    }
    return found;
  }();
  return functions[static_cast<size_t>(activation)](x);
}

LC_AT_LOAD(activate(Activation::kNone, 0))

}  // namespace lc

LC_OPS(unary) {
  using namespace lc;
  for (const Row& row : kRows) {
    OpDef op;
    op.name = row.name;
    op.doc = row.doc;
    op.inputs = {{"x", kFloatTypes, false, "any shape"}};
    op.outputs = {"out"};
    op.inplace = true;
    op.infer = [](OpCall& call) { set_output(call, 0, call.in[0].shape, call.in[0].dtype); };
    op.cost = [](const OpCall& call) {
      return streaming_cost(call, row_of(call).flops * f64(call.out[0].numel()));
    };
    op.reference = [](RefCall& r) {
      const auto value = row_of(r.call).value;
      for (size_t i = 0; i < r.out[0].v.size(); ++i) r.out[0].v[i] = value(r.in[0].v[i]);
    };
    op.tolerance = {row.coef, nullptr};
    const std::string_view name = row.name;
    if (name == "sigmoid") op.compose = compose_sigmoid;
    if (name == "silu") op.compose = compose_silu;
    if (name == "gelu") op.compose = compose_gelu;
    if (name == "softplus") op.compose = compose_softplus;
    if (name == "relu") op.compose = compose_relu;
    if (name == "rsqrt") op.compose = compose_rsqrt;
    if (name == "gelu_tanh") op.compose = compose_gelu_tanh;
    for (const Gradient& g : kGradients)
      if (name == g.name) op.vjp = g.vjp;
    ops.push_back(std::move(op));
  }
}
