// linear:int8_dot: a packed int8 weight by rows of x that become int8 as well, where the policy
// allows fast products and the processor has the instructions (gemm_int8-inl.h).
#include "backends/cpu/simd.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/kernels/linear_int8.cpp"
#include "hwy/foreach_target.h"
#include "backends/cpu/gemm_int8-inl.h"
#include "backends/cpu/matmul_run-inl.h"
#include "hwy/highway.h"

#ifndef LC_LINEAR_INT8_PLAN
#define LC_LINEAR_INT8_PLAN
namespace lc::cpu {

[[nodiscard]] bool has_int8_dot();

struct Int8Plan {
  MatmulPlan p;
  int64_t x_row;  ///< bytes of a quantised row
  int64_t rows;   ///< bytes from the workspace's start to the QuantizedRows
};

}  // namespace lc::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {

#if LC_HAS_INT8_DOT

Support Int8DotSupports(const OpCall& call, const DeviceInfo& info) {
  if (call.in[1].dtype != DType::kInt8) return Support::no("the weight is not int8");
  if (call.policy.precision != Precision::kFast)
    return Support::no("the policy's precision is exact, and this rounds x to int8");
  if (!has_int8_dot()) return Support::no("the processor has no int8 dot instruction");
  const MatmulPlan p = linear_plan(call);
  if (p.dtype != DType::kFloat32) return Support::no("x is not float32");
  if (p.s.k > kMostInt8Terms)
    return Support::no(cat("a sum of ", p.s.k, " terms, above the ", kMostInt8Terms, " of int32"));
  return StreamTakes(p, info);
}

void Int8DotPrepare(const OpCall& call, const DeviceInfo& info, Prepared& out) {
  int64_t rows = 0;
  int64_t stride = 0;
  out.contiguous_inputs = 1u << 1 | 1u << 3;
  out.contiguous_outputs = 0;
  if (!collapse_rows(call.in[0], &rows, &stride)) out.contiguous_inputs |= 1;
  Int8Plan plan{};
  plan.p = linear_plan(call);
  if (plan.p.c_col != 1 || !collapse_rows(call.out[0], &rows, &stride)) out.contiguous_outputs = 1;
  const double bytes = static_cast<double>(plan.p.s.n) * static_cast<double>(plan.p.s.k);
  ShareOut(plan.p, info, bytes > kParallelBytes || FlopsOf(plan.p) > 4 * kParallelFlops);
  plan.x_row = (plan.p.s.k + 3) / 4 * 4;
  plan.rows = (plan.p.s.m * plan.x_row + 63) / 64 * 64;
  out.workspace_bytes = plan.rows + plan.p.s.m * static_cast<int64_t>(sizeof(QuantizedRow));
  out.set(plan);
}

void LaunchInt8Dot(const Launch& l) {
  constexpr int64_t kFewValues = 1 << 15;  // another thread would not be there in time
  const auto& plan = l.prepared.get<Int8Plan>();
  const MatmulPlan& p = plan.p;
  auto* const quantised = static_cast<int8_t*>(l.workspace);
  auto* const found = reinterpret_cast<QuantizedRow*>(quantised + plan.rows);
  const auto* const x = l.in[0].ptr<const float>();
  const auto rows = [&](int64_t begin, int64_t end) HWY_ATTR {
    for (int64_t i = begin; i < end; ++i)
      found[i] = QuantizeRow(x + i * p.a_row, p.a_k, p.s.k, quantised + i * plan.x_row);
  };
  if (p.threads > 1 && p.s.m * p.s.k > kFewValues)
    parallel_ranges(p.s.m, 1, rows);
  else
    rows(0, p.s.m);
  const GemmEpilogue<float> e = EpilogueOf<float>(p, l);
  const PackedWeight<int8_t> b{l.in[1].ptr<const int8_t>(), p.s.k, p.panel};
  const auto part = [&](int64_t col0, int64_t col1) HWY_ATTR {
    GemmInt8(p.s, e, quantised, plan.x_row, found, b, l.out[0].ptr<float>(), p.c_row, col0, col1);
  };
  if (p.threads > 1)
    parallel_ranges(p.s.n, PanelWidth<float>(), part);
  else
    part(0, p.s.n);
}

#else

Support Int8DotSupports(const OpCall&, const DeviceInfo&) {
  return Support::no(cat(isa_name(), " has no int8 dot instruction"));
}
void Int8DotPrepare(const OpCall&, const DeviceInfo&, Prepared&) {}
void LaunchInt8Dot(const Launch&) {}

#endif

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "backends/cpu/kernel_list.hpp"

namespace lc::cpu {
HWY_EXPORT(Int8DotSupports);
HWY_EXPORT(Int8DotPrepare);
HWY_EXPORT(LaunchInt8Dot);

bool has_int8_dot() {
#if HWY_ARCH_X86
  static const bool has =
      __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi");
  return has;
#else
  return false;
#endif
}
}  // namespace lc::cpu

LC_KERNELS(linear_int8) {
  using namespace lc::cpu;
  kernels.push_back({"linear", "int8_dot", isa_name(), LC_KERNEL_PTR(Int8DotSupports),
                     LC_KERNEL_PTR(Int8DotPrepare), LC_KERNEL_PTR(LaunchInt8Dot)});
}
#endif  // HWY_ONCE
