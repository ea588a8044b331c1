// What this machine can do at most, measured: the denominators of every "share of peak".
//
// A virtual machine's clock moves with its neighbours and with the width of the vectors in use, by
// a third within milliseconds, so each rate is the median over its window: not the luckiest moment.
// A share of peak wants both figures from the same second; see docs/performance.md.
#pragma once

namespace lc {

/// float32 FLOP/s of independent fused multiply-adds on registers, all threads. Takes about
/// `seconds`; measured anew at every call. Throws kInvalidValue unless `seconds` is 0 to 3600.
[[nodiscard]] double measure_flops(double seconds = 0.1);

/// Bytes/s of a copy far past the caches (256 MiB), read plus written, all threads. Takes about
/// `seconds`, at least one copy; measured anew at every call.
[[nodiscard]] double measure_bandwidth(double seconds = 0.1);

struct Peak {
  double flops = 0;      ///< measure_flops()
  double bandwidth = 0;  ///< measure_bandwidth()
};

/// Both, about `seconds` each.
[[nodiscard]] Peak measure_peak(double seconds = 0.2);

}  // namespace lc
