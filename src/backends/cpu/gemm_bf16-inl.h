// The product of bfloat16 matrices, summed in float32 and rounded once.
//
// C[m, n] = alpha * A[m, k] B[k, n], then bias and activation. Panels of A (up to kMr rows) and of
// B (kNv vectors of columns) are packed over the whole depth; a block of the sum is a part of them,
// so that sums of several blocks stay in a thread's own rows by one panel's columns of float32, and
// C is written once. Of the operands
//
//   few rows   A is packed first, by all threads; a piece is a few panels of B, which the thread
//              that takes it packs and multiplies by all rows.
//   many rows  B is packed first, by all threads, as many columns as fit half of L3; a piece is a
//              run of mc rows, packed into its thread's L2, and all of packed B streams past it.
//
// Packing notes each panel's smallest exponent: tiles of panels that could give a subnormal number
// are multiplied without the dot instruction.

#if defined(LC_BACKENDS_CPU_GEMM_BF16_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LC_BACKENDS_CPU_GEMM_BF16_INL_H_
#undef LC_BACKENDS_CPU_GEMM_BF16_INL_H_
#else
#define LC_BACKENDS_CPU_GEMM_BF16_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "backends/cpu/gemm-inl.h"
#include "backends/cpu/gemm_bf16.hpp"
#include "backends/cpu/gemm_bf16_tile-inl.h"
#include "backends/cpu/half-inl.h"
#include "hwy/highway.h"

#if LC_HAS_BF16_DOT
HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

struct PairProduct {
  const GemmSizes& s;
  const PairBlocks& blocks;
  const GemmEpilogue<float>& e;
  const BFloat* a;
  int64_t a_row, a_k;
  const BFloat* b;
  int64_t b_k, b_col;
  BFloat* c;
  int64_t c_row, c_col;
};

/// A panel of packed B over the whole depth, and its columns.
struct PairPanel {
  const Pair* b;
  int floor;
  int64_t col, cols;
};

/// Elements of C from sums: alpha, bias, activation, rounding. `sums` is overwritten.
HWY_INLINE void FinishPairs(const PairProduct& g, float* HWY_RESTRICT sums, int64_t row,
                            int64_t rows, int64_t col, int64_t cols) {
  const GemmTag<float> d;
  const int64_t N = VectorLanes<float>();
  const int64_t width = PanelWidth<float>();
  if (g.s.alpha != 1) {
    const auto alpha = hn::Set(d, static_cast<float>(g.s.alpha));
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < cols; j += N)
        hn::StoreU(hn::Mul(hn::LoadU(d, sums + i * width + j), alpha), d, sums + i * width + j);
  }
  Finish(g.e, sums, width, row, rows, col, cols);
  for (int64_t i = 0; i < rows; ++i) {
    const float* HWY_RESTRICT from = sums + i * width;
    BFloat* HWY_RESTRICT to = g.c + (row + i) * g.c_row + col * g.c_col;
    int64_t j = 0;
    if (g.c_col == 1)
      for (; j + N <= cols; j += N) StoreFloats(hn::LoadU(d, from + j), d, to + j);
    for (; j < cols; ++j) to[j * g.c_col] = ToBFloat(from[j]);
  }
}

HWY_INLINE void PackPairRows(const PairProduct& g, const RowBlock<Pair>& block, int32_t* floors,
                             int64_t first, int64_t end) {
  for (int64_t i = first; i < end; ++i) {
    const int64_t r = block.row(i);
    const int64_t height = block.row(i + 1) - r;
    floors[i] = PackPairs(g.a + (block.row0 + r) * g.a_row, g.a_row, g.a_k, height, g.s.k, 0,
                          g.blocks.pairs, block.packed + r * g.blocks.pairs, height);
  }
}

/// Columns [col0, col0 + cols) to panels, pairs [q0, q1) of them; floors[j * floor_step] of the
/// j-th.
HWY_INLINE void PackPairPanels(const PairProduct& g, int64_t col0, int64_t cols, int64_t q0,
                               int64_t q1, Pair* to, int32_t* floors, int64_t floor_step) {
  constexpr int64_t kChunk = 16;
  const int64_t width = PanelWidth<float>();
  const int64_t panels = (cols + width - 1) / width;
  const int64_t size = width * g.blocks.pairs;
  const BFloat* const from = g.b + col0 * g.b_col;
  int64_t j0 = 0;
  if (g.b_col == 1 && panels > 1) {
    // Rows of all full panels at a time: neighbouring lines of one page.
    j0 = cols / width;
    for (int64_t j = 0; j < j0; ++j) floors[j * floor_step] = kNoExponent;
    for (int64_t q = q0; q < q1; q += kChunk) {
      const int64_t end = std::min(q + kChunk, q1);
      for (int64_t p = q; p < end; ++p) {
        const BFloat* const row = from + 2 * p * g.b_k;
        const BFloat* const second = 2 * p + 1 < g.s.k ? row + g.b_k : nullptr;
        for (int64_t j = 0; j < j0; ++j)
          InterleaveRows(row + j * width, second != nullptr ? second + j * width : nullptr, width,
                         to + j * size + p * width);
      }
      for (int64_t j = 0; j < j0; ++j)
        floors[j * floor_step] = std::min(
            floors[j * floor_step], ExponentFloor(to + j * size + q * width, (end - q) * width));
    }
  }
  for (int64_t j = j0; j < panels; ++j)
    floors[j * floor_step] =
        PackPairs(from + j * width * g.b_col, g.b_col, g.b_k, std::min(width, cols - j * width),
                  g.s.k, q0, q1, to + j * size, width);
}

/// Row panels [first, end) times one panel of B. `ahead(i, n)` is the i-th of n shares of what to
/// prefetch.
template <typename AheadOf>
HWY_INLINE void MultiplyPairPanel(const PairProduct& g, const RowBlock<Pair>& block,
                                  const int32_t* floors, const PairPanel& panel, float* sums,
                                  const AheadOf& ahead) {
  const int64_t width = PanelWidth<float>();
  const int64_t pairs = g.blocks.pairs;
  const int64_t k_blocks = std::max<int64_t>((pairs + g.blocks.kc - 1) / g.blocks.kc, 1);
  for (int64_t kb = 0; kb < k_blocks; ++kb) {
    const int64_t q0 = pairs * kb / k_blocks;
    const int64_t q1 = pairs * (kb + 1) / k_blocks;
    for (int64_t i = 0; i < block.panels; ++i) {
      const int64_t r = block.row(i);
      const int64_t height = block.row(i + 1) - r;
      float* const out = sums + (k_blocks > 1 ? r * width : 0);
      RunPairTile(NoSubnormals(floors[i], panel.floor), height, panel.cols, q1 - q0,
                  block.packed + r * pairs + q0 * height, panel.b + q0 * width, out, kb > 0,
                  ahead(kb * block.panels + i, k_blocks * block.panels));
      if (kb + 1 == k_blocks) FinishPairs(g, out, block.row0 + r, height, panel.col, panel.cols);
    }
  }
}

inline void PairsFewRows(const PairProduct& g, char* workspace, int64_t threads) {
  const int64_t width = PanelWidth<float>();
  const PairBlocks& blocks = g.blocks;
  const RowBlock<Pair> block(reinterpret_cast<Pair*>(workspace), 0, g.s.m);
  auto* const floors = reinterpret_cast<int32_t*>(workspace + blocks.shared_bytes);
  char* const own = workspace + blocks.shared_bytes + blocks.floor_bytes;
  const int64_t shares = std::min(4 * threads, block.panels);
  const bool many = block.rows * g.s.k >= 1 << 16;  // elements worth a second thread
  ForPieces(many ? threads : 1, shares, [&](int64_t i, int64_t) HWY_ATTR {
    PackPairRows(g, block, floors, block.panels * i / shares, block.panels * (i + 1) / shares);
  });
  const int64_t pieces = (g.s.n + blocks.nc - 1) / blocks.nc;
  ForPieces(threads, pieces, [&](int64_t piece, int64_t t) HWY_ATTR {
    char* const mine = own + t * blocks.of_thread();
    auto* const packed = reinterpret_cast<Pair*>(mine);
    auto* const b_floors = reinterpret_cast<int32_t*>(mine + blocks.own_bytes);
    auto* const sums = reinterpret_cast<float*>(mine + blocks.own_bytes + blocks.own_floors);
    const int64_t col0 = piece * blocks.nc;
    const int64_t cols = std::min(blocks.nc, g.s.n - col0);
    PackPairPanels(g, col0, cols, 0, blocks.pairs, packed, b_floors, 1);
    for (int64_t j = 0; j * width < cols; ++j)
      MultiplyPairPanel(g, block, floors,
                        {packed + j * width * blocks.pairs, b_floors[j], col0 + j * width,
                         std::min(width, cols - j * width)},
                        sums, [](int64_t, int64_t) { return Ahead{}; });
  });
}

inline void PairsManyRows(const PairProduct& g, char* workspace, int64_t threads) {
  const int64_t width = PanelWidth<float>();
  const PairBlocks& blocks = g.blocks;
  auto* const packed_b = reinterpret_cast<Pair*>(workspace);
  auto* const b_floors = reinterpret_cast<int32_t*>(workspace + blocks.shared_bytes);
  char* const own = workspace + blocks.shared_bytes + blocks.floor_bytes;
  const int64_t pieces = (g.s.m + blocks.mc - 1) / blocks.mc;
  for (int64_t jc = 0; jc < g.s.n; jc += blocks.nc) {
    const int64_t nc = std::min(blocks.nc, g.s.n - jc);
    const int64_t panels = (nc + width - 1) / width;
    const int64_t groups = (panels + kPanelGroup - 1) / kPanelGroup;
    ForPieces(threads, groups * blocks.parts, [&](int64_t piece, int64_t) HWY_ATTR {
      const int64_t j = piece / blocks.parts * kPanelGroup;
      const int64_t part = piece % blocks.parts;
      PackPairPanels(g, jc + j * width, std::min(kPanelGroup * width, nc - j * width),
                     blocks.pairs * part / blocks.parts, blocks.pairs * (part + 1) / blocks.parts,
                     packed_b + j * width * blocks.pairs, b_floors + j * blocks.parts + part,
                     blocks.parts);
    });
    ForPieces(threads, pieces, [&](int64_t piece, int64_t t) HWY_ATTR {
      char* const mine = own + t * blocks.of_thread();
      const RowBlock<Pair> block(reinterpret_cast<Pair*>(mine), g.s.m * piece / pieces,
                                 g.s.m * (piece + 1) / pieces);
      auto* const floors = reinterpret_cast<int32_t*>(mine + blocks.own_bytes);
      auto* const sums = reinterpret_cast<float*>(mine + blocks.own_bytes + blocks.own_floors);
      PackPairRows(g, block, floors, 0, block.panels);
      for (int64_t j = 0; j < panels; ++j) {
        const int32_t* const f = b_floors + j * blocks.parts;
        const Pair* const b = packed_b + j * width * blocks.pairs;
        // The next panel comes to L2 meanwhile.
        const int64_t size = width * blocks.pairs;
        const auto ahead = [&](int64_t i, int64_t n) HWY_ATTR {
          const int64_t lines = (4 * width * 4 / kLineBytes + block.panels - 1) / block.panels;
          return Ahead{b + size + size * i / n, 0, 0, lines};
        };
        MultiplyPairPanel(g, block, floors,
                          {b, *std::min_element(f, f + blocks.parts), jc + j * width,
                           std::min(width, nc - j * width)},
                          sums, ahead);
      }
    });
  }
}

/// The whole product. `workspace` holds blocks.bytes(threads), on a cache line.
inline void GemmPairs(const PairProduct& g, char* workspace, int64_t threads) {
  if (g.blocks.shared_columns)
    PairsManyRows(g, workspace, threads);
  else
    PairsFewRows(g, workspace, threads);
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // LC_HAS_BF16_DOT

#endif  // toggle guard
