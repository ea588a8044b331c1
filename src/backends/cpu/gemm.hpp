// Sizes, blocks and epilogue of a matrix product; see gemm-inl.h.
#pragma once

#include <cstdint>

#include "lightning_core/device.hpp"
#include "ops/activation.hpp"

namespace lc::cpu {

struct GemmSizes {
  int64_t m, n, k;
  double alpha;
};

/// How a product is cut; decided when its plan is made.
struct GemmBlocks {
  int64_t kc;          ///< depth of a block
  int64_t mc;          ///< rows of a block
  int64_t a_elements;  ///< workspace of packed A, shared by the threads
  int64_t b_elements;  ///< workspace of one B panel, a task
};

/// Added and applied once the sum over k is complete.
template <typename T>
struct GemmEpilogue {
  const T* col_bias = nullptr;  ///< one value a column
  const T* row_bias = nullptr;  ///< one value a row
  int64_t bias_step = 1;        ///< elements from one value to the next
  Activation activation = Activation::kNone;
  [[nodiscard]] bool any() const {
    return col_bias != nullptr || row_bias != nullptr || activation != Activation::kNone;
  }
};

/// Blocks for a product on this device: a B panel of `panel_width` columns in two thirds of L1, the
/// packed rows in half of L2.
inline GemmBlocks gemm_blocks(int64_t m, int64_t k, int64_t panel_width, int64_t element,
                              const DeviceInfo& info) {
  GemmBlocks b{};
  int64_t deep = info.l1_bytes * 2 / 3 / (panel_width * element) / 8 * 8;
  if (deep < 64) deep = 64;
  const int64_t blocks = k > deep ? (k + deep - 1) / deep : 1;
  b.kc = k > 0 ? (k + blocks - 1) / blocks : 1;
  int64_t high = info.l2_bytes / 2 / (b.kc * element);
  if (high < 64) high = 64;
  const int64_t row_blocks = m > high ? (m + high - 1) / high : 1;
  b.mc = m > 0 ? (m + row_blocks - 1) / row_blocks : 1;
  b.a_elements = (b.mc * b.kc + 63) / 64 * 64;
  b.b_elements = (panel_width * b.kc + 63) / 64 * 64;
  return b;
}

}  // namespace lc::cpu
