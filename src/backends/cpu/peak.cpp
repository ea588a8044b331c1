// Measured limits of the CPU: fused multiply-adds on registers, and a large streaming copy.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/peak.cpp"
#include <cstdint>

#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// FLOPs done: `rounds` of 12 independent fused multiply-adds, which hide a latency of 4 cycles
/// on 2 ports and still fit 16 registers.
double FmaRounds(int64_t rounds, float* sink) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const V a = hn::Set(d, 0.999F);
  const V b = hn::Set(d, 0.001F);
  // Different starts: equal chains would be merged by the compiler.
  V x0 = hn::Iota(d, 0), x1 = hn::Iota(d, 1), x2 = hn::Iota(d, 2), x3 = hn::Iota(d, 3);
  V x4 = hn::Iota(d, 4), x5 = hn::Iota(d, 5), x6 = hn::Iota(d, 6), x7 = hn::Iota(d, 7);
  V x8 = hn::Iota(d, 8), x9 = hn::Iota(d, 9), x10 = hn::Iota(d, 10), x11 = hn::Iota(d, 11);
  for (int64_t i = 0; i < rounds; ++i) {
    x0 = hn::MulAdd(x0, a, b);
    x1 = hn::MulAdd(x1, a, b);
    x2 = hn::MulAdd(x2, a, b);
    x3 = hn::MulAdd(x3, a, b);
    x4 = hn::MulAdd(x4, a, b);
    x5 = hn::MulAdd(x5, a, b);
    x6 = hn::MulAdd(x6, a, b);
    x7 = hn::MulAdd(x7, a, b);
    x8 = hn::MulAdd(x8, a, b);
    x9 = hn::MulAdd(x9, a, b);
    x10 = hn::MulAdd(x10, a, b);
    x11 = hn::MulAdd(x11, a, b);
  }
  const V s0 = hn::Add(hn::Add(x0, x1), hn::Add(x2, x3));
  const V s1 = hn::Add(hn::Add(x4, x5), hn::Add(x6, x7));
  const V s2 = hn::Add(hn::Add(x8, x9), hn::Add(x10, x11));
  *sink = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), s2)));
  return static_cast<double>(rounds) * 12 * 2 * static_cast<double>(hn::Lanes(d));
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>
#include <vector>

#include "backends/backend.hpp"
#include "backends/cpu/convert.hpp"
#include "backends/cpu/simd.hpp"
#include "backends/cpu/thread_pool.hpp"
#include "lightning_core/peak.hpp"
#include "lightning_core/tensor.hpp"
#include "lightning_core/trace.hpp"

namespace lc {
namespace cpu {
HWY_EXPORT(FmaRounds);
}

namespace {

/// Best rate of `work`, which returns the units it did, over `seconds`.
template <typename Work>
double best_rate(double seconds, Work&& work) {
  const uint64_t end = monotonic_ns() + static_cast<uint64_t>(seconds * 1e9);
  double best = 0;
  do {
    const uint64_t start = monotonic_ns();
    const double units = work();
    const auto elapsed = static_cast<double>(monotonic_ns() - start);
    if (elapsed > 0) best = std::max(best, units / elapsed * 1e9);
  } while (monotonic_ns() < end);
  return best;
}

}  // namespace

Peak measure_peak(double seconds) {
  (void)backend(DeviceKind::kCpu)->kernels();  // chooses the instruction set
  const auto fma = LC_KERNEL_PTR(cpu::FmaRounds);
  const int threads = num_threads();
  Peak peak;
  std::vector<float> sinks(static_cast<size_t>(threads) * 16);
  peak.flops = best_rate(seconds, [&] {
    std::vector<double> done(static_cast<size_t>(threads));
    parallel_for(threads, [&](int64_t t) {
      done[static_cast<size_t>(t)] = fma(1 << 18, &sinks[static_cast<size_t>(t) * 16]);
    });
    double total = 0;
    for (const double flops : done) total += flops;
    return total;
  });
  // Larger than the caches of one socket's share; a VM may report far more than it gets.
  constexpr int64_t kBytes = int64_t{256} << 20;
  const Tensor from = Tensor::zeros(Shape{kBytes / 4});
  const Tensor to = Tensor::zeros(Shape{kBytes / 4});
  peak.bandwidth = best_rate(seconds, [&] {
    cpu::strided_copy(from.view(), to.view());
    return 2.0 * static_cast<double>(kBytes);
  });
  return peak;
}

}  // namespace lc
#endif  // HWY_ONCE
