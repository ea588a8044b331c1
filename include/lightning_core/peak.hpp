// What this machine can do at most, measured: the denominators of every "share of peak".
#pragma once

namespace lc {

struct Peak {
  double flops = 0;      ///< float32 FLOP/s of independent fused multiply-adds, all threads
  double bandwidth = 0;  ///< bytes/s of a copy far past the caches, read plus written, all threads
};

/// Takes about `seconds` each. Measured anew at every call; nothing is cached.
[[nodiscard]] Peak measure_peak(double seconds = 0.2);

}  // namespace lc
