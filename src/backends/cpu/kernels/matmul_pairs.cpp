// matmul and linear of bfloat16 operands where the processor has a dot instruction for them; see
// gemm_bf16-inl.h. Elsewhere conversions to float32 are faster than expanding pairs in the tile
// (docs/performance.md), so other targets compile refusals only.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/kernels/matmul_pairs.cpp"
#include "hwy/foreach_target.h"
#include "backends/cpu/gemm_bf16-inl.h"
#include "backends/cpu/matmul_run-inl.h"
#include "backends/cpu/simd.hpp"
#include "hwy/highway.h"

#ifndef LC_MATMUL_PAIRS_PLAN
#define LC_MATMUL_PAIRS_PLAN
namespace lc::cpu {
struct PairPlan {
  MatmulPlan p;
  PairBlocks blocks;
  int64_t bias_bytes;  ///< of workspace before the products' slots: the bias in float32
};
}  // namespace lc::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {

#if LC_HAS_BF16_DOT

template <bool kLinear>
void PreparePairs(const OpCall& call, const DeviceInfo& info, Prepared& out) {
  out.contiguous_inputs = out.contiguous_outputs = 0;
  if constexpr (kLinear) {
    int64_t rows = 0;
    int64_t stride = 0;
    if (!collapse_rows(call.in[0], &rows, &stride)) out.contiguous_inputs |= 1;
    if (!collapse_rows(call.out[0], &rows, &stride)) out.contiguous_outputs |= 1;
  }
  PairPlan plan{};
  MatmulPlan& p = plan.p;
  p = kLinear ? linear_plan(call) : matmul_plan(call);
  ShareOut(p, info, FlopsOf(p) * static_cast<double>(p.batch) > kParallelFlops);
  plan.blocks = pair_blocks(p.s, PanelWidth<float>(), kMr, p.threads, info);
  p.slot = plan.blocks.bytes(p.threads);
  const int64_t biases = p.has_bias ? (p.swapped ? p.s.m : p.s.n) : 0;
  plan.bias_bytes = (biases * 4 + 63) / 64 * 64;
  out.workspace_bytes = plan.bias_bytes + p.batch_threads * p.slot;
  out.set(plan);
}

void LaunchPairs(const Launch& l) {
  const auto& plan = l.prepared.get<PairPlan>();
  const MatmulPlan& p = plan.p;
  char* const workspace = static_cast<char*>(l.workspace);
  GemmEpilogue<float> e;
  e.activation = p.activation;
  if (p.has_bias) {
    auto* const bias = reinterpret_cast<float*>(workspace);
    const BFloat* const from = l.in[2].ptr<const BFloat>();
    const int64_t count = p.swapped ? p.s.m : p.s.n;
    for (int64_t i = 0; i < count; ++i) bias[i] = ToFloat(from[i * p.bias_step]);
    (p.swapped ? e.row_bias : e.col_bias) = bias;
  }
  ForEachProduct<BFloat>(p, l,
                         [&](const BFloat* a, const BFloat* b, BFloat* c, int64_t slot) HWY_ATTR {
                           const PairProduct g{p.s, plan.blocks, e,       a, p.a_row, p.a_k,
                                               b,   p.b_k,       p.b_col, c, p.c_row, p.c_col};
                           GemmPairs(g, workspace + plan.bias_bytes + slot * p.slot, p.threads);
                         });
}

Support PairsSupports(const OpCall& call, const DeviceInfo&) {
  if (call.in[0].dtype != DType::kBFloat16) return Support::no("the operands are not bfloat16");
  if (!has_bf16_dot()) return Support::no("the processor has no bfloat16 dot instruction");
  return Support::yes();
}

#else

template <bool kLinear>
void PreparePairs(const OpCall&, const DeviceInfo&, Prepared&) {}

void LaunchPairs(const Launch&) {}

Support PairsSupports(const OpCall&, const DeviceInfo&) {
  return Support::no(cat(isa_name(), " has no bfloat16 dot instruction"));
}

#endif

void MatmulPairsPrepare(const OpCall& call, const DeviceInfo& info, Prepared& out) {
  PreparePairs<false>(call, info, out);
}
void LinearPairsPrepare(const OpCall& call, const DeviceInfo& info, Prepared& out) {
  PreparePairs<true>(call, info, out);
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "backends/cpu/kernel_list.hpp"

namespace lc::cpu {
HWY_EXPORT(MatmulPairsPrepare);
HWY_EXPORT(LinearPairsPrepare);
HWY_EXPORT(LaunchPairs);
HWY_EXPORT(PairsSupports);

bool has_bf16_dot() {
#if HWY_ARCH_X86
  static const bool has = __builtin_cpu_supports("avx512bf16") != 0;
  return has;
#else
  return false;
#endif
}
}  // namespace lc::cpu

LC_KERNELS(matmul_pairs) {
  using namespace lc::cpu;
  for (const bool linear : {false, true})
    kernels.push_back(
        {.op = linear ? "linear" : "matmul",
         .name = "bf16_dot",
         .isa = isa_name(),
         .supports = LC_KERNEL_PTR(PairsSupports),
         .prepare = linear ? LC_KERNEL_PTR(LinearPairsPrepare) : LC_KERNEL_PTR(MatmulPairsPrepare),
         .launch = LC_KERNEL_PTR(LaunchPairs),
         .floats = dtype_bit(DType::kBFloat16)});
}
#endif  // HWY_ONCE
