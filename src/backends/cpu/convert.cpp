#include "backends/cpu/convert.hpp"

#include <algorithm>

#include "backends/cpu/elementwise.hpp"
#include "backends/cpu/strided_loop.hpp"
#include "backends/cpu/thread_pool.hpp"

namespace lc::cpu {
namespace {

constexpr int64_t kTile = 1024;  ///< elements converted through the stack at a time

/// n contiguous elements, written past the caches.
void convert_streaming(CastFn cast, const char* src, int64_t from_size, char* dst, int64_t to_size,
                       int64_t n) {
  alignas(64) char out[kTile * 8];
  for (int64_t i = 0; i < n; i += kTile) {
    const int64_t m = std::min(kTile, n - i);
    cast(src + i * from_size, out, m);
    stream_bytes(out, dst + i * to_size, m * to_size);
  }
}

/// n elements of one row, through tiles where a side is strided.
void convert_row(CastFn cast, const char* src, int64_t ss, int64_t from_size, char* dst, int64_t ds,
                 int64_t to_size, int64_t n) {
  if (ss == from_size && ds == to_size) {
    cast(src, dst, n);
    return;
  }
  alignas(64) char in[kTile * 8];
  alignas(64) char out[kTile * 8];
  for (int64_t i = 0; i < n; i += kTile) {
    const int64_t m = std::min(kTile, n - i);
    const char* s = src + i * ss;
    char* d = dst + i * ds;
    if (ss != from_size) {
      copy_row(s, ss, in, from_size, m, from_size);
      s = in;
    }
    cast(s, ds == to_size ? d : out, m);
    if (ds != to_size) copy_row(out, to_size, d, ds, m, to_size);
  }
}

}  // namespace

void strided_convert(const View& from, const View& to) {
  if (from.dtype == to.dtype) {
    strided_copy(from, to);
    return;
  }
  if (to.numel() == 0) return;
  const CastFn cast = cast_function(from.dtype, to.dtype);
  const int64_t from_size = dtype_size(from.dtype);
  const int64_t to_size = dtype_size(to.dtype);
  const View* views[2] = {&to, &from};
  const StridedLoop l = make_loop(to.shape, views, 2);
  const int64_t n = l.inner();
  const int64_t ds = l.inner_stride(0);
  const int64_t ss = l.inner_stride(1);
  const bool dense = ds == to_size && ss == from_size;
  const double ns = dense ? 0.1 : 1.5;
  if (l.rank == 1) {
    // Through a tile, streaming pays only from twice the size on.
    if (dense && worth_streaming(n * (from_size + to_size) / 2)) {
      parallel_ranges(n, range_grain(n, ns), [&](int64_t b, int64_t e) {
        convert_streaming(cast, l.base[1] + b * ss, from_size, l.base[0] + b * ds, to_size, e - b);
      });
      return;
    }
    parallel_ranges(n, range_grain(n, ns), [&](int64_t b, int64_t e) {
      convert_row(cast, l.base[1] + b * ss, ss, from_size, l.base[0] + b * ds, ds, to_size, e - b);
    });
    return;
  }
  const int64_t rows = l.outer(l.rank - 1);
  parallel_ranges(rows, range_grain(rows, 5 + ns * static_cast<double>(n)),
                  [&](int64_t begin, int64_t end) {
                    for_outer(l, l.rank - 1, begin, end, [&](char* const* p) {
                      convert_row(cast, p[1], ss, from_size, p[0], ds, to_size, n);
                    });
                  });
}

}  // namespace lc::cpu
