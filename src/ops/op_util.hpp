// Small helpers that op files share: index walks, axes, shapes of windows.
#pragma once

#include <cmath>
#include <cstdint>

#include "lightning_core/op_def.hpp"

namespace lc {

/// Sets output i, refusing shapes whose bytes or strides would overflow.
inline void set_output(OpCall& call, int i, const Shape& shape, DType dtype) {
  (void)checked_numel(call.op->name, call.op->outputs[static_cast<size_t>(i)], shape, dtype);
  call.out[i] = View(nullptr, dtype, shape);
}

/// Bytes of all present inputs and of the outputs, with the given flops.
inline Cost streaming_cost(const OpCall& call, double flops) {
  Cost cost{flops, 0, 0};
  for (int i = 0; i < call.n_in; ++i)
    if (call.in[i].present()) cost.bytes_read += static_cast<double>(call.in[i].nbytes());
  for (int i = 0; i < call.n_out; ++i)
    cost.bytes_written += static_cast<double>(call.out[i].nbytes());
  return cost;
}

/// Calls f(flat offset) for every index of `shape` in row-major order, the offset taken by
/// `strides`.
template <typename F>
void for_each_offset(const Shape& shape, const Strides& strides, F&& f) {
  const int64_t n = shape.numel();
  int64_t index[kMaxRank] = {};
  int64_t offset = 0;
  for (int64_t i = 0; i < n; ++i) {
    f(offset);
    for (int d = shape.rank() - 1; d >= 0; --d) {
      offset += strides[d];
      if (++index[d] < shape[d]) break;
      offset -= strides[d] * shape[d];
      index[d] = 0;
    }
  }
}

/// Row-major strides of `from` seen through broadcasting to `to` (0 where it repeats).
inline Strides broadcast_strides(const Shape& from, const Shape& to) {
  return View(nullptr, DType::kFloat32, from).broadcast_to(to).strides;
}

/// Values of `from` broadcast to `to`, row-major.
inline RefArray broadcast(const RefArray& from, const Shape& to) {
  RefArray out{to, {}};
  out.v.reserve(static_cast<size_t>(to.numel()));
  for_each_offset(to, broadcast_strides(from.shape, to),
                  [&](int64_t o) { out.v.push_back(from[o]); });
  return out;
}

inline double f64(int64_t v) { return static_cast<double>(v); }

}  // namespace lc
