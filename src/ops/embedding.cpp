#include "ops/op_list.hpp"
#include "ops/op_util.hpp"
#include "tensor/scalar.hpp"

LC_OPS(embedding) {
  using namespace lc;
  OpDef op;
  op.name = "embedding";
  op.doc =
      "Rows of a table: weight[indices].\n\n"
      "indices: int32 or int64, any shape, each in [0, rows); weight: [rows, d]. Out: "
      "indices.shape +\n"
      "[d]. Raises for an index outside of the table, before anything is written.";
  op.inputs = {{"indices", kIndexTypes, false, "any shape"},
               {"weight", kFloatTypes, false, "[rows, d]"}};
  op.outputs = {"out"};
  op.infer = [](OpCall& call) {
    const View& w = call.in[1];
    if (w.rank() != 2)
      throw_arg("embedding", "weight", "rank 2 (rows, d)", cat("shape ", w.shape.str()));
    Shape out = call.in[0].shape;
    out.insert(out.rank(), w.shape[1]);
    set_output(call, 0, out, w.dtype);
  };
  op.check_data = [](const OpCall& call) {
    const int64_t rows = call.in[1].shape[0];
    int64_t wrong = 0;
    bool bad = false;
    const auto check = [&]<typename T>(const T* p, int64_t n) {
      for (int64_t i = 0; i < n && !bad; ++i)
        if (p[i] < 0 || p[i] >= rows) {
          bad = true;
          wrong = p[i];
        }
    };
    const View& v = call.in[0];
    if (v.is_contiguous()) {
      if (v.dtype == DType::kInt64)
        check(v.ptr<int64_t>(), v.numel());
      else
        check(v.ptr<int32_t>(), v.numel());
    } else {
      for_each_element(v, [&](const char* p, int64_t) {
        if (bad) return;
        if (v.dtype == DType::kInt64)
          check(reinterpret_cast<const int64_t*>(p), 1);
        else
          check(reinterpret_cast<const int32_t*>(p), 1);
      });
    }
    if (bad) throw_arg("embedding", "indices", cat("indices in [0, ", rows, ")"), cat(wrong));
  };
  op.cost = [](const OpCall& call) {
    const double out = f64(call.out[0].nbytes());
    return Cost{0, out + f64(call.in[0].nbytes()), out};
  };
  op.reference = [](RefCall& r) {
    const int64_t d = r.in[1].shape[1];
    for (int64_t i = 0; i < r.in[0].shape.numel(); ++i)
      for (int64_t e = 0; e < d; ++e)
        r.out[0][i * d + e] = r.in[1][static_cast<int64_t>(r.in[0][i]) * d + e];
  };
  op.tolerance = {0, nullptr};
  ops.push_back(std::move(op));
}
