// copy, reshape, transpose, slice, broadcast_to: one strided copy of elements of 1, 2, 4 or 8
// bytes.
#include "backends/cpu/convert.hpp"
#include "backends/cpu/elementwise.hpp"
#include "backends/cpu/kernel_list.hpp"
#include "backends/cpu/simd.hpp"
#include "backends/cpu/strided_loop.hpp"
#include "backends/cpu/thread_pool.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/kernels/copy.cpp"
#include "hwy/foreach_target.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <typename T>
void TransposeScalar(const char* src, int64_t sp, char* dst, int64_t dp, int64_t rows,
                     int64_t cols) {
  for (int64_t c = 0; c < cols; ++c)
    for (int64_t r = 0; r < rows; ++r)
      hwy::CopyBytes<sizeof(T)>(src + r * sp + c * static_cast<int64_t>(sizeof(T)),
                                dst + c * dp + r * static_cast<int64_t>(sizeof(T)));
}

#if HWY_TARGET != HWY_EMU128 && HWY_TARGET != HWY_SCALAR
template <class D>
HWY_INLINE hn::Vec<D> Row(D d, const char* p) {
  return hn::LoadU(d, reinterpret_cast<const hn::TFromD<D>*>(p));
}
template <class D>
HWY_INLINE void PutRow(hn::Vec<D> v, D d, char* p) {
  hn::StoreU(v, d, reinterpret_cast<hn::TFromD<D>*>(p));
}

// 4 x 4 of 4-byte elements in each 128-bit block: rows in, columns out.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void Transpose4(D d, V& a, V& b, V& c, V& e) {
  const V ac0 = hn::InterleaveLower(d, a, c);
  const V ac1 = hn::InterleaveUpper(d, a, c);
  const V be0 = hn::InterleaveLower(d, b, e);
  const V be1 = hn::InterleaveUpper(d, b, e);
  a = hn::InterleaveLower(d, ac0, be0);
  b = hn::InterleaveUpper(d, ac0, be0);
  c = hn::InterleaveLower(d, ac1, be1);
  e = hn::InterleaveUpper(d, ac1, be1);
}

#if HWY_TARGET <= HWY_AVX2 && HWY_ARCH_X86
constexpr int64_t kTile4 = 8;
HWY_INLINE void Tile4(const char* src, int64_t sp, char* dst, int64_t dp) {
  const hn::CappedTag<uint32_t, 8> d;
  using V = hn::Vec<decltype(d)>;
  V r0 = Row(d, src), r1 = Row(d, src + sp), r2 = Row(d, src + 2 * sp), r3 = Row(d, src + 3 * sp);
  V r4 = Row(d, src + 4 * sp), r5 = Row(d, src + 5 * sp), r6 = Row(d, src + 6 * sp),
    r7 = Row(d, src + 7 * sp);
  Transpose4(d, r0, r1, r2, r3);
  Transpose4(d, r4, r5, r6, r7);
  PutRow(hn::ConcatLowerLower(d, r4, r0), d, dst);
  PutRow(hn::ConcatLowerLower(d, r5, r1), d, dst + dp);
  PutRow(hn::ConcatLowerLower(d, r6, r2), d, dst + 2 * dp);
  PutRow(hn::ConcatLowerLower(d, r7, r3), d, dst + 3 * dp);
  PutRow(hn::ConcatUpperUpper(d, r4, r0), d, dst + 4 * dp);
  PutRow(hn::ConcatUpperUpper(d, r5, r1), d, dst + 5 * dp);
  PutRow(hn::ConcatUpperUpper(d, r6, r2), d, dst + 6 * dp);
  PutRow(hn::ConcatUpperUpper(d, r7, r3), d, dst + 7 * dp);
}
constexpr int64_t kTile8 = 4;
HWY_INLINE void Tile8(const char* src, int64_t sp, char* dst, int64_t dp) {
  const hn::CappedTag<uint64_t, 4> d;
  const auto r0 = Row(d, src), r1 = Row(d, src + sp), r2 = Row(d, src + 2 * sp),
             r3 = Row(d, src + 3 * sp);
  const auto a0 = hn::InterleaveLower(d, r0, r1), a1 = hn::InterleaveUpper(d, r0, r1);
  const auto b0 = hn::InterleaveLower(d, r2, r3), b1 = hn::InterleaveUpper(d, r2, r3);
  PutRow(hn::ConcatLowerLower(d, b0, a0), d, dst);
  PutRow(hn::ConcatLowerLower(d, b1, a1), d, dst + dp);
  PutRow(hn::ConcatUpperUpper(d, b0, a0), d, dst + 2 * dp);
  PutRow(hn::ConcatUpperUpper(d, b1, a1), d, dst + 3 * dp);
}
#else
constexpr int64_t kTile4 = 4;
HWY_INLINE void Tile4(const char* src, int64_t sp, char* dst, int64_t dp) {
  const hn::CappedTag<uint32_t, 4> d;
  auto r0 = Row(d, src), r1 = Row(d, src + sp), r2 = Row(d, src + 2 * sp),
       r3 = Row(d, src + 3 * sp);
  Transpose4(d, r0, r1, r2, r3);
  PutRow(r0, d, dst);
  PutRow(r1, d, dst + dp);
  PutRow(r2, d, dst + 2 * dp);
  PutRow(r3, d, dst + 3 * dp);
}
constexpr int64_t kTile8 = 2;
HWY_INLINE void Tile8(const char* src, int64_t sp, char* dst, int64_t dp) {
  const hn::CappedTag<uint64_t, 2> d;
  const auto r0 = Row(d, src), r1 = Row(d, src + sp);
  PutRow(hn::InterleaveLower(d, r0, r1), d, dst);
  PutRow(hn::InterleaveUpper(d, r0, r1), d, dst + dp);
}
#endif

template <typename T, int64_t kN, void (*kTileFn)(const char*, int64_t, char*, int64_t)>
void TransposeTiles(const char* src, int64_t sp, char* dst, int64_t dp, int64_t rows,
                    int64_t cols) {
  constexpr int64_t kSize = sizeof(T);
  const int64_t full_rows = rows / kN * kN;
  const int64_t full_cols = cols / kN * kN;
  for (int64_t c = 0; c < full_cols; c += kN)
    for (int64_t r = 0; r < full_rows; r += kN)
      kTileFn(src + r * sp + c * kSize, sp, dst + c * dp + r * kSize, dp);
  if (full_rows < rows && full_cols > 0)
    TransposeScalar<T>(src + full_rows * sp, sp, dst + full_rows * kSize, dp, rows - full_rows,
                       full_cols);
  if (full_cols < cols)
    TransposeScalar<T>(src + full_cols * kSize, sp, dst + full_cols * dp, dp, rows,
                       cols - full_cols);
}
#endif  // vectors

void TransposeBlock(const char* src, int64_t sp, char* dst, int64_t dp, int64_t rows, int64_t cols,
                    int64_t size) {
  switch (size) {
    case 1:
      TransposeScalar<uint8_t>(src, sp, dst, dp, rows, cols);
      break;
    case 2:
      TransposeScalar<uint16_t>(src, sp, dst, dp, rows, cols);
      break;
#if HWY_TARGET == HWY_EMU128 || HWY_TARGET == HWY_SCALAR
    case 4:
      TransposeScalar<uint32_t>(src, sp, dst, dp, rows, cols);
      break;
    default:
      TransposeScalar<uint64_t>(src, sp, dst, dp, rows, cols);
      break;
#else
    case 4:
      TransposeTiles<uint32_t, kTile4, Tile4>(src, sp, dst, dp, rows, cols);
      break;
    default:
      TransposeTiles<uint64_t, kTile8, Tile8>(src, sp, dst, dp, rows, cols);
      break;
#endif
  }
}

void StreamBytes(const void* src, void* dst, int64_t bytes) {
  const hn::ScalableTag<uint8_t> d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  const auto* s = static_cast<const uint8_t*>(src);
  auto* p = static_cast<uint8_t*>(dst);
  const int64_t head =
      std::min(bytes, static_cast<int64_t>(-reinterpret_cast<intptr_t>(p) & (step - 1)));
  std::memcpy(p, s, static_cast<size_t>(head));
  int64_t i = head;
  for (; i + 4 * step <= bytes; i += 4 * step) {
    const auto a = hn::LoadU(d, s + i), b = hn::LoadU(d, s + i + step);
    const auto c = hn::LoadU(d, s + i + 2 * step), e = hn::LoadU(d, s + i + 3 * step);
    hn::Stream(a, d, p + i);
    hn::Stream(b, d, p + i + step);
    hn::Stream(c, d, p + i + 2 * step);
    hn::Stream(e, d, p + i + 3 * step);
  }
  for (; i + step <= bytes; i += step) hn::Stream(hn::LoadU(d, s + i), d, p + i);
  std::memcpy(p + i, s + i, static_cast<size_t>(bytes - i));
  hwy::FlushStream();
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lc::cpu {
HWY_EXPORT(TransposeBlock);
HWY_EXPORT(StreamBytes);

void transpose_block(const char* src, int64_t src_pitch, char* dst, int64_t dst_pitch, int64_t rows,
                     int64_t cols, int64_t size) {
  HWY_DYNAMIC_DISPATCH(TransposeBlock)(src, src_pitch, dst, dst_pitch, rows, cols, size);
}
void stream_bytes(const void* src, void* dst, int64_t bytes) {
  HWY_DYNAMIC_DISPATCH(StreamBytes)(src, dst, bytes);
}

namespace {

constexpr double kByteNs = 0.03;        ///< copying one byte in cache
constexpr int64_t kRowUnit = 64 << 10;  ///< bytes of one unit of a row copy
constexpr int64_t kTransposeTile = 64;  ///< elements of the side of a transposed unit

/// Rows that are contiguous on both sides.
void copy_rows(const StridedLoop& l, int64_t size, bool stream) {
  const int64_t bytes = l.inner() * size;
  const int64_t cuts = (bytes + kRowUnit - 1) / kRowUnit;
  const int64_t cut = (bytes / cuts + 63) / 64 * 64;
  const int64_t rows = l.outer(l.rank - 1);
  const double ns = 3 + kByteNs * static_cast<double>(bytes / cuts);
  parallel_ranges(rows * cuts, range_grain(rows * cuts, ns), [&](int64_t begin, int64_t end) {
    const auto put = [stream](char* dst, const char* src, int64_t n) {
      if (n <= 0) return;
      if (stream && n >= 256) {
        stream_bytes(src, dst, n);
      } else {
        std::memcpy(dst, src, static_cast<size_t>(n));
      }
    };
    if (cuts == 1) {
      for_outer(l, l.rank - 1, begin, end, [&](char* const* p) { put(p[0], p[1], bytes); });
      return;
    }
    while (begin < end) {
      const int64_t row = begin / cuts;
      const int64_t stop = std::min(end, (row + 1) * cuts);
      const int64_t b = std::min(bytes, (begin - row * cuts) * cut);
      const int64_t e =
          stop == (row + 1) * cuts ? bytes : std::min(bytes, (stop - row * cuts) * cut);
      for_outer(l, l.rank - 1, row, row + 1,
                [&](char* const* p) { put(p[0] + b, p[1] + b, e - b); });
      begin = stop;
    }
  });
}

/// The source is contiguous along dim rank - 2, the destination along the last.
void copy_transposed(const StridedLoop& l, int64_t size) {
  const int64_t cols = l.extent[l.rank - 2];  // of the source
  const int64_t rows = l.inner();
  const int64_t sp = l.inner_stride(1);
  const int64_t dp = l.stride[0][l.rank - 2];
  const int64_t row_units = (rows + kTransposeTile - 1) / kTransposeTile;
  const int64_t col_units = (cols + kTransposeTile - 1) / kTransposeTile;
  const int64_t per_outer = row_units * col_units;
  const int64_t units = l.outer(l.rank - 2) * per_outer;
  const double elements =
      static_cast<double>(std::min(rows, kTransposeTile) * std::min(cols, kTransposeTile));
  parallel_ranges(units, range_grain(units, 5 + elements * 0.5), [&](int64_t begin, int64_t end) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t o = u / per_outer;
      const int64_t r0 = (u % per_outer) % row_units * kTransposeTile;
      const int64_t c0 = (u % per_outer) / row_units * kTransposeTile;
      for_outer(l, l.rank - 2, o, o + 1, [&](char* const* p) {
        transpose_block(p[1] + r0 * sp + c0 * size, sp, p[0] + c0 * dp + r0 * size, dp,
                        std::min(kTransposeTile, rows - r0), std::min(kTransposeTile, cols - c0),
                        size);
      });
    }
  });
}

template <typename T>
void fill_elements(const char* src, char* dst, int64_t n) {
  T v;
  std::memcpy(&v, src, sizeof v);
  for (int64_t i = 0; i < n; ++i)
    std::memcpy(dst + i * static_cast<int64_t>(sizeof v), &v, sizeof v);
}
void fill_row(const char* src, char* dst, int64_t n, int64_t size) {
  switch (size) {
    case 1:
      std::memset(dst, *src, static_cast<size_t>(n));
      break;
    case 2:
      fill_elements<uint16_t>(src, dst, n);
      break;
    case 4:
      fill_elements<uint32_t>(src, dst, n);
      break;
    default:
      fill_elements<uint64_t>(src, dst, n);
      break;
  }
}

/// What the output copies: a window on the input, as the op's view() gives it.
struct Window {
  int64_t offset;  ///< bytes from the input's data
  Strides strides;
  bool reshaped;  ///< no window: the (row-major) output is written in the input's shape
};

void prepare_copy(const OpCall& call, const DeviceInfo&, Prepared& prepared) {
  const View& in = call.in[0];
  Window w{0, in.strides, false};
  if (call.op->view != nullptr) {
    View v;
    if (call.op->view(call, &v)) {
      w.offset = static_cast<const char*>(v.data) - static_cast<const char*>(in.data);
      w.strides = v.strides;
    } else {
      w.reshaped = true;
      prepared.contiguous_outputs = 1;
    }
  }
  prepared.estimate_ns = static_cast<double>(call.out[0].nbytes()) * kByteNs;
  prepared.set(w);
}

void launch_copy(const Launch& launch) {
  const auto& w = launch.prepared.get<Window>();
  View from = launch.in[0];
  View to = launch.out[0];
  if (w.reshaped) {
    to.shape = from.shape;
    to.strides = contiguous_strides(to.shape);
  } else {
    from.data = from.ptr<char>() + w.offset;
    from.shape = to.shape;
    from.strides = w.strides;
  }
  strided_copy(from, to);
}

}  // namespace

void strided_copy(const View& from, const View& to) {
  const int64_t size = dtype_size(to.dtype);
  if (to.numel() == 0) return;
  const View* views[2] = {&to, &from};
  StridedLoop l = make_loop(to.shape, views, 2);
  if (l.inner_stride(0) == size && l.inner_stride(1) == size) {
    if (l.rank == 1 && l.inner() * size <= kRowUnit) {
      std::memcpy(l.base[0], l.base[1], static_cast<size_t>(l.inner() * size));
      return;
    }
    copy_rows(l, size, worth_streaming(2 * to.nbytes()));
    return;
  }
  if (l.rank > 1 && l.inner_stride(0) == size && l.inner_stride(1) != 0) {
    for (int i = 0; i + 1 < l.rank; ++i) {
      if (l.stride[1][i] != size) continue;
      l.move_dim(i, l.rank - 2);
      copy_transposed(l, size);
      return;
    }
  }
  const bool fill = l.inner_stride(0) == size && l.inner_stride(1) == 0;
  const int64_t n = l.inner();
  const int64_t rows = l.outer(l.rank - 1);
  if (rows == 1) {  // one long strided row
    const int64_t ds = l.inner_stride(0);
    const int64_t ss = l.inner_stride(1);
    parallel_ranges(n, range_grain(n, fill ? 0.1 : 0.7), [&](int64_t b, int64_t e) {
      if (fill) {
        fill_row(l.base[1], l.base[0] + b * ds, e - b, size);
      } else {
        copy_row(l.base[1] + b * ss, ss, l.base[0] + b * ds, ds, e - b, size);
      }
    });
    return;
  }
  const double ns = 3 + (fill ? 0.1 : 0.7) * static_cast<double>(n);
  parallel_ranges(rows, range_grain(rows, ns), [&](int64_t begin, int64_t end) {
    for_outer(l, l.rank - 1, begin, end, [&](char* const* p) {
      if (fill) {
        fill_row(p[1], p[0], n, size);
      } else {
        copy_row(p[1], l.inner_stride(1), p[0], l.inner_stride(0), n, size);
      }
    });
  });
}

}  // namespace lc::cpu

LC_KERNELS(copy) {
  for (const char* op : {"copy", "reshape", "transpose", "slice", "broadcast_to"})
    kernels.push_back({.op = op,
                       .name = "strided",
                       .isa = lc::cpu::isa_name(),
                       .prepare = lc::cpu::prepare_copy,
                       .launch = lc::cpu::launch_copy,
                       .floats = kFloatTypes});
}
#endif
