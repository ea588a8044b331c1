// The one driver of elementwise kernels: unary, binary, comparison, where. A kernel gives a
// function on contiguous blocks; this brings strided and broadcast operands to it through tiles on
// the stack, never through a copy of a whole input.
#pragma once

#include <cstdint>

#include "lightning_core/kernel.hpp"

namespace lc::cpu {

/// out[i] = f(in[0][i], in[1][i], ...) for i in [0, n), n > 0. Bit k of `scalars`: in[k] points at
/// one value for all i. `out` may be one of the non-scalar inputs.
using BlockFn = void (*)(const void* const* in, unsigned scalars, void* out, int64_t n);
/// In `scalars`, for functions that say they know it: `out` is aligned to kStreamBytes and n
/// elements of it are a multiple of that; results are to be written past the caches.
inline constexpr unsigned kStreamOut = 1u << 31;
inline constexpr int64_t kStreamBytes = 256;

inline constexpr int kMaxElementwiseInputs = 3;

/// Fills `prepared` for launch_elementwise. `ns` is the time of one element on one thread, in
/// nanoseconds with the operands in cache; it decides from where on threads are used. `streams`: fn
/// knows kStreamOut; for others results pass through a tile, which costs a pass limited by memory a
/// fifth. With `wide`, `fn` computes in float32 where the operands are float16 or bfloat16: blocks
/// are converted through tiles on the stack, and `streams` is not made use of. Without it `fn`
/// takes elements as they are stored.
void prepare_elementwise(const OpCall& call, const DeviceInfo& info, BlockFn fn, double ns,
                         bool streams, Prepared& prepared, bool wide = false);
void launch_elementwise(const Launch& launch);

/// Elements per range so that `n` elements of `ns` nanoseconds each are cut into one range a
/// thread, of some microseconds at least; for parallel_ranges().
[[nodiscard]] int64_t range_grain(int64_t n, double ns);

}  // namespace lc::cpu
