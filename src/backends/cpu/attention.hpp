// What the attention kernels agree on.
#pragma once

#include <cstdint>

#include "lightning_core/tensor.hpp"

namespace lc::cpu {

enum class MaskKind : uint8_t { kNone, kBool, kAdd };

struct AttentionParams {
  int64_t batch, heads, group;  ///< group: query heads that share a key head
  int64_t sq, sk, d, dv;
  double scale;  ///< of the scores, in units of log2 e
  int64_t tasks;
  int64_t slice;      ///< bytes of workspace a task
  int64_t key_block;  ///< keys that a tile of queries meets at a time
  bool causal;
  bool far;  ///< operands lie past the caches
  MaskKind mask;
};

/// A tensor [b, h, s, d] of rank 2 to 4 with unit stride along d.
template <typename T>
struct Heads {
  T* data;
  int64_t b, h, s;
  explicit Heads(const View& v)
      : data(v.ptr<T>()),
        b(v.rank() == 4 ? v.strides[0] : 0),
        h(v.rank() >= 3 ? v.strides.back(2) : 0),
        s(v.strides.back(1)) {}
  [[nodiscard]] T* at(int64_t ib, int64_t ih, int64_t is) const {
    return data + ib * b + ih * h + is * s;
  }
};

/// The mask's strides over [b, h, sq, sk]; 0 where it repeats.
struct MaskView {
  const void* data = nullptr;
  int64_t stride[4] = {0, 0, 0, 0};
  explicit MaskView(const View& v) {
    if (!v.present()) return;
    data = v.data;
    for (int i = 0; i < v.rank() && i < 4; ++i)
      if (v.shape.back(i) != 1) stride[3 - i] = v.strides.back(i);
  }
};

}  // namespace lc::cpu
