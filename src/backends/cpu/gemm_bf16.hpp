// How a bfloat16 product is cut and where its packed operands lie; see gemm_bf16-inl.h.
#pragma once

#include <algorithm>
#include <cstdint>

#include "backends/cpu/gemm.hpp"
#include "lightning_core/device.hpp"

namespace lc::cpu {

/// True if this processor multiplies pairs of bfloat16 into float32 sums (AVX-512 BF16).
[[nodiscard]] bool has_bf16_dot();

/// Bytes of workspace, in whole cache lines.
struct PairBlocks {
  bool shared_columns;   ///< B is packed once, by all threads, before any multiplication; else A
  int64_t pairs;         ///< of the whole sum
  int64_t kc;            ///< pairs of a block of the sum
  int64_t mc;            ///< rows of a piece
  int64_t nc;            ///< columns packed together, whole panels
  int64_t parts;         ///< of the sum, packed by different threads, where columns are shared
  int64_t shared_bytes;  ///< packed operand of all threads
  int64_t floor_bytes;   ///< its panels' exponents
  int64_t own_bytes;     ///< packed operand of a thread
  int64_t own_floors;    ///< its panels' exponents
  int64_t out_bytes;     ///< sums of a thread
  [[nodiscard]] int64_t of_thread() const { return own_bytes + own_floors + out_bytes; }
  [[nodiscard]] int64_t bytes(int64_t threads) const {
    return shared_bytes + floor_bytes + threads * of_thread();
  }
};

/// `width` columns of a panel, `height` most rows of a tile. Packed rows take three eighths of L2,
/// a panel's block of the sum an eighth, like float32's; B packed together half of L3.
inline PairBlocks pair_blocks(const GemmSizes& s, int64_t width, int64_t height, int64_t threads,
                              const DeviceInfo& info) {
  constexpr int64_t kPair = 4;
  constexpr int64_t kFewRows = 128;  // a thread; with fewer all rows of A are packed first
  const auto parts = [](int64_t n, int64_t most) {
    return std::max<int64_t>((n + most - 1) / most, 1);
  };
  const auto lines = [](int64_t bytes) { return (bytes + 63) / 64 * 64; };
  PairBlocks b{};
  b.pairs = (s.k + 1) / 2;
  const int64_t panel = std::max(info.l1_bytes, std::min(info.l1_bytes * 8 / 3, info.l2_bytes / 8));
  const int64_t deep = std::max<int64_t>(panel / (width * kPair) / 8 * 8, 64);
  const int64_t k_blocks = parts(b.pairs, deep);
  b.kc = parts(b.pairs, k_blocks);
  const int64_t depth = std::max<int64_t>(b.pairs, 1) * kPair;  // bytes of a row or column
  const int64_t panels = parts(s.n, width);
  b.shared_columns = s.m >= std::max<int64_t>(threads, 2) * kFewRows;
  if (b.shared_columns) {
    const int64_t high =
        std::clamp<int64_t>(info.l2_bytes * 3 / 8 / depth, 4 * height, 2 * kFewRows);
    const int64_t pieces =
        parts(std::max(parts(s.m, high), std::min(2 * threads, s.m / 64)), threads) * threads;
    b.mc = parts(s.m, pieces);
    const int64_t most = std::clamp<int64_t>(info.l3_bytes / 2, 4 << 20, 64 << 20);
    b.nc = std::clamp<int64_t>(most / (depth * width), kPanelGroup * threads, panels) * width;
    b.parts = std::clamp<int64_t>(4 * threads / parts(b.nc, kPanelGroup * width), 1, 8);
    b.parts = std::min(b.parts, parts(b.pairs, 64));
    b.shared_bytes = lines(b.nc * depth);
    b.floor_bytes = lines(b.nc / width * b.parts * 4);
    b.own_bytes = lines(b.mc * depth);
    b.own_floors = lines(parts(b.mc, 1) * 4);
  } else {
    b.mc = s.m;
    b.parts = 1;
    const int64_t most = std::max<int64_t>(info.l2_bytes / 2 / (depth * width), 1);
    const int64_t spread = std::max<int64_t>(panels / (4 * threads), 1);
    b.nc = std::min({most, spread, kPanelGroup}) * width;
    b.shared_bytes = lines(s.m * depth);
    b.floor_bytes = lines(s.m * 4);
    b.own_bytes = lines(b.nc * depth);
    b.own_floors = lines(b.nc / width * 4);
  }
  b.out_bytes = lines((k_blocks > 1 ? b.mc : height) * width * 4);
  return b;
}

}  // namespace lc::cpu
