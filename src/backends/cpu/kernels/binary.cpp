// All binary elementwise kernels and comparisons, from the rows of ops/binary.inc.
#include <algorithm>
#include <iterator>

#include "backends/cpu/elementwise.hpp"
#include "backends/cpu/kernel_list.hpp"
#include "backends/cpu/simd.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/kernels/binary.cpp"
#include "hwy/foreach_target.h"
#include "backends/cpu/vector_math-inl.h"
#include "hwy/highway.h"

#ifndef LC_BINARY_ENTRY
#define LC_BINARY_ENTRY
namespace lc::cpu {
struct BinaryEntry {
  const char* op;
  void (*prepare)(const OpCall&, const DeviceInfo&, Prepared&);
};
struct BinaryTable {
  const BinaryEntry* entries;
  size_t n;
};
}  // namespace lc::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#define LC_BINARY(name, SimdName, expr, flops, ...) \
  struct Op_##name {                                \
    static constexpr double kFlops = flops;         \
    template <class D, class V>                     \
    static HWY_INLINE V Run(D d, V a, V b) {        \
      return SimdName(d, a, b);                     \
    }                                               \
  };
#define LC_COMPARE(name, SimdName, ...)                \
  struct Op_##name {                                   \
    template <class D, class V>                        \
    static HWY_INLINE hn::Mask<D> Run(D d, V a, V b) { \
      return SimdName(d, a, b);                        \
    }                                                  \
  };
#include "ops/binary.inc"
#undef LC_BINARY
#undef LC_COMPARE

/// Cheap enough to be limited by memory.
template <class Op>
constexpr bool kStreams = Op::kFlops <= 4;

/// kStep is 0 for an operand of one value.
template <class Op, typename T, int kStepA, int kStepB>
HWY_NOINLINE void BinaryLoop(const T* a, const T* b, T* y, int64_t n, bool stream = false) {
  const hn::ScalableTag<T> d;
  const auto N = static_cast<int64_t>(hn::Lanes(d));
  const auto a0 = hn::Set(d, a[0]);
  const auto b0 = hn::Set(d, b[0]);
  const auto run = [&](const T* pa, const T* pb, int64_t i) HWY_ATTR {
    return Op::Run(d, kStepA != 0 ? hn::LoadU(d, pa + i) : a0,
                   kStepB != 0 ? hn::LoadU(d, pb + i) : b0);
  };
  // The last, partial vector first: in place, its input must be read before the loop writes it.
  alignas(64) T part[2][hn::MaxLanes(d)];
  const int64_t rest = n & (N - 1);
  auto last = hn::Zero(d);
  if (rest != 0) {
    if (n < N) {
      for (int64_t i = 0; i < N; ++i) {
        part[0][i] = a[i < n ? i * kStepA : 0];
        part[1][i] = b[i < n ? i * kStepB : 0];
      }
    }
    last = n < N ? run(part[0], part[1], 0) : run(a, b, n - N);
  }
  int64_t i = 0;
  if constexpr (kStreams<Op>) {
    for (; i + 4 * N <= n; i += 4 * N) {
      const auto v0 = run(a, b, i);
      const auto v1 = run(a, b, i + N);
      const auto v2 = run(a, b, i + 2 * N);
      const auto v3 = run(a, b, i + 3 * N);
      if (HWY_UNLIKELY(stream)) {
        hn::Stream(v0, d, y + i);
        hn::Stream(v1, d, y + i + N);
        hn::Stream(v2, d, y + i + 2 * N);
        hn::Stream(v3, d, y + i + 3 * N);
        continue;
      }
      hn::StoreU(v0, d, y + i);
      hn::StoreU(v1, d, y + i + N);
      hn::StoreU(v2, d, y + i + 2 * N);
      hn::StoreU(v3, d, y + i + 3 * N);
    }
  }
  for (; i + N <= n; i += N) hn::StoreU(run(a, b, i), d, y + i);
  if (rest != 0) {
    if (n < N) {
      hn::StoreU(last, d, part[0]);
      for (int64_t k = 0; k < n; ++k) y[k] = part[0][k];
    } else {
      hn::StoreU(last, d, y + n - N);
    }
  }
}

template <class Op, typename T>
void BinaryBlock(const void* const* in, unsigned scalars, void* out, int64_t n) {
  const T* a = static_cast<const T*>(in[0]);
  const T* b = static_cast<const T*>(in[1]);
  T* y = static_cast<T*>(out);
  const bool stream = (scalars & kStreamOut) != 0;
  switch (scalars & ~kStreamOut) {
    case 0:
      BinaryLoop<Op, T, 1, 1>(a, b, y, n, stream);
      break;
    case 1:
      BinaryLoop<Op, T, 0, 1>(a, b, y, n, stream);
      break;
    case 2:
      BinaryLoop<Op, T, 1, 0>(a, b, y, n, stream);
      break;
    default: {
      T one;
      BinaryLoop<Op, T, 1, 0>(a, b, &one, 1);
      std::fill_n(y, n, one);
    }
  }
}

/// One byte, 0 or 1, for each lane.
template <class D>
HWY_INLINE void StoreMask(D d, hn::Mask<D> m, uint8_t* y) {
  const hn::RebindToUnsigned<D> du;
  using U = hn::TFromD<decltype(du)>;
  const auto ones = hn::And(hn::BitCast(du, hn::VecFromMask(d, m)), hn::Set(du, U{1}));
  const hn::Rebind<uint8_t, D> d8;
  hn::StoreU(hn::TruncateTo(d8, ones), d8, y);
}

template <class Op, typename T, int kStepA, int kStepB>
HWY_NOINLINE void CompareLoop(const T* a, const T* b, uint8_t* y, int64_t n) {
  const hn::ScalableTag<T> d;
  const auto N = static_cast<int64_t>(hn::Lanes(d));
  const auto a0 = hn::Set(d, a[0]);
  const auto b0 = hn::Set(d, b[0]);
  int64_t i = 0;
  for (; i + N <= n; i += N)
    StoreMask(
        d,
        Op::Run(d, kStepA != 0 ? hn::LoadU(d, a + i) : a0, kStepB != 0 ? hn::LoadU(d, b + i) : b0),
        y + i);
  if (i == n) return;
  alignas(64) T part[2][hn::MaxLanes(d)];
  alignas(64) uint8_t bytes[hn::MaxLanes(d)];
  for (int64_t k = 0; k < N; ++k) {
    const int64_t j = i + k < n ? i + k : i;
    part[0][k] = a[j * kStepA];
    part[1][k] = b[j * kStepB];
  }
  StoreMask(d, Op::Run(d, hn::Load(d, part[0]), hn::Load(d, part[1])), bytes);
  for (int64_t k = 0; i + k < n; ++k) y[i + k] = bytes[k];
}

template <class Op, typename T>
void CompareBlock(const void* const* in, unsigned scalars, void* out, int64_t n) {
  const T* a = static_cast<const T*>(in[0]);
  const T* b = static_cast<const T*>(in[1]);
  auto* y = static_cast<uint8_t*>(out);
  switch (scalars) {
    case 0:
      CompareLoop<Op, T, 1, 1>(a, b, y, n);
      break;
    case 1:
      CompareLoop<Op, T, 0, 1>(a, b, y, n);
      break;
    case 2:
      CompareLoop<Op, T, 1, 0>(a, b, y, n);
      break;
    default:
      CompareLoop<Op, T, 1, 0>(a, b, y, 1);
      std::fill_n(y + 1, n - 1, y[0]);
  }
}

/// Nanoseconds of one element: two vector instructions a cycle at about 2.5 GHz.
template <typename T>
double ElementNs(double flops) {
  const double bytes = static_cast<double>(hn::Lanes(hn::ScalableTag<T>()) * sizeof(T));
  return static_cast<double>(sizeof(T)) * std::max(0.025, 0.2 * flops / bytes);
}

template <class Op>
void PrepareBinary(const OpCall& call, const DeviceInfo& info, Prepared& prepared) {
  if (call.in[0].dtype == DType::kFloat64) {
    prepare_elementwise(call, info, BinaryBlock<Op, double>, ElementNs<double>(Op::kFlops),
                        kStreams<Op>, prepared);
  } else {
    prepare_elementwise(call, info, BinaryBlock<Op, float>, ElementNs<float>(Op::kFlops),
                        kStreams<Op>, prepared, true);
  }
}

template <class Op>
void PrepareCompare(const OpCall& call, const DeviceInfo& info, Prepared& prepared) {
  if (call.in[0].dtype == DType::kFloat64) {
    prepare_elementwise(call, info, CompareBlock<Op, double>, ElementNs<double>(4), false,
                        prepared);
  } else {
    prepare_elementwise(call, info, CompareBlock<Op, float>, ElementNs<float>(4), false, prepared,
                        true);
  }
}

BinaryTable Binaries() {
  static constexpr BinaryEntry kEntries[] = {
#define LC_BINARY(name, ...) {#name, PrepareBinary<Op_##name>},
#define LC_COMPARE(name, ...) {#name, PrepareCompare<Op_##name>},
#include "ops/binary.inc"
#undef LC_BINARY
#undef LC_COMPARE
  };
  return {kEntries, std::size(kEntries)};
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lc::cpu {
HWY_EXPORT(Binaries);
}

LC_KERNELS(binary) {
  using namespace lc::cpu;
  const BinaryTable table = HWY_DYNAMIC_DISPATCH(Binaries)();
  for (size_t i = 0; i < table.n; ++i)
    kernels.push_back({.op = table.entries[i].op,
                       .name = "simd",
                       .isa = isa_name(),
                       .prepare = table.entries[i].prepare,
                       .launch = launch_elementwise,
                       .floats = kFloatTypes});
}
#endif
