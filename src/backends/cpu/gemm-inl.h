// The matrix product behind matmul, linear and conv2d (Goto and van de Geijn 2008; Van Zee and van
// de Geijn 2015), once for each instruction set.
//
// C[m, n] = alpha * A[m, k] B[k, n], then bias and activation. The k dimension is cut into blocks
// of kc; in a block, panels of A (kMr rows) and of B (NR columns, kNv vectors) are packed so that
// the register tile reads both in order. One operand is packed once, for all threads; the other by
// each thread for its own piece, just before use, so that it is in that core's caches and crosses
// to no other:
//
//   shared rows     A is packed first, by all threads, in blocks of mc rows that stay in L2; a
//                   piece is a run of columns and packs its B a few panels at a time. For few rows.
//   shared columns  A piece is a run of mc rows and packs them into its L2; all of B streams past
//                   them, packed in groups of panels by the thread that needs a group first. For
//                   many rows: B is not packed again for every block of rows, and a thread keeps to
//                   its rows of C.
//
// Packing reads memory that is in no near cache, and nothing hides its latency but the
// multiplication before it: while a tile is computed, what is packed next comes to L2 (Ahead).
//
// Threads take pieces from a counter, several each: one that comes late, or shares its core with
// others, takes fewer. Who takes which changes no bit: an element's sum has one order.
//
// Rows are spread over panels of nearly equal height instead of full panels and a remainder: 128
// rows are ten panels of 12 and 13, not nine of 14 and one of 2.

#if defined(LC_BACKENDS_CPU_GEMM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LC_BACKENDS_CPU_GEMM_INL_H_
#undef LC_BACKENDS_CPU_GEMM_INL_H_
#else
#define LC_BACKENDS_CPU_GEMM_INL_H_
#endif

#include <algorithm>

#include <atomic>
#include <cstdint>
#include <new>
#include <thread>

#include "backends/cpu/gemm_tile-inl.h"
#include "backends/cpu/thread_pool.hpp"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Operands of one product. A: element (i, p) at a[i * a_row + p * a_k]. `from_b` is a MatrixB or
/// the like.
template <typename T, typename FromB>
struct Product {
  const GemmSizes& s;
  const GemmBlocks& blocks;
  const GemmEpilogue<T>& e;
  const T* a;
  int64_t a_row, a_k;
  T* c;
  int64_t c_row, c_col;
  const FromB& from_b;
};

/// Rows [row0, row0 + rows) of C in panels of nearly equal height, depth [p0, p0 + kc).
template <typename T>
struct RowBlock {
  T* packed;
  int64_t row0, rows, panels;
  int64_t p0, kc;
  RowBlock(T* to, int64_t first_row, int64_t end_row)
      : packed(to),
        row0(first_row),
        rows(end_row - first_row),
        panels((rows + kMr - 1) / kMr),
        p0(0),
        kc(0) {}
  [[nodiscard]] HWY_INLINE int64_t row(int64_t panel) const { return rows * panel / panels; }
};

template <typename T, typename FromB>
HWY_INLINE void PackRows(const Product<T, FromB>& g, const RowBlock<T>& block, int64_t first,
                         int64_t end) {
  for (int64_t i = first; i < end; ++i) {
    const int64_t r = block.row(i);
    const int64_t height = block.row(i + 1) - r;
    PackPanel(g.a + (block.row0 + r) * g.a_row + block.p0 * g.a_k, g.a_row, g.a_k, height, block.kc,
              block.packed + r * block.kc, height);
  }
}

/// Row panels [first, end) times one panel of B, columns [col, col + cols). `ahead(i)` says what to
/// prefetch during the i-th tile.
template <typename T, typename FromB, typename AheadOf>
HWY_INLINE void MultiplyPanel(const Product<T, FromB>& g, const RowBlock<T>& block, int64_t first,
                              int64_t end, const T* b, int64_t col, int64_t cols,
                              const AheadOf& ahead) {
  const int64_t NR = PanelWidth<T>();
  const int64_t kc = block.kc;
  const bool accumulate = block.p0 != 0;
  const bool complete = block.p0 + kc >= g.s.k;
  const T alpha = static_cast<T>(g.s.alpha);
  alignas(64) T tile[kMr * kNv * hn::MaxLanes(GemmTag<T>())];
  for (int64_t i = first; i < end; ++i) {
    const int64_t r0 = block.row(i);
    const int64_t height = block.row(i + 1) - r0;
    const T* a = block.packed + r0 * kc;
    T* to = g.c + (block.row0 + r0) * g.c_row + col * g.c_col;
    if (HWY_LIKELY(g.c_col == 1)) {
      RunTile<T, true>(height, cols, kc, a, 0, 0, b, 0, to, g.c_row, alpha, accumulate,
                       ahead(i - first));
      if (complete) Finish(g.e, to, g.c_row, block.row0 + r0, height, col, cols);
      continue;
    }
    // Columns apart: through a tile with unit stride.
    if (accumulate)
      for (int64_t r = 0; r < height; ++r)
        for (int64_t j = 0; j < cols; ++j) tile[r * NR + j] = to[r * g.c_row + j * g.c_col];
    RunTile<T, true>(height, cols, kc, a, 0, 0, b, 0, tile, NR, alpha, accumulate,
                     ahead(i - first));
    if (complete) Finish(g.e, tile, NR, block.row0 + r0, height, col, cols);
    for (int64_t r = 0; r < height; ++r)
      for (int64_t j = 0; j < cols; ++j) to[r * g.c_row + j * g.c_col] = tile[r * NR + j];
  }
}

/// f(piece, thread's number) for each piece, by up to `threads` threads.
template <typename F>
HWY_INLINE void ForPieces(int64_t threads, int64_t pieces, const F& f) {
  if (threads <= 1 || pieces <= 1) {
    for (int64_t i = 0; i < pieces; ++i) f(i, 0);
    return;
  }
  std::atomic<int64_t> next{0};
  parallel_for(std::min(threads, pieces), [&](int64_t t) HWY_ATTR {
    for (;;) {
      const int64_t i = next.fetch_add(1, std::memory_order_relaxed);
      if (i >= pieces) return;
      f(i, t);
    }
  });
}

/// Shared rows: row panels [first, end) of a packed block by columns [col0, col1).
template <typename T, typename FromB>
HWY_INLINE void MultiplyColumns(const Product<T, FromB>& g, const RowBlock<T>& block, int64_t first,
                                int64_t end, int64_t col0, int64_t col1, T* packed_b) {
  constexpr int64_t kMostLines = 8;  // every four steps; more would hold up the multiplication
  const int64_t NR = PanelWidth<T>();
  const int64_t width = (g.from_b.by_rows() ? kPanelGroup : 1) * NR;
  for (int64_t group = col0; group < col1; group += width) {
    const int64_t group_end = std::min(group + width, col1);
    g.from_b.pack(block.p0, block.kc, group, group_end - group, packed_b);
    // The columns that are packed next come to L2 meanwhile: with few rows, reading B is the work.
    const int64_t next = group_end < g.s.n ? group_end : group;
    const int64_t tiles = (group_end - group + NR - 1) / NR * (end - first);
    const int64_t lines = width * static_cast<int64_t>(sizeof(T)) * 4 / kLineBytes;
    for (int64_t col = group; col < group_end; col += NR) {
      const int64_t before = (col - group) / NR * (end - first);
      const auto ahead = [&](int64_t tile) HWY_ATTR {
        Ahead soon = g.from_b.ahead(block.p0, block.kc, next, width, before + tile, tiles);
        soon.lines = std::clamp<int64_t>((lines + tiles - 1) / tiles, 1, kMostLines);
        return soon;
      };
      MultiplyPanel(g, block, first, end, packed_b + (col - group) * block.kc, col,
                    std::min(NR, col1 - col), ahead);
    }
  }
}

template <typename T, typename FromB>
void GemmSharedRows(const Product<T, FromB>& g, T* workspace, int64_t threads) {
  constexpr int64_t kPiecesPerThread = 4;
  constexpr int64_t kFewPanels = 8;  // packing B is not worth repeating for fewer
  const int64_t NR = PanelWidth<T>();
  T* const panels_b = workspace + g.blocks.a_elements;
  const int64_t column_panels = (g.s.n + NR - 1) / NR;
  const int64_t wanted = threads > 1 ? threads * kPiecesPerThread : 1;
  const int64_t col_parts = std::max<int64_t>(std::min(wanted, column_panels), 1);
  const int64_t row_blocks = (g.s.m + g.blocks.mc - 1) / g.blocks.mc;
  const int64_t k_blocks = std::max<int64_t>((g.s.k + g.blocks.kc - 1) / g.blocks.kc, 1);
  for (int64_t rb = 0; rb < row_blocks; ++rb) {
    RowBlock<T> block(workspace, g.s.m * rb / row_blocks, g.s.m * (rb + 1) / row_blocks);
    const int64_t row_parts =
        std::max({std::min(wanted / col_parts, block.panels / kFewPanels),
                  std::min((threads + col_parts - 1) / col_parts, block.panels), int64_t{1}});
    for (int64_t kb = 0; kb < k_blocks; ++kb) {
      block.p0 = g.s.k * kb / k_blocks;
      block.kc = g.s.k * (kb + 1) / k_blocks - block.p0;
      const int64_t shares = std::min(wanted, block.panels);
      ForPieces(threads, shares, [&](int64_t i, int64_t) HWY_ATTR {
        PackRows(g, block, block.panels * i / shares, block.panels * (i + 1) / shares);
      });
      ForPieces(threads, row_parts * col_parts, [&](int64_t i, int64_t t) HWY_ATTR {
        const int64_t row = i / col_parts;
        const int64_t col = i % col_parts;
        MultiplyColumns(g, block, block.panels * row / row_parts,
                        block.panels * (row + 1) / row_parts, column_panels * col / col_parts * NR,
                        std::min(column_panels * (col + 1) / col_parts * NR, g.s.n),
                        panels_b + t * g.blocks.b_elements);
      });
    }
  }
}

/// Waits for what another thread is about to finish, which it does without waiting for this one.
template <typename Done>
HWY_INLINE void SpinUntil(const Done& done) {
  for (int spins = 0; !done(); ++spins) {
    hwy::Pause();
    if (spins > 1000) std::this_thread::yield();  // it may share this processor
  }
}

/// Who has packed and multiplied what, of one block of columns. Pieces are pairs of a block of k
/// and a block of rows, taken in order of k; one waits only for pieces before it. Packed B has two
/// buffers, so that a thread that is done with a block of k goes on to the next.
class Progress {
 public:
  static constexpr int64_t kMostGroups = 256;
  /// `rows_done` has room for `row_blocks` counters.
  Progress(std::atomic<int32_t>* rows_done, int64_t row_blocks)
      : rows_done_(rows_done), row_blocks_(row_blocks) {
    for (int64_t i = 0; i < row_blocks; ++i) new (rows_done + i) std::atomic<int32_t>(0);
  }
  [[nodiscard]] bool packed(int64_t kb, int64_t group) const {
    return groups_[kb % 2][group].load(std::memory_order_acquire) == 2 * kb + 2;
  }
  /// Returns when the group of panels is packed, by `pack` or by another thread.
  template <typename F>
  HWY_INLINE void need(int64_t kb, int64_t group, const F& pack) {
    std::atomic<int64_t>& state = groups_[kb % 2][group];
    int64_t seen = state.load(std::memory_order_acquire);
    if (seen == 2 * kb + 2) return;
    if (seen < 2 * kb + 1 &&
        state.compare_exchange_strong(seen, 2 * kb + 1, std::memory_order_acq_rel)) {
      // The buffer is free once every piece of the block of k before the last is done.
      SpinUntil([&] {
        return pieces_done_[kb % 2].load(std::memory_order_acquire) >= row_blocks_ * (kb / 2);
      });
      pack();
      state.store(2 * kb + 2, std::memory_order_release);
      return;
    }
    SpinUntil([&] { return state.load(std::memory_order_acquire) == 2 * kb + 2; });
  }
  /// Returns when these rows hold the sums of all blocks of k before kb.
  HWY_INLINE void need_rows(int64_t kb, int64_t rows) const {
    SpinUntil([&] { return rows_done_[rows].load(std::memory_order_acquire) == kb; });
  }
  HWY_INLINE void done(int64_t kb, int64_t rows) {
    rows_done_[rows].store(static_cast<int32_t>(kb) + 1, std::memory_order_release);
    pieces_done_[kb % 2].fetch_add(1, std::memory_order_acq_rel);
  }

 private:
  std::atomic<int32_t>* rows_done_;
  int64_t row_blocks_;
  std::atomic<int64_t> pieces_done_[2] = {};
  std::atomic<int64_t> groups_[2][kMostGroups] = {};
};

/// One piece of GemmSharedColumns(): the rows of `block` by columns [jc, jc + nc), depth of
/// `block`.
template <typename T, typename FromB>
HWY_INLINE void MultiplyPiece(const Product<T, FromB>& g, const RowBlock<T>& block, int64_t kb,
                              int64_t jc, int64_t nc, T* packed_b, int64_t first_group,
                              int64_t rows_ahead, Progress& progress) {
  constexpr int64_t kLine = kLineBytes / static_cast<int64_t>(sizeof(T));
  const int64_t NR = PanelWidth<T>();
  const int64_t width = kPanelGroup * NR;
  const int64_t groups = (nc + width - 1) / width;
  const int64_t p0 = block.p0;
  const int64_t kc = block.kc;
  const int64_t next_row = block.row0 + rows_ahead;
  for (int64_t i = 0; i < groups; ++i) {
    const int64_t group = (first_group + i) % groups;
    const int64_t next = (group + 1) % groups;
    const int64_t col0 = group * width;
    const int64_t cols = std::min(width, nc - col0);
    progress.need(kb, group,
                  [&]() HWY_ATTR { g.from_b.pack(p0, kc, jc + col0, cols, packed_b + col0 * kc); });
    const int64_t panels = (cols + NR - 1) / NR;
    const int64_t tiles = panels * block.panels;
    // What comes to L2 meanwhile: B that this thread packs next, at the end A that it packs next,
    // else the next panel.
    const bool last = i + 1 == groups;
    const bool packs_next = !last && !progress.packed(kb, next);
    const bool more_rows = last && next_row + block.rows <= g.s.m && g.a_k == 1;
    for (int64_t j = 0; j < panels; ++j) {
      const T* const b = packed_b + (col0 + j * NR) * kc;
      const auto ahead = [&](int64_t tile) HWY_ATTR {
        const int64_t at = j * block.panels + tile;
        if (packs_next) return g.from_b.ahead(p0, kc, jc + next * width, width, at, tiles);
        if (more_rows)
          return Ahead{g.a + (next_row + block.rows * at / tiles) * g.a_row + p0,
                       (kc + kLine - 1) / kLine, g.a_row * static_cast<int64_t>(sizeof(T))};
        return Ahead{b + NR * kc * (block.panels + tile) / block.panels, 1, kLineBytes};
      };
      MultiplyPanel(g, block, 0, block.panels, b, jc + col0 + j * NR, std::min(NR, cols - j * NR),
                    ahead);
    }
  }
}

template <typename T, typename FromB>
void GemmSharedColumns(const Product<T, FromB>& g, T* workspace, int64_t threads) {
  const int64_t NR = PanelWidth<T>();
  const int64_t row_blocks = (g.s.m + g.blocks.mc - 1) / g.blocks.mc;
  const int64_t k_blocks = std::max<int64_t>((g.s.k + g.blocks.kc - 1) / g.blocks.kc, 1);
  T* const packed_a = workspace + 2 * g.blocks.b_elements;
  auto* const rows_done =
      reinterpret_cast<std::atomic<int32_t>*>(packed_a + threads * g.blocks.a_elements);
  for (int64_t jc = 0; jc < g.s.n; jc += g.blocks.nc) {
    const int64_t nc = std::min(g.blocks.nc, g.s.n - jc);
    const int64_t groups = (nc + kPanelGroup * NR - 1) / (kPanelGroup * NR);
    Progress progress(rows_done, row_blocks);
    ForPieces(threads, k_blocks * row_blocks, [&](int64_t piece, int64_t t) HWY_ATTR {
      const int64_t kb = piece / row_blocks;
      const int64_t rb = piece % row_blocks;
      RowBlock<T> block(packed_a + t * g.blocks.a_elements, g.s.m * rb / row_blocks,
                        g.s.m * (rb + 1) / row_blocks);
      block.p0 = g.s.k * kb / k_blocks;
      block.kc = g.s.k * (kb + 1) / k_blocks - block.p0;
      PackRows(g, block, 0, block.panels);
      progress.need_rows(kb, rb);
      // Every thread starts at another group of panels, so that each packs its share.
      MultiplyPiece(g, block, kb, jc, nc, workspace + kb % 2 * g.blocks.b_elements,
                    groups * t / std::max<int64_t>(threads, 1), threads * block.rows, progress);
      progress.done(kb, rb);
    });
  }
}

/// The whole product. `workspace` holds blocks.elements(threads). `threads` 1: on the caller.
template <typename T, typename FromB>
void GemmPacked(const Product<T, FromB>& g, T* workspace, int64_t threads) {
  if (g.blocks.shared_columns)
    GemmSharedColumns(g, workspace, threads);
  else
    GemmSharedRows(g, workspace, threads);
}

/// Without packing: for products so small that packing would cost more than it saves. B has unit
/// column stride, and may be of float16 or bfloat16.
template <typename T, typename TB>
HWY_INLINE void GemmDirect(const GemmSizes& s, const GemmEpilogue<T>& e, const T* a, int64_t a_row,
                           int64_t a_k, const TB* b, int64_t b_row, T* c, int64_t c_row) {
  const int64_t NR = PanelWidth<T>();
  const int64_t panels = (s.m + kMr - 1) / kMr;
  for (int64_t col = 0; col < s.n; col += NR) {
    const int64_t cols = std::min(NR, s.n - col);
    for (int64_t i = 0; i < panels; ++i) {
      // Without a division where there is one panel: two cost as much as the tile of an 8x8.
      const int64_t r0 = i == 0 ? 0 : s.m * i / panels;
      const int64_t height = i + 1 == panels ? s.m - r0 : s.m * (i + 1) / panels - r0;
      T* to = c + r0 * c_row + col;
      RunTile<T, false>(height, cols, s.k, a + r0 * a_row, a_row, a_k, b + col, b_row, to, c_row,
                        static_cast<T>(s.alpha), false);
      Finish(e, to, c_row, r0, height, col, cols);
    }
  }
}

/// B of an ordinary matrix; elements of float16 and bfloat16 are converted as they are packed.
template <typename T, typename TB = T>
struct MatrixB {
  const TB* b;
  int64_t row, col;
  [[nodiscard]] HWY_INLINE const TB* at(int64_t p0, int64_t c0) const {
    return b + p0 * row + c0 * col;
  }
  /// True where several panels are packed faster together than one by one.
  [[nodiscard]] HWY_INLINE bool by_rows() const { return col == 1; }
  /// The i-th of n shares of what pack() will read.
  [[nodiscard]] HWY_INLINE Ahead ahead(int64_t p0, int64_t kc, int64_t c0, int64_t cols, int64_t i,
                                       int64_t n) const {
    constexpr auto kSize = static_cast<int64_t>(sizeof(TB));
    const auto lines = [](int64_t count) { return (count * kSize + kLineBytes - 1) / kLineBytes; };
    if (col == 1) return {at(p0 + kc * i / n, c0), lines(cols), row * kSize};
    if (row == 1) return {at(p0, c0 + cols * i / n), lines(kc), col * kSize};
    return {};
  }
  /// Rows [p0, p0 + kc), columns [c0, c0 + cols) to panels of NR columns.
  HWY_INLINE void pack(int64_t p0, int64_t kc, int64_t c0, int64_t cols, T* to) const {
    const int64_t NR = PanelWidth<T>();
    const TB* const from = at(p0, c0);
    const int64_t panels = cols / NR;
    if (col != 1) {
      for (int64_t j = 0; j < cols; j += NR)
        PackPanel(from + j * col, col, row, std::min(NR, cols - j), kc, to + j * kc, NR);
      return;
    }
    // A row of all panels at a time: neighbouring lines of one page.
    const GemmTag<T> d;
    const int64_t N = VectorLanes<T>();
    for (int64_t p = 0; p < kc; ++p) {
      const TB* HWY_RESTRICT s = from + p * row;
      T* HWY_RESTRICT o = to + p * NR;
      for (int64_t j = 0; j < panels; ++j, s += NR, o += NR * kc) {
        HWY_UNROLL(3)
        for (int v = 0; v < kNv; ++v) hn::StoreU(LoadFloats(d, s + v * N), d, o + v * N);
      }
      for (int64_t j = 0; j < cols - panels * NR; ++j) o[j] = ToFloat(s[j]);
    }
  }
};

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // LC_BACKENDS_CPU_GEMM_INL_H_
