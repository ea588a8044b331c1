// where: out = condition ? a : b, by element size; all three operands broadcast.
#include "backends/cpu/elementwise.hpp"
#include "backends/cpu/kernel_list.hpp"
#include "backends/cpu/simd.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/kernels/where.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {

// Plain loops: the compiler vectorises them for each instruction set. kStep is 0 for one value.
template <typename T, int kStepA, int kStepB>
HWY_NOINLINE void Select(const uint8_t* c, const T* a, const T* b, T* out, int64_t n) {
  const T a0 = a[0];
  const T b0 = b[0];
  for (int64_t i = 0; i < n; ++i) {
    const T x = kStepA != 0 ? a[i] : a0;
    const T y = kStepB != 0 ? b[i] : b0;
    out[i] = c[i] != 0 ? x : y;
  }
}

template <typename T>
void WhereBlock(const void* const* in, unsigned scalars, void* out, int64_t n) {
  const auto* c = static_cast<const uint8_t*>(in[0]);
  const auto* a = static_cast<const T*>(in[1]);
  const auto* b = static_cast<const T*>(in[2]);
  auto* y = static_cast<T*>(out);
  if ((scalars & 1u) != 0) {
    const bool first = c[0] != 0;
    const T* from = first ? a : b;
    const bool one = (scalars >> (first ? 1 : 2) & 1u) != 0;
    const T v = from[0];
    if (!one && from == y) return;
    for (int64_t i = 0; i < n; ++i) y[i] = one ? v : from[i];
    return;
  }
  switch (scalars >> 1) {
    case 0:
      Select<T, 1, 1>(c, a, b, y, n);
      break;
    case 1:
      Select<T, 0, 1>(c, a, b, y, n);
      break;
    case 2:
      Select<T, 1, 0>(c, a, b, y, n);
      break;
    default:
      Select<T, 0, 0>(c, a, b, y, n);
      break;
  }
}

BlockFn FindWhere(int64_t size) {
  switch (size) {
    case 1:
      return WhereBlock<uint8_t>;
    case 2:
      return WhereBlock<uint16_t>;
    case 4:
      return WhereBlock<uint32_t>;
    default:
      return WhereBlock<uint64_t>;
  }
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lc::cpu {
HWY_EXPORT(FindWhere);
namespace {

void prepare_where(const OpCall& call, const DeviceInfo& info, Prepared& prepared) {
  const int64_t size = dtype_size(call.out[0].dtype);
  prepare_elementwise(call, info, HWY_DYNAMIC_DISPATCH(FindWhere)(size),
                      0.03 * static_cast<double>(size), false, prepared);
}

}  // namespace
}  // namespace lc::cpu

LC_KERNELS(where) {
  kernels.push_back({.op = "where",
                     .name = "simd",
                     .isa = lc::cpu::isa_name(),
                     .prepare = lc::cpu::prepare_where,
                     .launch = lc::cpu::launch_elementwise,
                     .floats = kFloatTypes});
}
#endif
