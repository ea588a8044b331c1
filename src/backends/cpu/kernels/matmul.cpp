// matmul and linear: four candidates over one planned product (matmul_run-inl.h), whose matrices
// may have any strides.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/kernels/matmul.cpp"
#include "hwy/foreach_target.h"
#include "backends/cpu/matmul_run-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {

using Describe = MatmulPlan (*)(const OpCall&);
using Takes = Support (*)(const MatmulPlan&, const DeviceInfo&);
using Decide = void (*)(MatmulPlan, const DeviceInfo&, Prepared&);

template <Describe kDescribe, Takes kTakes>
Support SupportsPlan(const OpCall& call, const DeviceInfo& info) {
  return kTakes(kDescribe(call), info);
}

template <bool kLinear, Decide kDecide>
void PreparePlan(const OpCall& call, const DeviceInfo& info, Prepared& out) {
  out.contiguous_inputs = out.contiguous_outputs = 0;
  if constexpr (kLinear) {
    int64_t rows = 0;
    int64_t stride = 0;
    if (!collapse_rows(call.in[0], &rows, &stride)) out.contiguous_inputs |= 1;
    if (!collapse_rows(call.out[0], &rows, &stride)) out.contiguous_outputs |= 1;
  }
  kDecide(kLinear ? linear_plan(call) : matmul_plan(call), info, out);
}

Support MatmulGemvSupports(const OpCall& c, const DeviceInfo& i) {
  return SupportsPlan<matmul_plan, GemvTakes>(c, i);
}
Support MatmulDotsSupports(const OpCall& c, const DeviceInfo& i) {
  return SupportsPlan<matmul_plan, DotsTakes>(c, i);
}
Support MatmulDirectSupports(const OpCall& c, const DeviceInfo& i) {
  return SupportsPlan<matmul_plan, DirectTakes>(c, i);
}
Support LinearGemvSupports(const OpCall& c, const DeviceInfo& i) {
  return SupportsPlan<linear_plan, GemvTakes>(c, i);
}
Support LinearDotsSupports(const OpCall& c, const DeviceInfo& i) {
  return SupportsPlan<linear_plan, DotsTakes>(c, i);
}
Support LinearDirectSupports(const OpCall& c, const DeviceInfo& i) {
  return SupportsPlan<linear_plan, DirectTakes>(c, i);
}
void MatmulGemvPrepare(const OpCall& c, const DeviceInfo& i, Prepared& p) {
  PreparePlan<false, PrepareGemv>(c, i, p);
}
void MatmulDotsPrepare(const OpCall& c, const DeviceInfo& i, Prepared& p) {
  PreparePlan<false, PrepareDots>(c, i, p);
}
void MatmulDirectPrepare(const OpCall& c, const DeviceInfo& i, Prepared& p) {
  PreparePlan<false, PrepareDirect>(c, i, p);
}
void MatmulPackedPrepare(const OpCall& c, const DeviceInfo& i, Prepared& p) {
  PreparePlan<false, PreparePacked>(c, i, p);
}
void LinearGemvPrepare(const OpCall& c, const DeviceInfo& i, Prepared& p) {
  PreparePlan<true, PrepareGemv>(c, i, p);
}
void LinearDotsPrepare(const OpCall& c, const DeviceInfo& i, Prepared& p) {
  PreparePlan<true, PrepareDots>(c, i, p);
}
void LinearDirectPrepare(const OpCall& c, const DeviceInfo& i, Prepared& p) {
  PreparePlan<true, PrepareDirect>(c, i, p);
}
void LinearPackedPrepare(const OpCall& c, const DeviceInfo& i, Prepared& p) {
  PreparePlan<true, PreparePacked>(c, i, p);
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "backends/cpu/kernel_list.hpp"
#include "backends/cpu/simd.hpp"

namespace lc::cpu {
HWY_EXPORT(MatmulGemvSupports);
HWY_EXPORT(MatmulDotsSupports);
HWY_EXPORT(MatmulDirectSupports);
HWY_EXPORT(LinearGemvSupports);
HWY_EXPORT(LinearDotsSupports);
HWY_EXPORT(LinearDirectSupports);
HWY_EXPORT(MatmulGemvPrepare);
HWY_EXPORT(MatmulDotsPrepare);
HWY_EXPORT(MatmulDirectPrepare);
HWY_EXPORT(MatmulPackedPrepare);
HWY_EXPORT(LinearGemvPrepare);
HWY_EXPORT(LinearDotsPrepare);
HWY_EXPORT(LinearDirectPrepare);
HWY_EXPORT(LinearPackedPrepare);
HWY_EXPORT(LaunchGemv);
HWY_EXPORT(LaunchDots);
HWY_EXPORT(LaunchDirect);
HWY_EXPORT(LaunchPacked);
}  // namespace lc::cpu

LC_KERNELS(matmul) {
  using namespace lc::cpu;
  const char* isa = isa_name();
  const auto gemv = LC_KERNEL_PTR(LaunchGemv);
  const auto dots = LC_KERNEL_PTR(LaunchDots);
  const auto direct = LC_KERNEL_PTR(LaunchDirect);
  const auto packed = LC_KERNEL_PTR(LaunchPacked);
  kernels.push_back({"matmul", "gemv", isa, LC_KERNEL_PTR(MatmulGemvSupports),
                     LC_KERNEL_PTR(MatmulGemvPrepare), gemv});
  kernels.push_back({"matmul", "dots", isa, LC_KERNEL_PTR(MatmulDotsSupports),
                     LC_KERNEL_PTR(MatmulDotsPrepare), dots});
  kernels.push_back({"matmul", "direct", isa, LC_KERNEL_PTR(MatmulDirectSupports),
                     LC_KERNEL_PTR(MatmulDirectPrepare), direct});
  kernels.push_back({"matmul", "packed", isa, nullptr, LC_KERNEL_PTR(MatmulPackedPrepare), packed});
  kernels.push_back({"linear", "gemv", isa, LC_KERNEL_PTR(LinearGemvSupports),
                     LC_KERNEL_PTR(LinearGemvPrepare), gemv});
  kernels.push_back({"linear", "dots", isa, LC_KERNEL_PTR(LinearDotsSupports),
                     LC_KERNEL_PTR(LinearDotsPrepare), dots});
  kernels.push_back({"linear", "direct", isa, LC_KERNEL_PTR(LinearDirectSupports),
                     LC_KERNEL_PTR(LinearDirectPrepare), direct});
  kernels.push_back({"linear", "packed", isa, nullptr, LC_KERNEL_PTR(LinearPackedPrepare), packed});
}
#endif  // HWY_ONCE
