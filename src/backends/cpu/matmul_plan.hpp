// What matmul and linear decide when planned: the product as matrices with strides, and how to run.
#pragma once

#include <cstdint>

#include "backends/cpu/gemm.hpp"
#include "lightning_core/kernel.hpp"

namespace lc::cpu {

/// Strides in elements. After normalisation, `swapped` says that A and B changed places, which
/// turns a column-major result into a row-major one.
struct MatmulPlan {
  GemmSizes s;
  GemmBlocks blocks;
  int64_t a_row, a_k;
  int64_t b_k, b_col;
  int64_t c_row, c_col;
  int64_t bias_step;
  int64_t panel;          ///< columns of a packed B's panels; 0: not packed
  int64_t threads;        ///< of one product
  int64_t batch_threads;  ///< products at the same time, each on one thread
  int64_t slot;           ///< workspace elements of one product
  int64_t batch;
  int batch_rank;
  int64_t batch_shape[6], batch_a[6], batch_b[6], batch_c[6];
  DType dtype;    ///< of A, C and the sums
  DType b_dtype;  ///< of B, as it lies in memory
  Activation activation;
  bool swapped;
  bool has_bias;
};
static_assert(sizeof(MatmulPlan) <= 512);

/// The product of a matmul call.
MatmulPlan matmul_plan(const OpCall& call);
/// The product of a linear call whose x and out have collapsible leading dimensions.
MatmulPlan linear_plan(const OpCall& call);

/// No for a linear call whose weight is packed or of another dtype than x: most candidates read a
/// plain one.
Support plain_weight(const OpCall& call);

/// Leading dimensions of `v` (all but the last) as one: its extent and stride. False if the strides
/// do not nest.
bool collapse_rows(const View& v, int64_t* rows, int64_t* stride);

}  // namespace lc::cpu
