#include "backends/cpu/matmul_plan.hpp"

#include <algorithm>
#include <utility>

#include "ops/weight_form.hpp"

namespace lc::cpu {
namespace {

/// Puts a result whose rows are contiguous on its columns instead, and a single column on its side:
/// the transposed product does the same sums.
void normalise(MatmulPlan& p) {
  // A packed or int8 B has to stay where it is.
  const bool plain = p.panel == 0 && p.b_dtype != DType::kInt8;
  const bool column = plain && p.s.n == 1 && p.s.m > 1;
  const bool column_major = plain && p.c_col != 1 && p.c_row == 1 && p.s.m > 1 && p.s.n > 1;
  p.swapped = column || column_major;
  if (p.swapped) {
    std::swap(p.s.m, p.s.n);
    std::swap(p.a_row, p.b_col);
    std::swap(p.a_k, p.b_k);
    std::swap(p.c_row, p.c_col);
    for (int i = 0; i < p.batch_rank; ++i) std::swap(p.batch_a[i], p.batch_b[i]);
  }
  // Strides along extents of 1 mean nothing; give them the values the kernels like.
  if (p.s.m == 1) p.a_row = p.c_row = 1;
  if (p.s.n == 1) p.b_col = p.c_col = 1;
}

}  // namespace

bool collapse_rows(const View& v, int64_t* rows, int64_t* stride) {
  *rows = 1;
  *stride = v.rank() > 0 ? v.shape.back() : 1;
  for (int i = v.rank() - 2; i >= 0; --i) {
    if (v.shape[i] == 1) continue;
    if (*rows == 1)
      *stride = v.strides[i];
    else if (v.strides[i] != *stride * *rows)
      return false;
    *rows *= v.shape[i];
  }
  return true;
}

MatmulPlan matmul_plan(const OpCall& call) {
  const View& a = call.in[0];
  const View& b = call.in[1];
  const View& out = call.out[0];
  MatmulPlan p{};
  p.dtype = a.dtype;
  p.b_dtype = b.dtype;
  p.s.alpha = call.real("alpha");
  p.activation = static_cast<Activation>(call.integer("activation"));
  p.has_bias = call.in[2].present();
  p.bias_step = p.has_bias ? call.in[2].strides[0] : 0;
  const bool vector_a = a.rank() == 1;
  const bool vector_b = b.rank() == 1;
  const bool trans_a = call.flag("trans_a");
  const bool trans_b = call.flag("trans_b");
  const auto from_end = [](const Dims& d, int i) { return d.back(i); };
  p.s.m = vector_a ? 1 : from_end(a.shape, trans_a ? 0 : 1);
  p.s.k = vector_a ? a.shape[0] : from_end(a.shape, trans_a ? 1 : 0);
  p.s.n = vector_b ? 1 : from_end(b.shape, trans_b ? 1 : 0);
  p.a_row = vector_a ? 1 : from_end(a.strides, trans_a ? 0 : 1);
  p.a_k = vector_a ? a.strides[0] : from_end(a.strides, trans_a ? 1 : 0);
  p.b_k = vector_b ? b.strides[0] : from_end(b.strides, trans_b ? 0 : 1);
  p.b_col = vector_b ? 1 : from_end(b.strides, trans_b ? 1 : 0);
  int at = out.rank();
  p.c_col = vector_b ? 1 : out.strides[--at];
  p.c_row = vector_a ? 1 : out.strides[--at];
  // Batch dimensions are the first `at` of out, aligned at their ends.
  p.batch = 1;
  for (int i = 0; i < at; ++i) {
    if (out.shape[i] == 1) continue;
    const auto stride_of = [&](const View& v, bool vector) {
      const int rank = vector ? 0 : v.rank() - 2;
      const int j = i - (at - rank);
      return j < 0 || v.shape[j] == 1 ? int64_t{0} : v.strides[j];
    };
    p.batch_shape[p.batch_rank] = out.shape[i];
    p.batch_a[p.batch_rank] = stride_of(a, vector_a);
    p.batch_b[p.batch_rank] = stride_of(b, vector_b);
    p.batch_c[p.batch_rank] = out.strides[i];
    ++p.batch_rank;
    p.batch *= out.shape[i];
  }
  // One B for all, and A's batches follow one another: they are more rows of one product.
  while (p.batch_rank > 0) {
    const int last = p.batch_rank - 1;
    if (p.batch_b[last] != 0 || p.batch_a[last] != p.a_row * p.s.m ||
        p.batch_c[last] != p.c_row * p.s.m)
      break;
    p.s.m *= p.batch_shape[last];
    p.batch /= p.batch_shape[last];
    --p.batch_rank;
  }
  normalise(p);
  return p;
}

MatmulPlan linear_plan(const OpCall& call) {
  const View& x = call.in[0];
  const View& w = call.in[1];
  MatmulPlan p{};
  const WeightForm form = weight_form(call);
  p.dtype = x.dtype;
  p.b_dtype = w.dtype;
  p.s.alpha = 1;
  p.activation = static_cast<Activation>(call.integer("activation"));
  p.has_bias = call.in[2].present();
  p.bias_step = p.has_bias ? call.in[2].strides[0] : 0;
  p.batch = 1;
  p.s.n = form.out;
  p.s.k = form.in;
  p.panel = form.width;
  // Where the rows do not collapse the kernel asks for a row-major copy; their number stands.
  if (!collapse_rows(x, &p.s.m, &p.a_row)) {
    p.s.m = 1;
    for (int i = 0; i + 1 < x.rank(); ++i) p.s.m *= x.shape[i];
  }
  int64_t rows = 0;
  collapse_rows(call.out[0], &rows, &p.c_row);
  p.a_k = x.strides.back();
  p.b_k = w.strides[1];
  p.b_col = w.strides[form.packed() ? 2 : 0];
  p.c_col = call.out[0].strides.back();
  normalise(p);
  return p;
}

Support plain_weight(const OpCall& call) {
  const View& w = call.in[1];
  if (w.rank() == 3) return Support::no("the weight is packed");
  if (w.dtype != call.in[0].dtype) return Support::no(cat("the weight is ", dtype_name(w.dtype)));
  return Support::yes();
}

}  // namespace lc::cpu
