// Sizes, blocks and epilogue of a matrix product; see gemm-inl.h.
#pragma once

#include <algorithm>
#include <cstdint>

#include "lightning_core/device.hpp"
#include "ops/activation.hpp"

namespace lc::cpu {

struct GemmSizes {
  int64_t m, n, k;
  double alpha;
};

/// Panels of B that are packed at a time: enough that a row of them is a stream to the hardware.
inline constexpr int64_t kPanelGroup = 4;

/// How a product is cut and where its packed operands lie; decided when its plan is made.
struct GemmBlocks {
  bool shared_columns;  ///< B is packed by all threads, else A; see gemm-inl.h
  int64_t kc, mc, nc;   ///< depth, rows and columns of a block; nc where columns are shared
  int64_t a_elements;   ///< of packed A: shared, or a thread's
  int64_t b_elements;   ///< of packed B: shared (one of two buffers), or a thread's
  int64_t counters;     ///< elements behind both, for gemm-inl.h's progress
  [[nodiscard]] int64_t elements(int64_t threads) const {
    return shared_columns ? 2 * b_elements + threads * a_elements + counters
                          : a_elements + threads * b_elements;
  }
};

/// Added and applied once the sum over k is complete.
template <typename T>
struct GemmEpilogue {
  const T* col_scale = nullptr;  ///< one factor a column, before the bias
  const T* col_bias = nullptr;   ///< one value a column
  const T* row_bias = nullptr;   ///< one value a row
  int64_t bias_step = 1;         ///< elements from one value to the next
  Activation activation = Activation::kNone;
  [[nodiscard]] bool any() const {
    return col_scale != nullptr || col_bias != nullptr || row_bias != nullptr ||
           activation != Activation::kNone;
  }
};

/// Blocks for a product on this device. Deep ones: every block of k reads and writes all of C,
/// which is in no near cache, and that costs more than a panel of B that comes from L2 instead of
/// L1. Packed rows take a quarter of L2, half of it where they are deep.
inline GemmBlocks gemm_blocks(const GemmSizes& s, int64_t panel_width, int64_t element,
                              int64_t threads, const DeviceInfo& info) {
  constexpr int64_t kFewRows = 128;  // of a piece; fewer, and B streams past too often
  const auto parts = [](int64_t n, int64_t most) {
    return std::max<int64_t>((n + most - 1) / most, 1);
  };
  const auto share = [](int64_t n, int64_t count) {
    return std::max<int64_t>((n + count - 1) / count, 1);
  };
  const auto line = [](int64_t n) { return (n + 63) / 64 * 64; };
  GemmBlocks b{};
  // A sum that fits one block is not cut: then C is only written. Past that, depth pays less than
  // room for rows.
  const int64_t step = panel_width * element;
  const int64_t whole =
      std::min(info.l2_bytes * 3 / 16 / step, info.l2_bytes / 2 / (kFewRows * element));
  const int64_t panel = std::max(info.l1_bytes, std::min(info.l1_bytes * 8 / 3, info.l2_bytes / 8));
  const int64_t deep = std::max<int64_t>(panel / step / 8 * 8, 64);
  b.kc = s.k <= whole ? std::max<int64_t>(s.k, 1) : share(s.k, parts(s.k, deep));
  const int64_t room = b.kc > deep ? info.l2_bytes / 2 : info.l2_bytes / 4;
  const int64_t high = std::max<int64_t>(room / (b.kc * element), 64);
  int64_t row_blocks = parts(s.m, high);
  b.shared_columns = s.m >= std::max<int64_t>(threads, 2) * kFewRows;
  if (!b.shared_columns) {
    b.mc = share(s.m, row_blocks);
    b.a_elements = line(b.mc * b.kc);
    b.b_elements = line(kPanelGroup * panel_width * b.kc);
    return b;
  }
  row_blocks = (std::max(row_blocks, std::min(2 * threads, s.m / kFewRows)) + threads - 1) /
               threads * threads;
  b.mc = share(s.m, row_blocks);
  // Both buffers of packed B in half of L3, at most 4096 columns.
  const int64_t group = kPanelGroup * panel_width;
  const int64_t columns = std::clamp<int64_t>(info.l3_bytes / 4 / (b.kc * element), 512, 4096);
  b.nc = std::max<int64_t>(columns / group, 1) * group;
  b.a_elements = line(b.mc * b.kc);
  b.b_elements = line(std::min(b.nc, (s.n + panel_width - 1) / panel_width * panel_width) * b.kc);
  b.counters = line((s.m + b.mc - 1) / b.mc * 4 / element + 1);
  return b;
}

}  // namespace lc::cpu
