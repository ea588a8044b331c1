// sum, mean, max, min over any axes; argmax and argmin over one axis or all.
//
// Two ways through the data, by where the smallest stride is: `runs` (a reduced dim is innermost:
// one result at a time, vectorised along the run) and `columns` (a kept dim is innermost: a tile of
// results at a time, rows added into it). Sums go through blocks of at most kBlock terms a lane
// chain, added up in double, so the error does not grow with the length.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backends/cpu/elementwise.hpp"
#include "backends/cpu/kernel_list.hpp"
#include "backends/cpu/simd.hpp"
#include "backends/cpu/strided_loop.hpp"
#include "backends/cpu/thread_pool.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/kernels/reduce.cpp"
#include "hwy/foreach_target.h"
#include "backends/cpu/half-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

#ifndef LC_REDUCE_PARAMS
#define LC_REDUCE_PARAMS
namespace lc::cpu {

/// Strides in elements. Kept dims (in, out strides) and reduced dims, each merged, outermost first.
struct ReduceParams {
  int kept_rank = 0;
  int reduced_rank = 0;
  int64_t kept_extent[kMaxRank];
  int64_t kept_in[kMaxRank];
  int64_t kept_out[kMaxRank];
  int64_t reduced_extent[kMaxRank];
  int64_t reduced_in[kMaxRank];
  int64_t kept = 1;   ///< results
  int64_t count = 1;  ///< terms of each
  int64_t parts = 1;  ///< threads that share the terms of one result (or tile of results)
  bool columns = false;
  bool mean = false;
  bool far = false;  ///< in no near cache: fetched ahead
};

inline constexpr int64_t kReduceBlock = 4096;  ///< terms summed in the dtype's own precision
inline constexpr int64_t kReduceTile = 1024;   ///< terms or columns that are gathered together
inline constexpr int64_t kReduceWide = 8192;   ///< columns of a row that is one tile
inline constexpr int64_t kReduceFlush = 256;   ///< rows added to a tile before it is emptied
inline constexpr int64_t kReduceParts = 64;
/// Bytes of a run from what is read to what is fetched: the hardware's prefetchers stop at the end
/// of a page.
inline constexpr int64_t kReduceAhead = 2048;

/// Offset of flat index `flat` over dims of `extent`.
inline int64_t flat_offset(const int64_t* extent, const int64_t* stride, int rank, int64_t flat) {
  int64_t offset = 0;
  for (int i = rank - 1; i >= 0; --i) {
    offset += flat % extent[i] * stride[i];
    flat /= extent[i];
  }
  return offset;
}

/// Steps through dims of `extent` in row-major order, keeping the offset.
class DimWalk {
 public:
  DimWalk(const int64_t* extent, const int64_t* stride, int rank, int64_t flat)
      : extent_(extent), stride_(stride), rank_(rank) {
    for (int i = rank - 1; i >= 0; --i) {
      index_[i] = flat % extent[i];
      offset_ += index_[i] * stride[i];
      flat /= extent[i];
    }
  }
  [[nodiscard]] int64_t offset() const { return offset_; }
  void next() {
    for (int i = rank_ - 1; i >= 0; --i) {
      offset_ += stride_[i];
      if (++index_[i] < extent_[i]) return;
      offset_ -= stride_[i] * extent_[i];
      index_[i] = 0;
    }
  }

 private:
  const int64_t* extent_;
  const int64_t* stride_;
  int rank_;
  int64_t offset_ = 0;
  int64_t index_[kMaxRank];
};

/// Sum in double with the lost low parts kept apart (Neumaier).
struct LongSum {
  double sum = 0;
  double low = 0;
  void add(double x) {
    const double t = sum + x;
    low += std::fabs(sum) >= std::fabs(x) ? (sum - t) + x : (x - t) + sum;
    sum = t;
  }
  /// Infinities leave NaN in `low`.
  [[nodiscard]] double value() const { return std::isfinite(sum) ? sum + low : sum; }
};

}  // namespace lc::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// What terms stored as S are joined in.
template <typename S>
using Computed = std::conditional_t<kIsHalf<S>, float, S>;

template <typename S>
HWY_INLINE S Stored(double v) {
  if constexpr (std::is_same_v<S, Half>) {
    return ToHalf(static_cast<float>(v));
  } else if constexpr (std::is_same_v<S, BFloat>) {
    return ToBFloat(static_cast<float>(v));
  } else {
    return static_cast<S>(v);
  }
}

struct SumOf {
  static constexpr bool kSum = true;
  template <typename T>
  static T Identity() {
    return T{0};
  }
  template <class D, class V>
  static HWY_INLINE V Join(D, V acc, V x) {
    return hn::Add(acc, x);
  }
  static double Join(double acc, double x) { return acc + x; }
  template <class D, class V>
  static HWY_INLINE double Lanes(D d, V v) {
    return hn::GetLane(hn::SumOfLanes(d, v));
  }
};

// NaN, once seen, stays.
template <bool kMax>
struct ExtremeOf {
  static constexpr bool kSum = false;
  template <typename T>
  static T Identity() {
    const T inf = std::numeric_limits<T>::infinity();
    return kMax ? -inf : inf;
  }
  template <class D, class V>
  static HWY_INLINE V Join(D, V acc, V x) {
#if HWY_TARGET <= HWY_AVX2 && HWY_ARCH_X86
    // The instruction returns its second operand if either is NaN.
    return hn::IfThenElse(hn::IsNaN(x), x, kMax ? hn::Max(x, acc) : hn::Min(x, acc));
#else
    const auto better = kMax ? hn::Lt(acc, x) : hn::Lt(x, acc);
    return hn::IfThenElse(hn::Or(better, hn::IsNaN(x)), x, acc);
#endif
  }
  static double Join(double acc, double x) {
    return x != x || (kMax ? acc < x : x < acc) ? x : acc;
  }
  template <class D, class V>
  static HWY_INLINE double Lanes(D d, V v) {
    if (HWY_UNLIKELY(!hn::AllFalse(d, hn::IsNaN(v))))
      return std::numeric_limits<double>::quiet_NaN();
    return hn::GetLane(kMax ? hn::MaxOfLanes(d, v) : hn::MinOfLanes(d, v));
  }
};

/// n <= kReduceBlock contiguous terms.
template <class R, bool kFar, typename S>
HWY_NOINLINE double ReduceBlock(const S* HWY_RESTRICT p, int64_t n) {
  using T = Computed<S>;
  constexpr int64_t kAhead = kReduceAhead / static_cast<int64_t>(sizeof(S));
  const hn::ScalableTag<T> d;
  const auto N = static_cast<int64_t>(hn::Lanes(d));
  const auto identity = hn::Set(d, R::template Identity<T>());
  auto a0 = identity;
  auto a1 = identity;
  auto a2 = identity;
  auto a3 = identity;
  int64_t i = 0;
  for (; i + 4 * N <= n; i += 4 * N) {
    if constexpr (kFar) {
      HWY_UNROLL(4)
      for (int64_t l = 0; l < 4 * N; l += 64 / static_cast<int64_t>(sizeof(S)))
        hwy::Prefetch(p + i + kAhead + l);
    }
    a0 = R::Join(d, a0, LoadFloats(d, p + i));
    a1 = R::Join(d, a1, LoadFloats(d, p + i + N));
    a2 = R::Join(d, a2, LoadFloats(d, p + i + 2 * N));
    a3 = R::Join(d, a3, LoadFloats(d, p + i + 3 * N));
  }
  for (; i + N <= n; i += N) a0 = R::Join(d, a0, LoadFloats(d, p + i));
#if HWY_TARGET <= HWY_AVX2 && HWY_ARCH_X86
  if constexpr (!kIsHalf<S>) {
    if (i < n) {
      const auto m = hn::FirstN(d, static_cast<size_t>(n - i));
      a1 = R::Join(d, a1, hn::IfThenElse(m, hn::MaskedLoad(m, d, p + i), identity));
      i = n;
    }
  }
#endif
  double total = R::Lanes(d, R::Join(d, R::Join(d, a0, a1), R::Join(d, a2, a3)));
  for (; i < n; ++i) total = R::Join(total, static_cast<double>(ToFloat(p[i])));
  return total;
}

/// Contiguous copy of a strided run in `tile`, or the run itself.
template <typename T>
HWY_INLINE const T* Gather(const T* p, int64_t stride, int64_t n, T* tile) {
  if (stride == 1) return p;
  for (int64_t i = 0; i < n; ++i) tile[i] = p[i * stride];
  return tile;
}

/// Terms [begin, end) of one result, counted in row-major order of the reduced dims.
template <class R, typename S>
double ReduceTerms(const ReduceParams& p, const S* x, int64_t begin, int64_t end) {
  S tile[kReduceTile];
  const int last = p.reduced_rank - 1;
  const int64_t length = p.reduced_extent[last];
  const int64_t stride = p.reduced_in[last];
  const int64_t step = stride == 1 ? kReduceBlock : kReduceTile;
  LongSum sum;
  double best = R::template Identity<double>();
  int64_t run = begin / length;
  int64_t at = begin - run * length;
  DimWalk walk(p.reduced_extent, p.reduced_in, last, run);
  while (begin < end) {
    const int64_t n = std::min({step, length - at, end - begin});
    const S* q = Gather(x + walk.offset() + at * stride, stride, n, tile);
    const double v = p.far ? ReduceBlock<R, true>(q, n) : ReduceBlock<R, false>(q, n);
    if constexpr (R::kSum) {
      sum.add(v);
    } else {
      best = R::Join(best, v);
    }
    begin += n;
    at += n;
    if (at == length) {
      at = 0;
      walk.next();
    }
  }
  return R::kSum ? sum.value() : best;
}

/// acc[j] joined with rows[0..kRows)[j]. Meanwhile what lies `ahead` elements behind each row is
/// fetched, where kFar.
template <class R, int kRows, bool kFar = false, typename S, typename T = Computed<S>>
HWY_NOINLINE void JoinRows(T* HWY_RESTRICT acc, const S* const* rows, int64_t n,
                           int64_t ahead = 0) {
  const hn::ScalableTag<T> d;
  const auto N = static_cast<int64_t>(hn::Lanes(d));
  const S* r0 = rows[0];
  const S* r1 = rows[kRows > 1 ? 1 : 0];
  const S* r2 = rows[kRows > 2 ? 2 : 0];
  const S* r3 = rows[kRows > 3 ? 3 : 0];
  const auto join = [&](int64_t i, auto dd) HWY_ATTR {
    if constexpr (kFar) {
      HWY_UNROLL(4)
      for (const S* r : {r0, r1, r2, r3}) hwy::Prefetch(r + i + ahead);
    }
    auto v = LoadFloats(dd, r0 + i);
    if constexpr (kRows == 4)
      v = R::Join(dd, R::Join(dd, v, LoadFloats(dd, r1 + i)),
                  R::Join(dd, LoadFloats(dd, r2 + i), LoadFloats(dd, r3 + i)));
    hn::StoreU(R::Join(dd, hn::LoadU(dd, acc + i), v), dd, acc + i);
  };
  int64_t i = 0;
  for (; i + N <= n; i += N) join(i, d);
  const hn::CappedTag<T, 1> d1;
  for (; i < n; ++i) join(i, d1);
}

/// Rows [begin, end) of the reduced dims, columns of extent n and stride `stride` from x, into
/// total. With `fold` > 1 the rows are contiguous and a row here is `fold` of them, n columns in
/// all.
template <class R, typename S>
void ReduceColumns(const ReduceParams& p, const S* x, int64_t stride, int64_t n, int64_t begin,
                   int64_t end, int64_t fold, double* total) {
  using T = Computed<S>;
  alignas(64) T acc[kReduceWide];
  S tile[4][kReduceTile];
  const auto clear = [&] { std::fill_n(acc, n, R::template Identity<T>()); };
  std::fill_n(total, n, R::template Identity<double>());
  clear();
  const auto flush = [&] {
    for (int64_t j = 0; j < n; ++j) total[j] = R::Join(total[j], static_cast<double>(acc[j]));
  };
  if (fold > 1) {
    const int64_t columns = n / fold;
    const S* at = x + begin * columns;
    int64_t rows = (end - begin) / fold;
    for (int64_t left = kReduceFlush; rows >= 4; rows -= 4) {
      const S* r[4] = {at, at + n, at + 2 * n, at + 3 * n};
      JoinRows<R, 4>(acc, r, n);
      at += 4 * n;
      if ((left -= 4) == 0) {
        flush();
        clear();
        left = kReduceFlush;
      }
    }
    for (; rows > 0; --rows, at += n) JoinRows<R, 1>(acc, &at, n);
    JoinRows<R, 1>(acc, &at, (end - begin) % fold * columns);
    flush();
    return;
  }
  DimWalk walk(p.reduced_extent, p.reduced_in, p.reduced_rank, begin);
  int64_t left = kReduceFlush;
  for (; begin + 4 <= end; begin += 4) {
    const S* r[4];
    for (int k = 0; k < 4; ++k) {
      r[k] = Gather(x + walk.offset(), stride, n, tile[k]);
      walk.next();
    }
    // The next four rows lie as far behind these as these do from one another.
    if (p.far && stride == 1)
      JoinRows<R, 4, true>(acc, r, n, 4 * (r[1] - r[0]));
    else
      JoinRows<R, 4>(acc, r, n);
    if ((left -= 4) == 0) {
      flush();
      clear();
      left = kReduceFlush;
    }
  }
  for (; begin < end; ++begin) {
    const S* r = Gather(x + walk.offset(), stride, n, tile[0]);
    walk.next();
    JoinRows<R, 1>(acc, &r, n);
  }
  flush();
}

template <class R, typename S>
void LaunchRuns(const ReduceParams& p, const S* x, S* out) {
  const double scale = p.mean ? static_cast<double>(p.count) : 1.0;
  if (p.parts > 1) {
    double part[kReduceParts];
    for (int64_t o = 0; o < p.kept; ++o) {
      const S* from = x + flat_offset(p.kept_extent, p.kept_in, p.kept_rank, o);
      parallel_for(p.parts, [&](int64_t t) {
        part[t] = ReduceTerms<R>(p, from, p.count * t / p.parts, p.count * (t + 1) / p.parts);
      });
      LongSum sum;
      double best = part[0];
      for (int64_t t = 0; t < p.parts; ++t) {
        if constexpr (R::kSum) {
          sum.add(part[t]);
        } else {
          best = R::Join(best, part[t]);
        }
      }
      out[flat_offset(p.kept_extent, p.kept_out, p.kept_rank, o)] =
          Stored<S>((R::kSum ? sum.value() : best) / scale);
    }
    return;
  }
  const double ns = 10 + 0.1 * static_cast<double>(p.count);
  parallel_ranges(p.kept, range_grain(p.kept, ns), [&](int64_t begin, int64_t end) {
    DimWalk in(p.kept_extent, p.kept_in, p.kept_rank, begin);
    DimWalk to(p.kept_extent, p.kept_out, p.kept_rank, begin);
    const bool one_block = p.reduced_rank == 1 && p.reduced_in[0] == 1 && p.count <= kReduceBlock;
    for (; begin < end; ++begin, in.next(), to.next()) {
      const S* from = x + in.offset();
      const double v = !one_block ? ReduceTerms<R>(p, from, 0, p.count)
                       : p.far    ? ReduceBlock<R, true>(from, p.count)
                                  : ReduceBlock<R, false>(from, p.count);
      out[to.offset()] = Stored<S>(v / scale);
    }
  });
}

template <class R, typename S>
void LaunchColumns(const ReduceParams& p, const S* x, S* out, double* workspace) {
  const double scale = p.mean ? static_cast<double>(p.count) : 1.0;
  const int last = p.kept_rank - 1;
  const int64_t columns = last < 0 ? 1 : p.kept_extent[last];
  const int64_t in_stride = last < 0 ? 1 : p.kept_in[last];
  const int64_t out_stride = last < 0 ? 1 : p.kept_out[last];
  const int64_t outer = p.kept / columns;
  // Narrow contiguous rows: several make one row of a tile, folded at the end.
  int64_t fold = 1;
  if (columns <= 128 && in_stride == 1 && p.reduced_rank == 1 && p.reduced_in[0] == columns &&
      p.count >= 8 * (256 / columns))
    fold = 256 / columns;
  const double work = static_cast<double>(p.count) * 0.1;
  int64_t width = p.parts > 1 ? columns : std::min(columns, kReduceTile);
  while (p.parts == 1 && width > 128 && outer * ((columns + width - 1) / width) < num_threads() &&
         work * static_cast<double>(width) > 4000)
    width = (width / 2 + 15) / 16 * 16;
  const int64_t cuts = (columns + width - 1) / width;
  const auto finish = [&](const double* total, int64_t o, int64_t c, int64_t n) {
    S* to = out + flat_offset(p.kept_extent, p.kept_out, last, o) + c * out_stride;
    for (int64_t j = 0; j < n; ++j) {
      double v = total[j];
      for (int64_t f = 1; f < fold; ++f) v = R::Join(v, total[f * n + j]);
      to[j * out_stride] = Stored<S>(v / scale);
    }
  };
  const auto unit = [&](int64_t u, int64_t begin, int64_t end, double* total) {
    const int64_t o = u / cuts;
    const int64_t c = u % cuts * width;
    const int64_t n = std::min(width, columns - c);
    const S* from = x + flat_offset(p.kept_extent, p.kept_in, last, o) + c * in_stride;
    ReduceColumns<R>(p, from, in_stride, n * fold, begin, end, fold, total);
  };
  const int64_t units = outer * cuts;
  if (p.parts > 1) {  // one tile: all of it fits, prepare() saw to that
    parallel_for(p.parts, [&](int64_t t) {
      unit(0, p.count * t / p.parts, p.count * (t + 1) / p.parts, workspace + t * kReduceWide);
    });
    for (int64_t t = 1; t < p.parts; ++t)
      for (int64_t j = 0; j < columns * fold; ++j)
        workspace[j] = R::Join(workspace[j], workspace[t * kReduceWide + j]);
    finish(workspace, 0, 0, columns);
    return;
  }
  parallel_ranges(units, range_grain(units, work * static_cast<double>(width)),
                  [&](int64_t begin, int64_t end) {
                    double total[kReduceTile];
                    for (int64_t u = begin; u < end; ++u) {
                      unit(u, 0, p.count, total);
                      const int64_t c = u % cuts * width;
                      finish(total, u / cuts, c, std::min(width, columns - c));
                    }
                  });
}

/// f(S{}) for the type S that an operand is stored in.
template <typename F>
void WithStored(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kFloat16:
      return f(Half{});
    case DType::kBFloat16:
      return f(BFloat{});
    case DType::kFloat32:
      return f(float{});
    default:
      return f(double{});
  }
}

template <class R>
void LaunchReduce(const Launch& launch) {
  const auto& p = launch.prepared.get<ReduceParams>();
  WithStored(launch.in[0].dtype, [&]<typename S>(S) {
    const S* x = launch.in[0].ptr<S>();
    S* out = launch.out[0].ptr<S>();
    if (p.count == 0) {
      const S v = Stored<S>(p.mean ? std::numeric_limits<double>::quiet_NaN()
                                   : R::template Identity<double>());
      DimWalk to(p.kept_extent, p.kept_out, p.kept_rank, 0);
      for (int64_t o = 0; o < p.kept; ++o, to.next()) out[to.offset()] = v;
    } else if (p.columns) {
      LaunchColumns<R>(p, x, out, static_cast<double*>(launch.workspace));
    } else {
      LaunchRuns<R>(p, x, out);
    }
  });
}
void LaunchSum(const Launch& launch) { LaunchReduce<SumOf>(launch); }
void LaunchMax(const Launch& launch) { LaunchReduce<ExtremeOf<true>>(launch); }
void LaunchMin(const Launch& launch) { LaunchReduce<ExtremeOf<false>>(launch); }

/// Best term so far and its place; an earlier NaN or extreme wins.
struct Best {
  double value = 0;
  int64_t at = -1;
  template <bool kMax>
  bool beaten_by(double v) const {
    if (at < 0) return true;
    if (value != value) return false;
    return v != v || (kMax ? v > value : v < value);
  }
};

template <bool kMax, typename S>
Best ArgTerms(const ReduceParams& p, const S* x, int64_t begin, int64_t end) {
  S tile[kReduceTile];
  const int last = p.reduced_rank - 1;
  const int64_t length = p.reduced_extent[last];
  const int64_t stride = p.reduced_in[last];
  Best best;
  const int64_t run = begin / length;
  int64_t at = begin - run * length;
  DimWalk walk(p.reduced_extent, p.reduced_in, last, run);
  while (begin < end) {
    const int64_t n = std::min({kReduceTile, length - at, end - begin});
    const S* q = Gather(x + walk.offset() + at * stride, stride, n, tile);
    const double v = ReduceBlock<ExtremeOf<kMax>, false>(q, n);
    if (best.beaten_by<kMax>(v)) {
      int64_t i = 0;
      if (v != v) {
        while (ToFloat(q[i]) == ToFloat(q[i])) ++i;
      } else {
        while (static_cast<double>(ToFloat(q[i])) != v) ++i;
      }
      best.value = v;
      best.at = begin + i;
      if (v != v) return best;
    }
    begin += n;
    at += n;
    if (at == length) {
      at = 0;
      walk.next();
    }
  }
  return best;
}

/// One row against the best of each column; the loop is vectorised by the compiler.
template <bool kMax, typename S, typename T, typename I>
HWY_NOINLINE void ArgRow(const S* HWY_RESTRICT x, T* HWY_RESTRICT best, I* HWY_RESTRICT at, I row,
                         int64_t n) {
  for (int64_t j = 0; j < n; ++j) {
    const T v = ToFloat(x[j]);
    const T b = best[j];
    const bool better = (kMax ? v > b : v < b) | ((v != v) & (b == b));
    best[j] = better ? v : b;
    at[j] = better ? row : at[j];
  }
}

template <bool kMax, typename S>
void ArgColumns(const ReduceParams& p, const S* x, int64_t* out) {
  using T = Computed<S>;
  using I = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  constexpr int64_t kWidth = 256;
  const int last = p.kept_rank - 1;
  const int64_t columns = p.kept_extent[last];
  const int64_t in_stride = p.kept_in[last];
  const int64_t cuts = (columns + kWidth - 1) / kWidth;
  const int64_t units = p.kept / columns * cuts;
  const double ns = static_cast<double>(p.count * std::min(columns, kWidth)) * 0.2;
  parallel_ranges(units, range_grain(units, ns), [&](int64_t begin, int64_t end) {
    T best[kWidth];
    S tile[kWidth];
    I at[kWidth];
    for (int64_t u = begin; u < end; ++u) {
      const int64_t o = u / cuts;
      const int64_t c = u % cuts * kWidth;
      const int64_t n = std::min(kWidth, columns - c);
      const S* from = x + flat_offset(p.kept_extent, p.kept_in, last, o) + c * in_stride;
      for (int64_t j = 0; j < n; ++j) {
        best[j] = ToFloat(from[j * in_stride]);
        at[j] = 0;
      }
      for (int64_t r = 1; r < p.count; ++r)
        ArgRow<kMax>(Gather(from + r * p.reduced_in[0], in_stride, n, tile), best, at,
                     static_cast<I>(r), n);
      int64_t* to = out + flat_offset(p.kept_extent, p.kept_out, last, o) + c * p.kept_out[last];
      for (int64_t j = 0; j < n; ++j) to[j * p.kept_out[last]] = at[j];
    }
  });
}

template <bool kMax>
void LaunchArg(const Launch& launch) {
  const auto& p = launch.prepared.get<ReduceParams>();
  int64_t* out = launch.out[0].ptr<int64_t>();
  WithStored(launch.in[0].dtype, [&]<typename S>(S) {
    const S* x = launch.in[0].ptr<S>();
    if (p.columns) {
      ArgColumns<kMax>(p, x, out);
      return;
    }
    if (p.parts > 1) {
      Best part[kReduceParts];
      for (int64_t o = 0; o < p.kept; ++o) {
        const S* from = x + flat_offset(p.kept_extent, p.kept_in, p.kept_rank, o);
        parallel_for(p.parts, [&](int64_t t) {
          part[t] = ArgTerms<kMax>(p, from, p.count * t / p.parts, p.count * (t + 1) / p.parts);
        });
        Best best;
        for (int64_t t = 0; t < p.parts; ++t)
          if (part[t].at >= 0 && best.beaten_by<kMax>(part[t].value)) best = part[t];
        out[flat_offset(p.kept_extent, p.kept_out, p.kept_rank, o)] = best.at;
      }
      return;
    }
    const double ns = 20 + 0.1 * static_cast<double>(p.count);
    parallel_ranges(p.kept, range_grain(p.kept, ns), [&](int64_t begin, int64_t end) {
      DimWalk in(p.kept_extent, p.kept_in, p.kept_rank, begin);
      DimWalk to(p.kept_extent, p.kept_out, p.kept_rank, begin);
      for (; begin < end; ++begin, in.next(), to.next())
        out[to.offset()] = ArgTerms<kMax>(p, x + in.offset(), 0, p.count).at;
    });
  });
}
void LaunchArgMax(const Launch& launch) { LaunchArg<true>(launch); }
void LaunchArgMin(const Launch& launch) { LaunchArg<false>(launch); }

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lc::cpu {
HWY_EXPORT(LaunchSum);
HWY_EXPORT(LaunchMax);
HWY_EXPORT(LaunchMin);
HWY_EXPORT(LaunchArgMax);
HWY_EXPORT(LaunchArgMin);

namespace {

constexpr double kPartNs = 20000;  ///< least work for which the terms of one result are shared

/// Sorts dims by falling |in| where `sort`, and merges neighbours.
int tidy_dims(int rank, int64_t* extent, int64_t* in, int64_t* out, bool sort) {
  for (int i = 1; sort && i < rank; ++i)
    for (int j = i; j > 0 && std::abs(in[j - 1]) < std::abs(in[j]); --j) {
      std::swap(extent[j], extent[j - 1]);
      std::swap(in[j], in[j - 1]);
      std::swap(out[j], out[j - 1]);
    }
  int kept = 0;
  for (int i = 1; i < rank; ++i) {
    if (in[kept] == in[i] * extent[i] && out[kept] == out[i] * extent[i]) {
      extent[kept] *= extent[i];
    } else {
      extent[++kept] = extent[i];
    }
    in[kept] = in[i];
    out[kept] = out[i];
  }
  return rank == 0 ? 0 : kept + 1;
}

ReduceParams make_params(const OpCall& call, std::span<const int64_t> axes, bool all, bool arg) {
  ReduceParams p;
  const View& x = call.in[0];
  const View& out = call.out[0];
  const int rank = x.rank();
  uint32_t reduced = all ? ~0u : 0u;
  for (const int64_t a : axes) reduced |= 1u << (a < 0 ? a + rank : a);
  const bool keepdims = out.rank() == rank;
  int64_t no_out[kMaxRank] = {};
  int o = 0;
  for (int i = 0; i < rank; ++i) {
    const int64_t extent = x.shape[i];
    if (reduced >> i & 1u) {
      o += keepdims ? 1 : 0;
      p.count *= extent;
      if (extent == 1) continue;
      p.reduced_extent[p.reduced_rank] = extent;
      p.reduced_in[p.reduced_rank++] = x.strides[i];
    } else {
      p.kept *= extent;
      const int at = o++;
      if (extent == 1) continue;
      p.kept_extent[p.kept_rank] = extent;
      p.kept_in[p.kept_rank] = x.strides[i];
      p.kept_out[p.kept_rank++] = out.strides[at];
    }
  }
  p.kept_rank = tidy_dims(p.kept_rank, p.kept_extent, p.kept_in, p.kept_out, true);
  p.reduced_rank = tidy_dims(p.reduced_rank, p.reduced_extent, p.reduced_in, no_out, !arg);
  if (p.reduced_rank == 0) {
    p.reduced_extent[0] = 1;
    p.reduced_in[0] = 1;
    p.reduced_rank = 1;
  }
  if (p.count == 0 || p.kept == 0) return p;
  const int64_t run_stride = std::abs(p.reduced_in[p.reduced_rank - 1]);
  const int64_t run = p.reduced_extent[p.reduced_rank - 1];
  if (p.kept_rank > 0) {
    const int64_t column_stride = std::abs(p.kept_in[p.kept_rank - 1]);
    const int64_t columns = p.kept_extent[p.kept_rank - 1];
    // Very short runs cost more than gathering their columns; very narrow tiles likewise.
    p.columns = column_stride < run_stride ? columns >= 4 || run < 16 : run < 12 && columns >= 16;
    if (arg) p.columns = p.columns && p.reduced_rank == 1 && p.count < INT32_MAX;
  }
  return p;
}

/// Threads that share one result's terms, where there are fewer results than threads.
int64_t shared_parts(const ReduceParams& p) {
  const double ns =
      static_cast<double>(p.count) * 0.1 * static_cast<double>(p.columns ? p.kept : int64_t{1});
  if (p.kept >= num_threads() && !p.columns) return 1;
  const auto parts = static_cast<int64_t>(ns / kPartNs);
  return std::clamp<int64_t>(std::min<int64_t>(parts, num_threads()), 1, kReduceParts);
}

void prepare_reduce(const OpCall& call, const DeviceInfo& info, Prepared& prepared) {
  const AttrValue& axes = call.attr_of("axes");
  ReduceParams p = make_params(call, axes.ints(), !axes.given(), false);
  p.mean = std::string_view(call.op->name) == "mean";
  p.far = call.in[0].nbytes() > info.l2_bytes;
  if (!p.columns) {
    p.parts = p.count == 0 ? 1 : shared_parts(p);
  } else if (p.kept_rank == 1 && p.kept <= (p.far ? kReduceWide : 256) && p.count != 0 &&
             (p.kept <= kReduceTile || p.kept_in[0] == 1)) {
    // Rows that are far go to threads whole: a run of memory is read faster than its halves.
    p.parts = shared_parts(p);
    if (p.parts > 1)
      prepared.workspace_bytes = p.parts * kReduceWide * static_cast<int64_t>(sizeof(double));
  }
  prepared.estimate_ns = static_cast<double>(call.in[0].numel()) * 0.1;
  prepared.set(p);
}

void prepare_arg(const OpCall& call, const DeviceInfo&, Prepared& prepared) {
  const AttrValue& axis = call.attr_of("axis");
  ReduceParams p = make_params(call, axis.ints(), !axis.given() || axis.n == 0, true);
  if (!p.columns) p.parts = shared_parts(p);
  prepared.estimate_ns = static_cast<double>(call.in[0].numel()) * 0.1;
  prepared.set(p);
}

}  // namespace
}  // namespace lc::cpu

LC_KERNELS(reduce) {
  using namespace lc::cpu;
  const auto add = [&kernels](const char* op, auto prepare, auto launch) {
    kernels.push_back({.op = op,
                       .name = "simd",
                       .isa = isa_name(),
                       .prepare = prepare,
                       .launch = launch,
                       .floats = kFloatTypes});
  };
  add("sum", prepare_reduce, LC_KERNEL_PTR(LaunchSum));
  add("mean", prepare_reduce, LC_KERNEL_PTR(LaunchSum));
  add("max", prepare_reduce, LC_KERNEL_PTR(LaunchMax));
  add("min", prepare_reduce, LC_KERNEL_PTR(LaunchMin));
  add("argmax", prepare_arg, LC_KERNEL_PTR(LaunchArgMax));
  add("argmin", prepare_arg, LC_KERNEL_PTR(LaunchArgMin));
}
#endif
