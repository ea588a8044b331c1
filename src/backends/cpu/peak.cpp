// Measured limits of the CPU: fused multiply-adds on registers, and a large streaming copy.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/peak.cpp"
#include <cstdint>

#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// FLOPs done: `rounds` of 48 fused multiply-adds in 12 independent chains, which hide a latency of
/// 4 cycles on 2 ports and still fit 16 registers. Fewer to a round, and the loop's own
/// instructions, which share those ports, cost up to a quarter.
double FmaRounds(int64_t rounds, float* sink) {
  constexpr int kChains = 12;
  constexpr int kTimes = 4;
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const V a = hn::Set(d, 0.999F);
  const V b = hn::Set(d, 0.001F);
  V x[kChains];  // different starts: equal chains would be merged by the compiler
  HWY_UNROLL(12)
  for (int c = 0; c < kChains; ++c) x[c] = hn::Iota(d, static_cast<float>(c));
  for (int64_t i = 0; i < rounds; ++i) {
    HWY_UNROLL(4)
    for (int t = 0; t < kTimes; ++t) {
      HWY_UNROLL(12)
      for (int c = 0; c < kChains; ++c) x[c] = hn::MulAdd(x[c], a, b);
    }
  }
  V sum = x[0];
  HWY_UNROLL(12)
  for (int c = 1; c < kChains; ++c) sum = hn::Add(sum, x[c]);
  *sink = hn::GetLane(hn::SumOfLanes(d, sum));
  return static_cast<double>(rounds) * kChains * kTimes * 2 * static_cast<double>(hn::Lanes(d));
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>
#include <cstddef>
#include <vector>

#include "backends/backend.hpp"
#include "backends/cpu/convert.hpp"
#include "backends/cpu/simd.hpp"
#include "backends/cpu/thread_pool.hpp"
#include "lightning_core/error.hpp"
#include "lightning_core/peak.hpp"
#include "lightning_core/tensor.hpp"
#include "lightning_core/trace.hpp"

namespace lc {
namespace cpu {
HWY_EXPORT(FmaRounds);
auto fma_rounds() { return LC_KERNEL_PTR(FmaRounds); }
}  // namespace cpu

namespace {

/// Median rate of `work`, which returns the units it did, over `seconds`.
template <typename Work>
double median_rate(double seconds, Work&& work) {
  if (!(seconds >= 0 && seconds <= 3600))
    throw_arg("measure", "seconds", "0 to 3600", cat(seconds));
  const uint64_t end = monotonic_ns() + static_cast<uint64_t>(seconds * 1e9);
  std::vector<double> rates;
  do {
    const uint64_t start = monotonic_ns();
    const double units = work();
    const auto elapsed = static_cast<double>(monotonic_ns() - start);
    if (elapsed > 0) rates.push_back(units / elapsed * 1e9);
  } while (monotonic_ns() < end || rates.empty());
  const auto middle = rates.begin() + static_cast<std::ptrdiff_t>(rates.size() / 2);
  std::nth_element(rates.begin(), middle, rates.end());
  return *middle;
}

}  // namespace

double measure_flops(double seconds) {
  (void)backend(DeviceKind::kCpu)->kernels();  // chooses the instruction set
  const auto fma = cpu::fma_rounds();
  const int threads = num_threads();
  std::vector<float> sinks(static_cast<size_t>(threads) * 16);
  return median_rate(seconds, [&] {
    std::vector<double> done(static_cast<size_t>(threads));
    parallel_for(threads, [&](int64_t t) {
      done[static_cast<size_t>(t)] = fma(1 << 15, &sinks[static_cast<size_t>(t) * 16]);
    });
    double total = 0;
    for (const double flops : done) total += flops;
    return total;
  });
}

double measure_bandwidth(double seconds) {
  (void)backend(DeviceKind::kCpu)->kernels();
  // Larger than the caches of one socket's share; a VM may report far more than it gets.
  constexpr int64_t kBytes = int64_t{256} << 20;
  const Tensor from = Tensor::zeros(Shape{kBytes / 4});
  const Tensor to = Tensor::zeros(Shape{kBytes / 4});
  return median_rate(seconds, [&] {
    cpu::strided_copy(from.view(), to.view());
    return 2.0 * static_cast<double>(kBytes);
  });
}

Peak measure_peak(double seconds) { return {measure_flops(seconds), measure_bandwidth(seconds)}; }

}  // namespace lc
#endif  // HWY_ONCE
