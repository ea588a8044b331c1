// Candidates of a planned product, shared by matmul and linear: gemv, dots, direct, packed; for
// packed and narrow weights stream and repacked.

#if defined(LC_BACKENDS_CPU_MATMUL_RUN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LC_BACKENDS_CPU_MATMUL_RUN_INL_H_
#undef LC_BACKENDS_CPU_MATMUL_RUN_INL_H_
#else
#define LC_BACKENDS_CPU_MATMUL_RUN_INL_H_
#endif

#include "backends/cpu/gemm-inl.h"
#include "backends/cpu/gemm_dots-inl.h"
#include "backends/cpu/gemm_stream-inl.h"
#include "backends/cpu/gemv-inl.h"
#include "backends/cpu/matmul_plan.hpp"

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {

// Work below which a second thread costs more than it saves (a warm start and join of the pool is
// about 2 us).
inline constexpr double kParallelFlops = 4e5;
inline constexpr double kParallelBytes = 256 << 10;

HWY_INLINE double FlopsOf(const MatmulPlan& p) {
  return 2.0 * static_cast<double>(p.s.m) * static_cast<double>(p.s.n) * static_cast<double>(p.s.k);
}

template <typename T>
HWY_INLINE GemmEpilogue<T> EpilogueOf(const MatmulPlan& p, const Launch& l) {
  GemmEpilogue<T> e;
  e.activation = p.activation;
  e.bias_step = p.bias_step;
  if (p.b_dtype == DType::kInt8) e.col_scale = l.in[3].ptr<const T>();
  if (p.has_bias) (p.swapped ? e.row_bias : e.col_bias) = l.in[2].ptr<const T>();
  return e;
}

/// f(a, b, c, index) for each product of the batch; B's elements are TB.
template <typename T, typename TB = T, typename F>
HWY_INLINE void ForEachProduct(const MatmulPlan& p, const Launch& l, F&& f) {
  const T* a = l.in[p.swapped ? 1 : 0].ptr<const T>();
  const TB* b = l.in[p.swapped ? 0 : 1].ptr<const TB>();
  T* c = l.out[0].ptr<T>();
  if (p.batch == 1) {
    f(a, b, c, 0);
    return;
  }
  const auto one = [&](int64_t index, int64_t slot) HWY_ATTR {
    int64_t oa = 0, ob = 0, oc = 0;
    int64_t rest = index;
    for (int i = p.batch_rank - 1; i >= 0; --i) {
      const int64_t at = rest % p.batch_shape[i];
      rest /= p.batch_shape[i];
      oa += at * p.batch_a[i];
      ob += at * p.batch_b[i];
      oc += at * p.batch_c[i];
    }
    f(a + oa, b + ob, c + oc, slot);
  };
  if (p.batch_threads <= 1) {
    for (int64_t i = 0; i < p.batch; ++i) one(i, 0);
    return;
  }
  parallel_for(p.batch_threads, [&](int64_t t) HWY_ATTR {
    for (int64_t i = p.batch * t / p.batch_threads; i < p.batch * (t + 1) / p.batch_threads; ++i)
      one(i, t);
  });
}

/// Threads within a product, or products side by side.
HWY_INLINE void ShareOut(MatmulPlan& p, const DeviceInfo& info, bool worth_it) {
  p.threads = p.batch_threads = 1;
  if (!worth_it || info.threads <= 1) return;
  if (p.batch >= info.threads)
    p.batch_threads = info.threads;
  else
    p.threads = info.threads;
}

template <typename T>
void RunGemv(const MatmulPlan& p, const Launch& l) {
  const GemmEpilogue<T> e = EpilogueOf<T>(p, l);
  ForEachProduct<T>(p, l, [&](const T* a, const T* b, T* c, int64_t) HWY_ATTR {
    const auto part = [&](int64_t col0, int64_t col1) HWY_ATTR {
      if (p.b_k == 1 && p.a_k == 1)
        GemvDots(p.s, a, b, p.b_col, c, p.c_col, col0, col1);
      else
        GemvRows(p.s, a, p.a_k, b, p.b_k, c, p.c_col, col0, col1);
      if (!e.any()) return;
      if (p.c_col == 1) {
        Finish(e, c + col0, 1, 0, 1, col0, col1 - col0);
      } else {
        for (int64_t j = col0; j < col1; ++j) Finish(e, c + j * p.c_col, 1, 0, 1, j, 1);
      }
    };
    if (p.threads > 1)
      parallel_ranges(p.s.n, 8 * VectorLanes<T>(), part);
    else
      part(0, p.s.n);
  });
}

template <typename T, typename TB = T>
void RunDots(const MatmulPlan& p, const Launch& l) {
  const GemmEpilogue<T> e = EpilogueOf<T>(p, l);
  ForEachProduct<T, TB>(p, l, [&](const T* a, const TB* b, T* c, int64_t) HWY_ATTR {
    const auto part = [&](int64_t col0, int64_t col1) HWY_ATTR {
      GemmDots(p.s, p.blocks.kc, e, a, p.a_row, b, p.b_col, c, p.c_row, col0, col1);
    };
    if (p.threads > 1)
      parallel_ranges(p.s.n, int64_t{kDotCols}, part);
    else
      part(0, p.s.n);
  });
}

template <typename T, typename TB = T>
void RunDirect(const MatmulPlan& p, const Launch& l) {
  const GemmEpilogue<T> e = EpilogueOf<T>(p, l);
  ForEachProduct<T, TB>(p, l, [&](const T* a, const TB* b, T* c, int64_t) HWY_ATTR {
    if (p.threads <= 1) {
      GemmDirect(p.s, e, a, p.a_row, p.a_k, b, p.b_k, c, p.c_row);
      return;
    }
    // Columns are shared out where there are few rows, else rows.
    const bool by_columns = p.s.m <= 2 * kMr;
    const int64_t grain = by_columns ? PanelWidth<T>() : int64_t{kMr};
    parallel_ranges(by_columns ? p.s.n : p.s.m, grain, [&](int64_t begin, int64_t end) HWY_ATTR {
      GemmSizes s = p.s;
      GemmEpilogue<T> part = e;
      if (by_columns) {
        s.n = end - begin;
        if (part.col_bias != nullptr) part.col_bias += begin * e.bias_step;
        GemmDirect(s, part, a, p.a_row, p.a_k, b + begin, p.b_k, c + begin, p.c_row);
      } else {
        s.m = end - begin;
        if (part.row_bias != nullptr) part.row_bias += begin * e.bias_step;
        GemmDirect(s, part, a + begin * p.a_row, p.a_row, p.a_k, b, p.b_k, c + begin * p.c_row,
                   p.c_row);
      }
    });
  });
}

template <typename T>
void RunPacked(const MatmulPlan& p, const Launch& l) {
  const GemmEpilogue<T> e = EpilogueOf<T>(p, l);
  T* const workspace = static_cast<T*>(l.workspace);
  ForEachProduct<T>(p, l, [&](const T* a, const T* b, T* c, int64_t slot) HWY_ATTR {
    const MatrixB<T> from_b{b, p.b_k, p.b_col};
    GemmPacked(
        Product<T, MatrixB<T>>{p.s, p.blocks, e, a, p.a_row, p.a_k, c, p.c_row, p.c_col, from_b},
        workspace + slot * p.slot, p.threads);
  });
}

template <typename T, typename W>
void RunStream(const MatmulPlan& p, const Launch& l) {
  const GemmEpilogue<T> e = EpilogueOf<T>(p, l);
  const PackedWeight<W> b{l.in[1].ptr<const W>(), p.s.k, p.panel};
  const auto part = [&](int64_t row0, int64_t row1, int64_t col0, int64_t col1) HWY_ATTR {
    const int64_t rows = row1 - row0;
    const int64_t blocks = (rows + p.blocks.mc - 1) / p.blocks.mc;
    for (int64_t i = 0; i < blocks; ++i)
      GemmStream(p.s, e, l.in[0].ptr<const T>(), p.a_row, p.a_k, b, l.out[0].ptr<T>(), p.c_row,
                 row0 + rows * i / blocks, row0 + rows * (i + 1) / blocks, col0, col1);
  };
  // A thread's share is columns, so that each weight is read by one; with many rows rows, of which
  // equal shares differ less and fit nearer caches.
  constexpr int64_t kManyRows = 256;  // a thread
  if (p.threads <= 1)
    part(0, p.s.m, 0, p.s.n);
  else if (p.s.m >= p.threads * kManyRows)
    parallel_ranges(p.s.m, int64_t{kMr},
                    [&](int64_t begin, int64_t end) HWY_ATTR { part(begin, end, 0, p.s.n); });
  else
    parallel_ranges(p.s.n, PanelWidth<T>(),
                    [&](int64_t begin, int64_t end) HWY_ATTR { part(0, p.s.m, begin, end); });
}

template <typename T, typename W>
void RunRepacked(const MatmulPlan& p, const Launch& l) {
  const GemmEpilogue<T> e = EpilogueOf<T>(p, l);
  const int64_t width = p.panel != 0 ? p.panel : p.s.n;
  const ScatteredB<T, W> from_b{l.in[1].ptr<const W>(), width, p.s.k * width, p.b_k, p.b_col};
  GemmPacked(Product<T, ScatteredB<T, W>>{p.s, p.blocks, e, l.in[0].ptr<const T>(), p.a_row, p.a_k,
                                          l.out[0].ptr<T>(), p.c_row, p.c_col, from_b},
             static_cast<T*>(l.workspace), p.threads);
}

// The candidates as functions of a plan; matmul.cpp and linear.cpp make KernelDefs of them.

inline Support GemvTakes(const MatmulPlan& p, const DeviceInfo&) {
  if (p.s.m != 1) return Support::no("more than one row and one column");
  if (p.b_col == 1 || (p.b_k == 1 && p.a_k == 1)) return Support::yes();
  return Support::no("the matrix has no unit stride");
}

inline Support StreamTakes(const MatmulPlan& p, const DeviceInfo&) {
  if (p.panel == 0) return Support::no("the weight is not packed: pack_weight() does it once");
  const int64_t width = p.dtype == DType::kFloat32 ? PanelWidth<float>() : PanelWidth<double>();
  if (p.panel % width != 0)
    return Support::no(cat("panels of ", p.panel, " columns, not a multiple of ", width));
  if (p.b_dtype != p.dtype && p.dtype != DType::kFloat32)
    return Support::no(cat("an int8 weight and x of ", dtype_name(p.dtype)));
  return Support::yes();
}

inline Support RepackedTakes(const MatmulPlan& p, const DeviceInfo&) {
  if (p.panel == 0 && p.b_dtype == p.dtype)
    return Support::no("a plain weight, which others read in fewer steps");
  return Support::yes();
}

inline Support DotsTakes(const MatmulPlan& p, const DeviceInfo&) {
  constexpr int64_t kMostRows = 6;  // more pay for packing b
  if (p.b_k != 1 || p.a_k != 1) return Support::no("a sum's terms are apart");
  if (p.c_col != 1) return Support::no("out's columns are apart");
  if (p.s.m > kMostRows) return Support::no(cat("more than ", kMostRows, " rows: ", p.s.m));
  return Support::yes();
}

inline Support DirectTakes(const MatmulPlan& p, const DeviceInfo& info) {
  constexpr double kMostFlops = 2.0 * 256 * 256 * 256;
  if (p.b_col != 1) return Support::no("b's columns are apart");
  if (p.c_col != 1) return Support::no("out's columns are apart");
  // A panel of B that one or two panels of rows use is not worth copying.
  if (p.s.m <= 2 * kMr) return Support::yes();
  const int64_t element = dtype_size(p.dtype);
  if (FlopsOf(p) > kMostFlops)
    return Support::no(
        cat(FlopsOf(p), " flops, above the ", kMostFlops, " up to which packing does not pay"));
  if (p.s.k * p.s.n * element > info.l2_bytes / 4)
    return Support::no("b fills more than a quarter of L2, and every row panel reads it again");
  // Rows of a multiple of a page apart fall into the same few lines of L1.
  const auto collide = [&](int64_t stride) { return stride * element % 4096 == 0; };
  if (p.s.m > 4 * kMr && p.s.k > 128 && (collide(p.a_row) || collide(p.b_k)))
    return Support::no("rows lie a multiple of 4096 bytes apart");
  return Support::yes();
}

template <void (*kF32)(const MatmulPlan&, const Launch&),
          void (*kF64)(const MatmulPlan&, const Launch&)>
void LaunchPlan(const Launch& l) {
  const auto& p = l.prepared.get<MatmulPlan>();
  if (p.dtype == DType::kFloat32)
    kF32(p, l);
  else
    kF64(p, l);
}

inline void PrepareGemv(MatmulPlan p, const DeviceInfo& info, Prepared& out) {
  const double bytes =
      static_cast<double>(p.s.n) * static_cast<double>(p.s.k * dtype_size(p.dtype));
  ShareOut(p, info, bytes * static_cast<double>(p.batch) > kParallelBytes);
  out.set(p);
}

inline void PrepareDots(MatmulPlan p, const DeviceInfo& info, Prepared& out) {
  constexpr int64_t kShallow = 256;  // adding up the lanes would cost more than it saves
  const int64_t fits = info.l1_bytes / 2 / (p.s.m * dtype_size(p.dtype)) / 64 * 64;
  p.blocks.kc = std::max(fits, kShallow);
  ShareOut(p, info, FlopsOf(p) * static_cast<double>(p.batch) > kParallelFlops);
  out.set(p);
}

inline void PrepareDirect(MatmulPlan p, const DeviceInfo& info, Prepared& out) {
  ShareOut(p, info, FlopsOf(p) * static_cast<double>(p.batch) > kParallelFlops);
  out.set(p);
}

inline void PreparePacked(MatmulPlan p, const DeviceInfo& info, Prepared& out) {
  ShareOut(p, info, FlopsOf(p) * static_cast<double>(p.batch) > kParallelFlops);
  const int64_t width = p.dtype == DType::kFloat32 ? PanelWidth<float>() : PanelWidth<double>();
  p.blocks = gemm_blocks(p.s, width, dtype_size(p.dtype), p.threads, info);
  p.slot = p.blocks.elements(p.threads);
  out.workspace_bytes = p.batch_threads * p.slot * dtype_size(p.dtype);
  out.set(p);
}

inline void PrepareStream(MatmulPlan p, const DeviceInfo& info, Prepared& out) {
  if (p.c_col != 1) out.contiguous_outputs = 1;
  const double bytes =
      static_cast<double>(p.s.n) * static_cast<double>(p.s.k * dtype_size(p.b_dtype));
  ShareOut(p, info, bytes > kParallelBytes || FlopsOf(p) > kParallelFlops);
  // Every panel of the weight reads all rows of a block again, from the last cache.
  const int64_t fit = info.l3_bytes / 8 / std::max<int64_t>(p.s.k * dtype_size(p.dtype), 1);
  p.blocks.mc = std::max<int64_t>(fit, int64_t{16} * kMr);
  out.set(p);
}

/// f(T{}, W{}) for x and sums of T and a packed or narrow weight of W.
template <typename F>
HWY_INLINE void WithWeight(const MatmulPlan& p, F&& f) {
  if (p.dtype == DType::kFloat64)
    f(double{}, double{});
  else if (p.b_dtype == DType::kInt8)
    f(float{}, int8_t{});
  else
    f(float{}, float{});
}

inline void LaunchStream(const Launch& l) {
  const auto& p = l.prepared.get<MatmulPlan>();
  WithWeight(p, [&]<typename T, typename W>(T, W) { RunStream<T, W>(p, l); });
}
inline void LaunchRepacked(const Launch& l) {
  const auto& p = l.prepared.get<MatmulPlan>();
  if (p.dtype == DType::kFloat64 && p.b_dtype == DType::kInt8)
    RunRepacked<double, int8_t>(p, l);
  else
    WithWeight(p, [&]<typename T, typename W>(T, W) { RunRepacked<T, W>(p, l); });
}
inline void LaunchGemv(const Launch& l) { LaunchPlan<RunGemv<float>, RunGemv<double>>(l); }
inline void LaunchDots(const Launch& l) { LaunchPlan<RunDots<float>, RunDots<double>>(l); }
inline void LaunchDirect(const Launch& l) { LaunchPlan<RunDirect<float>, RunDirect<double>>(l); }
inline void LaunchPacked(const Launch& l) { LaunchPlan<RunPacked<float>, RunPacked<double>>(l); }

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // LC_BACKENDS_CPU_MATMUL_RUN_INL_H_
