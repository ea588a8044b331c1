#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/op_list.hpp"
#include "ops/op_util.hpp"

namespace lc {
namespace {

constexpr const char* kDoc =
    "softmax(q @ k.T * scale + mask) @ v (Vaswani et al. 2017), tiled with an online softmax\n"
    "(Milakov and Gimelshein 2018; Dao et al. 2022).\n\n"
    "q: [b, hq, sq, d], k: [b, hkv, sk, d], v: [b, hkv, sk, dv], or without b, or without b and h; "
    "all\n"
    "of one rank. hq is a multiple of hkv: each key head serves a group of query heads (Ainslie et "
    "al.\n"
    "2023). mask: bool (true: may attend) or the dtype of q (added), broadcastable to [b, hq, sq, "
    "sk].\n"
    "causal: query i attends keys 0 to i. scale 0 means 1 / sqrt(d). A query that may attend "
    "nothing\n"
    "gives zeros. Out: [b, hq, sq, dv].";

/// Extents with absent leading dimensions as 1.
struct Sizes {
  int64_t b, hq, hkv, sq, sk, d, dv;
};

Sizes sizes(const OpCall& call) {
  const auto at = [&](int i, int from_end) {
    const View& v = call.in[i];
    return from_end < v.rank() ? v.shape.back(from_end) : 1;
  };
  return {at(0, 3), at(0, 2), at(1, 2), at(0, 1), at(1, 1), at(0, 0), at(2, 0)};
}

Shape scores_shape(const Sizes& s) { return Shape{s.b, s.hq, s.sq, s.sk}; }

void infer(OpCall& call) {
  const int rank = call.in[0].rank();
  if (rank < 2 || rank > 4)
    throw_arg("attention", "q", "rank 2 (s, d), 3 (h, s, d) or 4 (b, h, s, d)", cat("rank ", rank));
  for (int i = 1; i < 3; ++i)
    if (call.in[i].rank() != rank)
      throw_arg("attention", call.op->inputs[static_cast<size_t>(i)].name,
                cat("rank ", rank, " (that of q)"), cat("rank ", call.in[i].rank()));
  const Sizes s = sizes(call);
  const View& k = call.in[1];
  const View& v = call.in[2];
  if (k.shape.back() != s.d)
    throw_arg("attention", "k", cat("last dimension ", s.d, " (that of q)"), cat(k.shape.back()));
  if (v.shape.back(1) != s.sk)
    throw_arg("attention", "v", cat("sequence length ", s.sk, " (that of k)"),
              cat(v.shape.back(1)));
  if (rank >= 3) {
    if (v.shape.back(2) != s.hkv)
      throw_arg("attention", "v", cat(s.hkv, " heads (as k)"), cat(v.shape.back(2)));
    if (s.hkv == 0 ? s.hq != 0 : s.hq % s.hkv != 0)
      throw_arg("attention", "q", cat("a number of heads that k's ", s.hkv, " divide"), cat(s.hq));
  }
  if (rank == 4)
    for (int i = 1; i < 3; ++i)
      if (call.in[i].shape[0] != s.b)
        throw_arg("attention", call.op->inputs[static_cast<size_t>(i)].name,
                  cat("batch ", s.b, " (that of q)"), cat(call.in[i].shape[0]));
  const View& mask = call.in[3];
  if (mask.present()) {
    const Shape full = scores_shape(s);
    bool fits = mask.rank() <= 4;
    for (int i = 0; fits && i < mask.rank(); ++i)
      fits = mask.shape.back(i) == 1 || mask.shape.back(i) == full.back(i);
    if (!fits)
      throw_arg("attention", "mask", cat("a shape that broadcasts to ", full.str()),
                cat("shape ", mask.shape.str()));
  }
  if (!std::isfinite(call.real("scale")))
    throw_arg("attention", "scale", "a finite number", cat(call.real("scale")));
  Shape out = call.in[0].shape;
  out[rank - 1] = s.dv;
  set_output(call, 0, out, call.in[0].dtype);
}

double scale_of(const OpCall& call, int64_t d) {
  const double scale = call.real("scale");
  return scale != 0 ? scale : 1 / std::sqrt(f64(std::max<int64_t>(d, 1)));
}

void reference(RefCall& r) {
  const OpCall& call = r.call;
  const Sizes s = sizes(call);
  const double scale = scale_of(call, s.d);
  const bool causal = call.flag("causal");
  const bool boolean = r.has(3) && call.in[3].dtype == DType::kBool;
  RefArray mask;
  if (r.has(3)) mask = broadcast(r.in[3], scores_shape(s));
  const double masked = -std::numeric_limits<double>::infinity();
  std::vector<double> p(static_cast<size_t>(s.sk));
  for (int64_t b = 0; b < s.b; ++b)
    for (int64_t h = 0; h < s.hq; ++h) {
      const int64_t kv = b * s.hkv + h * s.hkv / s.hq;
      for (int64_t i = 0; i < s.sq; ++i) {
        const int64_t row = (b * s.hq + h) * s.sq + i;
        double largest = masked;
        for (int64_t j = 0; j < s.sk; ++j) {
          double x = 0;
          for (int64_t e = 0; e < s.d; ++e)
            x += r.in[0][row * s.d + e] * r.in[1][(kv * s.sk + j) * s.d + e];
          x *= scale;
          if (r.has(3)) {
            const double m = mask[row * s.sk + j];
            x = boolean ? (m != 0 ? x : masked) : x + m;
          }
          if (causal && j > i) x = masked;
          p[static_cast<size_t>(j)] = x;
          if (x > largest || std::isnan(x)) largest = x;
        }
        if (largest == masked) continue;  // attends nothing: zeros
        double sum = 0;
        for (double& x : p) sum += x = x == masked ? 0.0 : std::exp(x - largest);
        for (int64_t e = 0; e < s.dv; ++e) {
          double y = 0;
          // A key that is not attended must not spread a NaN or infinity of its value.
          for (int64_t j = 0; j < s.sk; ++j)
            if (p[static_cast<size_t>(j)] != 0)
              y += p[static_cast<size_t>(j)] * r.in[2][(kv * s.sk + j) * s.dv + e];
          r.out[0][row * s.dv + e] = y / sum;
        }
      }
    }
}

AttrValue list(std::initializer_list<int64_t> v) { return AttrValue::list({v.begin(), v.size()}); }

/// [sq, sk] of bool, true where j <= i. Row i of a [sq, sq + sk] array of equal rows, read with a
/// pitch one shorter, starts i elements further left: the pattern moves right by one a row.
Composer::Value causal_mask(Composer& c, const Sizes& s) {
  const auto constant = [&](double value, int64_t n) {
    return c.op("broadcast_to", {c.constant(value, DType::kBool)}, {{"shape", list({n})}});
  };
  const int64_t pitch = s.sq + s.sk;
  auto x = c.op("concat", {constant(1, 1), constant(0, s.sk), constant(1, s.sq - 1)});
  x = c.op("broadcast_to", {x}, {{"shape", list({s.sq, pitch})}});
  x = c.op("reshape", {x}, {{"shape", list({-1})}});
  x = c.op("slice", {x}, {{"stop", AttrValue::integer(s.sq * (pitch - 1))}});
  x = c.op("reshape", {x}, {{"shape", list({s.sq, pitch - 1})}});
  return c.op("slice", {x}, {{"axis", AttrValue::integer(1)}, {"stop", AttrValue::integer(s.sk)}});
}

/// Through [b, hkv, group, s, d], so that a key head meets its query heads by broadcasting.
void compose(Composer& c) {
  using Value = Composer::Value;
  const OpCall& call = c.call();
  const Sizes s = sizes(call);
  const DType t = call.in[0].dtype;
  const Shape& out = call.out[0].shape;
  const AttrValue out_shape = AttrValue::list({out.begin(), static_cast<size_t>(out.rank())});
  if (s.sk == 0) {
    c.out(0, c.op("broadcast_to", {c.constant(0, t)}, {{"shape", out_shape}}));
    return;
  }
  const int64_t group = s.hq / s.hkv;
  const auto shaped = [&](Value x, int64_t h, int64_t g, int64_t rows, int64_t width) {
    return c.op("reshape", {x}, {{"shape", list({s.b, h, g, rows, width})}});
  };
  Value x =
      c.op("matmul",
           {shaped(c.in(0), s.hkv, group, s.sq, s.d), shaped(c.in(1), s.hkv, 1, s.sk, s.d),
            Composer::kAbsent},
           {{"trans_b", AttrValue::integer(1)}, {"alpha", AttrValue::real(scale_of(call, s.d))}});
  const Value never = c.constant(-std::numeric_limits<double>::infinity(), t);
  if (c.has(3)) {
    const Value wide = c.op("broadcast_to", {c.in(3)}, {{"shape", list({s.b, s.hq, s.sq, s.sk})}});
    const Value mask = shaped(wide, s.hkv, group, s.sq, s.sk);
    x = call.in[3].dtype == DType::kBool ? c.op("where", {mask, x, never}) : c.op("add", {x, mask});
  }
  if (call.flag("causal")) x = c.op("where", {causal_mask(c, s), x, never});
  const Composer::Attr last{"axes", list({-1})};
  const Composer::Attr keep{"keepdims", AttrValue::integer(1)};
  // Rows that may attend nothing: their maximum counts as 0 and their sum as 1, which gives zeros.
  const Value top = c.op("max", {x}, {last, keep});
  const Value safe = c.op("where", {c.op("equal", {top, never}), c.constant(0, t), top});
  const Value e = c.op("exp", {c.op("sub", {x, safe})});
  const Value sum = c.op("sum", {e}, {last, keep});
  const Value none = c.op("equal", {sum, c.constant(0, t)});
  const Value y = c.op("matmul", {e, shaped(c.in(2), s.hkv, 1, s.sk, s.dv), Composer::kAbsent});
  const Value scaled = c.op("div", {y, c.op("where", {none, c.constant(1, t), sum})});
  c.out(0, c.op("reshape", {scaled}, {{"shape", out_shape}}));
}

}  // namespace
}  // namespace lc

LC_OPS(attention) {
  using namespace lc;
  OpDef op;
  op.name = "attention";
  op.doc = kDoc;
  op.inputs = {
      {"q", kFloatTypes, false, "[b, hq, sq, d]"},
      {"k", kFloatTypes, false, "[b, hkv, sk, d]"},
      {"v", kFloatTypes, false, "[b, hkv, sk, dv]"},
      {"mask", kFloatTypes | dtype_bit(DType::kBool), true, "broadcastable to [b, hq, sq, sk]"}};
  op.outputs = {"out"};
  op.attrs = {
      {"causal", AttrKind::kBool, AttrValue::integer(0), {}, false, "query i attends keys 0 to i"},
      {"scale", AttrKind::kFloat, AttrValue::real(0), {}, false, "of the scores; 0: 1 / sqrt(d)"}};
  op.infer = infer;
  op.cost = [](const OpCall& call) {
    const Sizes s = sizes(call);
    return streaming_cost(call,
                          2.0 * f64(s.b) * f64(s.hq) * f64(s.sq) * f64(s.sk) * f64(s.d + s.dv));
  };
  op.reference = reference;
  op.compose = compose;
  op.tolerance = {8, [](const OpCall& call) {
                    const Sizes s = sizes(call);
                    return f64(std::max<int64_t>(s.sk + s.d, 1));
                  }};
  ops.push_back(std::move(op));
}
