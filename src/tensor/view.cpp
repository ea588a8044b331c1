// Metadata arithmetic on views: contiguity, broadcasting, overlap, reshape without a copy.
#include <algorithm>
#include <cstdlib>
#include <utility>

#include "lightning_core/tensor.hpp"
#include "tensor/reach.hpp"

namespace lc {
namespace {

/// First and one-past-last byte a view touches.
std::pair<const char*, const char*> byte_range(const View& v) {
  const Reach reach = reach_of(v);
  const char* base = static_cast<const char*>(v.data);
  return {base + reach.low, base + reach.high};
}

/// Both views walk rows of the same pitch and stay in disjoint columns of it.
bool disjoint_columns(const View& a, const View& b) {
  const int64_t size = dtype_size(a.dtype);
  if (dtype_size(b.dtype) != size) return false;
  int64_t pitch = 0;
  for (const View* v : {&a, &b})
    for (int i = 0; i < v->rank(); ++i)
      if (v->shape[i] > 1) pitch = std::max(pitch, std::abs(v->strides[i]));
  if (pitch == 0) return false;
  // Columns each view touches, relative to its data; every stride of at least a pitch must be a
  // multiple of it.
  int64_t low[2] = {0, 0};
  int64_t high[2] = {0, 0};
  int which = 0;
  for (const View* v : {&a, &b}) {
    for (int i = 0; i < v->rank(); ++i) {
      if (v->shape[i] <= 1 || v->strides[i] % pitch == 0) continue;
      const int64_t span = (v->shape[i] - 1) * v->strides[i];
      (span < 0 ? low[which] : high[which]) += span;
    }
    ++which;
  }
  const auto delta_bytes = static_cast<const char*>(b.data) - static_cast<const char*>(a.data);
  if (delta_bytes % size != 0) return false;
  // b's columns shifted into [a0, a0 + pitch) must fit beside a's without wrapping around.
  const int64_t a0 = low[0];
  const int64_t a1 = high[0] + 1;
  int64_t b0 = (delta_bytes / size + low[1] - a0) % pitch;
  if (b0 < 0) b0 += pitch;
  const int64_t b1 = b0 + (high[1] - low[1] + 1);
  return b0 >= a1 - a0 && b1 <= pitch;
}

}  // namespace

Reach reach_of(const View& v) {
  uint64_t low = 0;  // unsigned: absurd shapes come here before they are refused
  uint64_t high = 1;
  for (int i = 0; i < v.rank(); ++i) {
    const uint64_t span =
        (static_cast<uint64_t>(v.shape[i]) - 1) * static_cast<uint64_t>(v.strides[i]);
    (static_cast<int64_t>(span) < 0 ? low : high) += span;
  }
  const auto size = static_cast<uint64_t>(dtype_size(v.dtype));
  return {static_cast<int64_t>(low * size), static_cast<int64_t>(high * size)};
}

bool View::is_contiguous() const {
  uint64_t expected = 1;  // unsigned, as in contiguous_strides()
  for (int i = shape.rank() - 1; i >= 0; --i) {
    if (shape[i] == 0) return true;
    if (shape[i] == 1) continue;
    if (static_cast<uint64_t>(strides[i]) != expected) {
      for (int j = i - 1; j >= 0; --j)
        if (shape[j] == 0) return true;
      return false;
    }
    expected *= static_cast<uint64_t>(shape[i]);
  }
  return true;
}

View View::broadcast_to(const Shape& target) const {
  View out = *this;
  out.shape = target;
  out.strides.resize(target.rank());
  const int lead = target.rank() - shape.rank();
  for (int i = 0; i < target.rank(); ++i)
    out.strides[i] = i < lead || (shape[i - lead] == 1 && target[i] != 1) ? 0 : strides[i - lead];
  return out;
}

bool may_overlap(const View& a, const View& b) {
  if (a.device != b.device || a.numel() == 0 || b.numel() == 0) return false;
  const auto [a_low, a_high] = byte_range(a);
  const auto [b_low, b_high] = byte_range(b);
  if (a_high <= b_low || b_high <= a_low) return false;
  return !disjoint_columns(a, b);
}

bool self_overlaps(const View& v) {
  if (v.numel() == 0) return false;
  // Sorted by stride, each axis must step over everything the finer axes span.
  int64_t stride[kMaxRank];
  int64_t extent[kMaxRank];
  int n = 0;
  for (int i = 0; i < v.rank(); ++i) {
    if (v.shape[i] <= 1) continue;
    const int64_t s = std::abs(v.strides[i]);
    int at = n++;
    for (; at > 0 && stride[at - 1] > s; --at) {
      stride[at] = stride[at - 1];
      extent[at] = extent[at - 1];
    }
    stride[at] = s;
    extent[at] = v.shape[i];
  }
  int64_t reach = 0;
  for (int i = 0; i < n; ++i) {
    if (stride[i] <= reach) return true;
    reach += stride[i] * (extent[i] - 1);
  }
  return false;
}

bool reshape_view(const View& in, const Shape& shape, View* out) {
  View result = in;
  result.shape = shape;
  result.strides = contiguous_strides(shape);
  if (in.is_contiguous()) {
    *out = result;
    return true;
  }
  // Groups of old axes that step evenly must each be covered by a group of new axes.
  Shape old_shape;
  Strides old_strides;
  for (int i = 0; i < in.rank(); ++i) {
    if (in.shape[i] == 1) continue;
    old_shape.push_back(in.shape[i]);
    old_strides.push_back(in.strides[i]);
  }
  int o = 0;
  int n = 0;
  while (o < old_shape.rank()) {
    int64_t have = old_shape[o];
    int o_end = o + 1;
    int n_end = n;
    int64_t want = 1;
    while (n_end < shape.rank() && (want < have || n_end == n)) {
      want *= shape[n_end++];
      while (have < want && o_end < old_shape.rank()) have *= old_shape[o_end++];
    }
    if (want != have) return false;
    for (int i = o; i + 1 < o_end; ++i)
      if (old_strides[i] != old_strides[i + 1] * old_shape[i + 1]) return false;
    int64_t step = old_strides[o_end - 1];
    for (int i = n_end - 1; i >= n; --i) {
      result.strides[i] = step;
      step *= shape[i];
    }
    o = o_end;
    n = n_end;
  }
  for (; n < shape.rank(); ++n) result.strides[n] = 1;  // only extents of 1 are left
  *out = result;
  return true;
}

}  // namespace lc
