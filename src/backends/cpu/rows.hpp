// The rows of a tensor: what is left of its dims when a kernel takes one or two of them itself.
#pragma once

#include <algorithm>
#include <cstdint>

#include "backends/cpu/convert.hpp"
#include "backends/cpu/thread_pool.hpp"
#include "lightning_core/kernel.hpp"
#include "lightning_core/tensor.hpp"

namespace lc::cpu {

/// Dims with their strides in an input and an output, in elements, outermost first; trivially
/// copyable, for Prepared.
struct RowDims {
  int rank = 0;
  int64_t extent[kMaxRank];
  int64_t in[kMaxRank];
  int64_t out[kMaxRank];

  /// Adds an inner dim, merged into the last where the strides allow.
  void add(int64_t n, int64_t in_stride, int64_t out_stride) {
    if (n == 1) return;
    if (rank > 0 && in[rank - 1] == n * in_stride && out[rank - 1] == n * out_stride) {
      extent[rank - 1] *= n;
      in[rank - 1] = in_stride;
      out[rank - 1] = out_stride;
      return;
    }
    extent[rank] = n;
    in[rank] = in_stride;
    out[rank++] = out_stride;
  }
  [[nodiscard]] int64_t count() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= extent[i];
    return n;
  }
  void offsets(int64_t row, int64_t* in_offset, int64_t* out_offset) const {
    int64_t a = 0;
    int64_t b = 0;
    for (int i = rank - 1; i > 0; --i) {
      const int64_t at = row % extent[i];
      row /= extent[i];
      a += at * in[i];
      b += at * out[i];
    }
    if (rank > 0) {
      a += row * in[0];
      b += row * out[0];
    }
    *in_offset = a;
    *out_offset = b;
  }
};

/// Rows of `n` elements a thread must get to be worth waking: `elements` in all.
[[nodiscard]] inline int64_t row_grain(int64_t n, int64_t elements) {
  return std::max<int64_t>(1, elements / std::max<int64_t>(n, 1));
}

/// How a kernel of rows takes float16 and bfloat16: each row, or tile of rows, is converted into a
/// float32 buffer of its task, computed there, and converted back.
struct HalfRows {
  CastFn widen = nullptr;  ///< null: the operands are float32 or float64
  CastFn narrow = nullptr;
  int64_t tasks = 1;
  int64_t buffer = 0;  ///< bytes of workspace a task

  /// `floats` in a task's buffer; `rows` pieces of work, at least `grain` of them a task.
  void prepare(DType dtype, int64_t floats, int64_t rows, int64_t grain, Prepared& prepared) {
    if ((kHalfTypes & dtype_bit(dtype)) == 0) return;
    widen = cast_function(dtype, DType::kFloat32);
    narrow = cast_function(DType::kFloat32, dtype);
    tasks = std::clamp<int64_t>(rows / std::max<int64_t>(grain, 1), 1, num_threads());
    buffer = (floats * static_cast<int64_t>(sizeof(float)) + 63) / 64 * 64;
    prepared.workspace_bytes = tasks * buffer;
  }
  /// f(begin, end, buffer) over the rows.
  template <typename F>
  void run(int64_t rows, void* workspace, F&& f) const {
    parallel_for(tasks, [&](int64_t t) {
      f(rows * t / tasks, rows * (t + 1) / tasks,
        reinterpret_cast<float*>(static_cast<char*>(workspace) + t * buffer));
    });
  }
};

}  // namespace lc::cpu
