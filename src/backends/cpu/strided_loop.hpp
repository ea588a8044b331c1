// Iteration over strided operands: dims of extent 1 dropped, dims ordered by the first operand's
// strides, mergeable dims merged. Kernels take the innermost one or two dims, this walks the rest.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "lightning_core/tensor.hpp"

namespace lc::cpu {

inline constexpr int kMaxLoopOperands = 4;

/// Operand 0 is the one written; strides are in bytes, dims outermost first, rank >= 1.
struct StridedLoop {
  int rank = 0;
  int operands = 0;
  int64_t extent[kMaxRank];
  int64_t stride[kMaxLoopOperands][kMaxRank];
  char* base[kMaxLoopOperands];

  [[nodiscard]] int64_t inner() const { return extent[rank - 1]; }
  [[nodiscard]] int64_t inner_stride(int k) const { return stride[k][rank - 1]; }
  /// Product of the extents of the `dims` outermost dims.
  [[nodiscard]] int64_t outer(int dims) const {
    int64_t n = 1;
    for (int i = 0; i < dims; ++i) n *= extent[i];
    return n;
  }
  void move_dim(int from, int to) {
    move_entry(extent, from, to);
    for (int k = 0; k < operands; ++k) move_entry(stride[k], from, to);
  }
  /// Operand k is row-major without gaps in this order of dims.
  [[nodiscard]] bool dense(int k, int64_t element) const {
    int64_t expected = element;
    for (int i = rank - 1; i >= 0; --i) {
      if (stride[k][i] != expected) return false;
      expected *= extent[i];
    }
    return true;
  }

 private:
  static void move_entry(int64_t* v, int from, int to) {
    if (from < to) {
      std::rotate(v + from, v + from + 1, v + to + 1);
    } else {
      std::rotate(v + to, v + from, v + from + 1);
    }
  }
};

namespace detail {

inline void add_dim(StridedLoop& l, int64_t extent, const int64_t* strides) {
  l.extent[l.rank] = extent;
  for (int k = 0; k < l.operands; ++k) l.stride[k][l.rank] = strides[k];
  ++l.rank;
}

}  // namespace detail

/// Loop over `shape` (no extent 0) of views that broadcast to it: missing leading dims and extents
/// of 1 get stride 0. Operand 0's strides come out non-negative where it has none of 0.
inline StridedLoop make_loop(const Shape& shape, const View* const* views, int operands) {
  StridedLoop l;
  l.operands = operands;
  int64_t size[kMaxLoopOperands] = {};
  for (int k = 0; k < operands; ++k) {
    size[k] = dtype_size(views[k]->dtype);
    l.base[k] = static_cast<char*>(views[k]->data);
  }
  for (int i = 0; i < shape.rank(); ++i) {
    const int64_t extent = shape[i];
    if (extent == 1) continue;
    int64_t s[kMaxLoopOperands] = {};
    for (int k = 0; k < operands; ++k) {
      const View& v = *views[k];
      const int j = i - (shape.rank() - v.shape.rank());
      s[k] = j < 0 || v.shape[j] == 1 ? 0 : v.strides[j] * size[k];
    }
    if (s[0] < 0) {  // walk it the other way
      for (int k = 0; k < operands; ++k) {
        l.base[k] += (extent - 1) * s[k];
        s[k] = -s[k];
      }
    }
    detail::add_dim(l, extent, s);
  }
  // Insertion sort, outermost the largest stride of operand 0; stable, so row-major stays as is.
  for (int i = 1; i < l.rank; ++i) {
    int j = i;
    while (j > 0 && l.stride[0][j - 1] < l.stride[0][i]) --j;
    if (j != i) l.move_dim(i, j);
  }
  // Merge dim i + 1 into i where every operand steps through both evenly.
  int kept = 0;
  for (int i = 1; i < l.rank; ++i) {
    bool even = true;
    for (int k = 0; k < operands; ++k)
      even = even && l.stride[k][kept] == l.stride[k][i] * l.extent[i];
    if (even) {
      l.extent[kept] *= l.extent[i];
    } else {
      ++kept;
      l.extent[kept] = l.extent[i];
    }
    for (int k = 0; k < operands; ++k) l.stride[k][kept] = l.stride[k][i];
  }
  if (l.rank == 0) {
    detail::add_dim(l, 1, size);
  } else {
    l.rank = kept + 1;
  }
  return l;
}

/// f(pointers) for the flat indices [begin, end) of the `dims` outermost dims; pointers[k] is
/// operand k's element there with the remaining indices 0.
template <typename F>
void for_outer(const StridedLoop& l, int dims, int64_t begin, int64_t end, F&& f) {
  char* p[kMaxLoopOperands];
  int64_t index[kMaxRank];
  for (int k = 0; k < l.operands; ++k) p[k] = l.base[k];
  int64_t rest = begin;
  for (int i = dims - 1; i >= 0; --i) {
    index[i] = rest % l.extent[i];
    rest /= l.extent[i];
    for (int k = 0; k < l.operands; ++k) p[k] += index[i] * l.stride[k][i];
  }
  for (int64_t flat = begin; flat < end; ++flat) {
    f(static_cast<char* const*>(p));
    for (int i = dims - 1; i >= 0; --i) {
      for (int k = 0; k < l.operands; ++k) p[k] += l.stride[k][i];
      if (++index[i] < l.extent[i]) break;
      for (int k = 0; k < l.operands; ++k) p[k] -= l.stride[k][i] * l.extent[i];
      index[i] = 0;
    }
  }
}

/// n elements of `size` bytes from stride `ss` to stride `ds` (bytes, any sign).
template <typename T>
void copy_elements(const char* src, int64_t ss, char* dst, int64_t ds, int64_t n) {
  for (int64_t i = 0; i < n; ++i) std::memcpy(dst + i * ds, src + i * ss, sizeof(T));
}
inline void copy_row(const char* src, int64_t ss, char* dst, int64_t ds, int64_t n, int64_t size) {
  if (ss == size && ds == size) {
    std::memcpy(dst, src, static_cast<size_t>(n * size));
    return;
  }
  switch (size) {
    case 1:
      copy_elements<uint8_t>(src, ss, dst, ds, n);
      break;
    case 2:
      copy_elements<uint16_t>(src, ss, dst, ds, n);
      break;
    case 4:
      copy_elements<uint32_t>(src, ss, dst, ds, n);
      break;
    default:
      copy_elements<uint64_t>(src, ss, dst, ds, n);
      break;
  }
}

}  // namespace lc::cpu
