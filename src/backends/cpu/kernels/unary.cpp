// All unary elementwise kernels, from the rows of ops/unary.inc.
#include <algorithm>
#include <iterator>

#include "backends/cpu/elementwise.hpp"
#include "backends/cpu/kernel_list.hpp"
#include "backends/cpu/simd.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/kernels/unary.cpp"
#include "hwy/foreach_target.h"
#include "backends/cpu/vector_math-inl.h"
#include "hwy/highway.h"

#ifndef LC_UNARY_ENTRY
#define LC_UNARY_ENTRY
namespace lc::cpu {
struct UnaryEntry {
  const char* op;
  void (*prepare)(const OpCall&, const DeviceInfo&, Prepared&);
};
struct UnaryTable {
  const UnaryEntry* entries;
  size_t n;
};
}  // namespace lc::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#define LC_UNARY(name, SimdName, expr, flops, ...) \
  struct Op_##name {                               \
    static constexpr double kFlops = flops;        \
    template <class D, class V>                    \
    static HWY_INLINE V Run(D d, V x) {            \
      return SimdName(d, x);                       \
    }                                              \
  };
#include "ops/unary.inc"
#undef LC_UNARY

/// Cheap enough to be limited by memory.
template <class Op>
constexpr bool kStreams = Op::kFlops <= 4;

template <class Op, typename T>
void UnaryBlock(const void* const* in, unsigned scalars, void* out, int64_t n) {
  const hn::ScalableTag<T> d;
  const auto N = static_cast<int64_t>(hn::Lanes(d));
  const T* x = static_cast<const T*>(in[0]);
  T* y = static_cast<T*>(out);
  const bool stream = (scalars & kStreamOut) != 0;
  if (HWY_UNLIKELY((scalars & ~kStreamOut) != 0)) {
    T one;
    UnaryBlock<Op, T>(in, 0, &one, 1);
    std::fill_n(y, n, one);
    return;
  }
  // The last, partial vector first: in place, its input must be read before the loop writes it.
  alignas(64) T part[hn::MaxLanes(d)];
  const int64_t rest = n & (N - 1);
  auto last = hn::Zero(d);
  if (rest != 0) {
    const T* from = x + n - N;
    if (n < N) {
      for (int64_t i = 0; i < N; ++i) part[i] = x[i < n ? i : 0];
      from = part;
    }
    last = Op::Run(d, hn::LoadU(d, from));
  }
  int64_t i = 0;
  if constexpr (kStreams<Op>) {
    for (; i + 4 * N <= n; i += 4 * N) {
      const auto a = Op::Run(d, hn::LoadU(d, x + i));
      const auto b = Op::Run(d, hn::LoadU(d, x + i + N));
      const auto c = Op::Run(d, hn::LoadU(d, x + i + 2 * N));
      const auto e = Op::Run(d, hn::LoadU(d, x + i + 3 * N));
      if (HWY_UNLIKELY(stream)) {
        hn::Stream(a, d, y + i);
        hn::Stream(b, d, y + i + N);
        hn::Stream(c, d, y + i + 2 * N);
        hn::Stream(e, d, y + i + 3 * N);
        continue;
      }
      hn::StoreU(a, d, y + i);
      hn::StoreU(b, d, y + i + N);
      hn::StoreU(c, d, y + i + 2 * N);
      hn::StoreU(e, d, y + i + 3 * N);
    }
  }
  for (; i + N <= n; i += N) hn::StoreU(Op::Run(d, hn::LoadU(d, x + i)), d, y + i);
  if (rest != 0) {
    if (n < N) {
      hn::StoreU(last, d, part);
      for (int64_t k = 0; k < n; ++k) y[k] = part[k];
    } else {
      hn::StoreU(last, d, y + n - N);
    }
  }
}

/// Nanoseconds of one element: two vector instructions a cycle at about 2.5 GHz.
template <class Op, typename T>
double ElementNs() {
  const double bytes = static_cast<double>(hn::Lanes(hn::ScalableTag<T>()) * sizeof(T));
  return static_cast<double>(sizeof(T)) * std::max(0.02, 0.2 * Op::kFlops / bytes);
}

template <class Op>
void PrepareUnary(const OpCall& call, const DeviceInfo& info, Prepared& prepared) {
  if (call.out[0].dtype == DType::kFloat64) {
    prepare_elementwise(call, info, UnaryBlock<Op, double>, ElementNs<Op, double>(), kStreams<Op>,
                        prepared);
  } else {
    prepare_elementwise(call, info, UnaryBlock<Op, float>, ElementNs<Op, float>(), kStreams<Op>,
                        prepared, true);
  }
}

UnaryTable Unaries() {
  static constexpr UnaryEntry kEntries[] = {
#define LC_UNARY(name, ...) {#name, PrepareUnary<Op_##name>},
#include "ops/unary.inc"
#undef LC_UNARY
  };
  return {kEntries, std::size(kEntries)};
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lc::cpu {
HWY_EXPORT(Unaries);
}

LC_KERNELS(unary) {
  using namespace lc::cpu;
  const UnaryTable table = HWY_DYNAMIC_DISPATCH(Unaries)();
  for (size_t i = 0; i < table.n; ++i)
    kernels.push_back({.op = table.entries[i].op,
                       .name = "simd",
                       .isa = isa_name(),
                       .prepare = table.entries[i].prepare,
                       .launch = launch_elementwise,
                       .floats = kFloatTypes});
}
#endif
