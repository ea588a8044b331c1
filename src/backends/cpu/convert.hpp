// Strided copies and conversions of whole views, for kernels and for the planner's own steps.
#pragma once

#include <cstdint>

#include "lightning_core/tensor.hpp"

namespace lc::cpu {

/// to[i] = from[i], converted where the dtypes differ (floats round to nearest even; floats to
/// integers truncate and saturate, NaN gives 0; anything to bool is != 0). Any strides; `from`
/// broadcasts to `to.shape`. Threads where it is large. The views must not overlap.
void strided_convert(const View& from, const View& to);

/// Same dtype only.
void strided_copy(const View& from, const View& to);

/// dst[c * dst_pitch + r] = src[r * src_pitch + c] for r < rows, c < cols, in elements of `size`
/// (1, 2, 4 or 8) bytes; pitches in bytes. One thread.
void transpose_block(const char* src, int64_t src_pitch, char* dst, int64_t dst_pitch, int64_t rows,
                     int64_t cols, int64_t size);

/// memcpy with non-temporal stores, for outputs too large to stay in a cache. One thread.
void stream_bytes(const void* src, void* dst, int64_t bytes);
/// True if a pass over `traffic` bytes, read and written, should write past the caches. Virtual
/// machines report the whole host's level 3 cache, so what is reported is capped.
inline constexpr int64_t kMaxL3Share = 32 << 20;
[[nodiscard]] constexpr bool worth_streaming(int64_t traffic, int64_t l3_bytes = kMaxL3Share) {
  return traffic > (l3_bytes < kMaxL3Share ? l3_bytes : kMaxL3Share);
}

/// Converts n contiguous elements; null where `from` == `to` or either is kNone.
using CastFn = void (*)(const void* in, void* out, int64_t n);
[[nodiscard]] CastFn cast_function(DType from, DType to);

}  // namespace lc::cpu
