// The rows of a tensor: what is left of its dims when a kernel takes one or two of them itself.
#pragma once

#include <algorithm>
#include <cstdint>

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

}  // namespace lc::cpu
