// matmul and linear of bfloat16 operands where the processor has a dot instruction for them; see
// gemm_bf16-inl.h. Elsewhere conversions to float32 are faster than expanding pairs in the tile
// (docs/performance.md), so other targets compile refusals only.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/kernels/matmul_pairs.cpp"
#include "hwy/foreach_target.h"
#include "backends/cpu/gemm_bf16_dots-inl.h"
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

/// What both candidates decide: the product, its threads, and room for the bias in float32.
template <bool kLinear>
PairPlan PlanPairs(const OpCall& call, const DeviceInfo& info, Prepared& out) {
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
  const int64_t biases = p.has_bias ? (p.swapped ? p.s.m : p.s.n) : 0;
  plan.bias_bytes = (biases * 4 + 63) / 64 * 64;
  out.workspace_bytes = plan.bias_bytes;
  return plan;
}

template <bool kLinear>
void PreparePairs(const OpCall& call, const DeviceInfo& info, Prepared& out) {
  PairPlan plan = PlanPairs<kLinear>(call, info, out);
  plan.blocks = pair_blocks(plan.p.s, PanelWidth<float>(), kMr, plan.p.threads, info);
  plan.p.slot = plan.blocks.bytes(plan.p.threads);
  out.workspace_bytes += plan.p.batch_threads * plan.p.slot;
  out.set(plan);
}

template <bool kLinear>
void PreparePairDots(const OpCall& call, const DeviceInfo& info, Prepared& out) {
  constexpr int64_t kShallow = 512;  // adding up the lanes would cost more than it saves
  PairPlan plan = PlanPairs<kLinear>(call, info, out);
  const int64_t rows = std::clamp<int64_t>(plan.p.s.m, 1, kPairDotRows);
  plan.p.blocks.kc = std::max(info.l1_bytes / 2 / (2 * rows) / 64 * 64, kShallow);
  out.set(plan);
}

/// f(product, slot) for each product of the batch.
template <typename F>
void ForEachPairProduct(const PairPlan& plan, const Launch& l, const F& f) {
  const MatmulPlan& p = plan.p;
  GemmEpilogue<float> e;
  e.activation = p.activation;
  if (p.has_bias) {
    auto* const bias = static_cast<float*>(l.workspace);
    const BFloat* const from = l.in[2].ptr<const BFloat>();
    const int64_t count = p.swapped ? p.s.m : p.s.n;
    for (int64_t i = 0; i < count; ++i) bias[i] = ToFloat(from[i * p.bias_step]);
    (p.swapped ? e.row_bias : e.col_bias) = bias;
  }
  ForEachProduct<BFloat>(p, l,
                         [&](const BFloat* a, const BFloat* b, BFloat* c, int64_t slot) HWY_ATTR {
                           f(PairProduct{p.s, plan.blocks, e, a, p.a_row, p.a_k, b, p.b_k, p.b_col,
                                         c, p.c_row, p.c_col},
                             slot);
                         });
}

void LaunchPairs(const Launch& l) {
  const auto& plan = l.prepared.get<PairPlan>();
  char* const slots = static_cast<char*>(l.workspace) + plan.bias_bytes;
  ForEachPairProduct(plan, l, [&](const PairProduct& g, int64_t slot) HWY_ATTR {
    GemmPairs(g, slots + slot * plan.p.slot, plan.p.threads);
  });
}

void LaunchPairDots(const Launch& l) {
  const auto& plan = l.prepared.get<PairPlan>();
  ForEachPairProduct(plan, l, [&](const PairProduct& g, int64_t) HWY_ATTR {
    int floor = kNoExponent;
    for (int64_t i = 0; i < g.s.m; ++i)
      floor = std::min(floor,
                       ExponentFloor(reinterpret_cast<const uint16_t*>(g.a + i * g.a_row), g.s.k));
    const auto part = [&](int64_t col0, int64_t col1)
                          HWY_ATTR { GemmPairDots(g, plan.p.blocks.kc, floor, col0, col1); };
    if (plan.p.threads > 1)
      parallel_ranges(g.s.n, int64_t{kPairDotCols}, part);
    else
      part(0, g.s.n);
  });
}

Support PairsSupports(const OpCall& call, const DeviceInfo&) {
  if (call.in[0].dtype != DType::kBFloat16) return Support::no("the operands are not bfloat16");
  if (!has_bf16_dot()) return Support::no("the processor has no bfloat16 dot instruction");
  return Support::yes();
}

template <bool kLinear>
Support PairDotsSupports(const OpCall& call, const DeviceInfo& info) {
  if (Support s = PairsSupports(call, info); !s) return s;
  const MatmulPlan p = kLinear ? linear_plan(call) : matmul_plan(call);
  if (p.b_k != 1 || p.a_k != 1) return Support::no("a sum's terms are apart");
  if (p.s.m > kMostPairDots) return Support::no(cat("more than ", kMostPairDots, " rows: ", p.s.m));
  return Support::yes();
}

#else

template <bool kLinear>
void PreparePairs(const OpCall&, const DeviceInfo&, Prepared&) {}

template <bool kLinear>
void PreparePairDots(const OpCall&, const DeviceInfo&, Prepared&) {}

void LaunchPairs(const Launch&) {}
void LaunchPairDots(const Launch&) {}

Support PairsSupports(const OpCall&, const DeviceInfo&) {
  return Support::no(cat(isa_name(), " has no bfloat16 dot instruction"));
}

template <bool kLinear>
Support PairDotsSupports(const OpCall& call, const DeviceInfo& info) {
  return PairsSupports(call, info);
}

#endif

Support LinearPairsSupports(const OpCall& call, const DeviceInfo& info) {
  if (Support s = plain_weight(call); !s) return s;
  return PairsSupports(call, info);
}
Support MatmulPairDotsSupports(const OpCall& call, const DeviceInfo& info) {
  return PairDotsSupports<false>(call, info);
}
Support LinearPairDotsSupports(const OpCall& call, const DeviceInfo& info) {
  if (Support s = plain_weight(call); !s) return s;
  return PairDotsSupports<true>(call, info);
}
void MatmulPairDotsPrepare(const OpCall& call, const DeviceInfo& info, Prepared& out) {
  PreparePairDots<false>(call, info, out);
}
void LinearPairDotsPrepare(const OpCall& call, const DeviceInfo& info, Prepared& out) {
  PreparePairDots<true>(call, info, out);
}

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
HWY_EXPORT(LinearPairsSupports);
HWY_EXPORT(MatmulPairDotsSupports);
HWY_EXPORT(LinearPairDotsSupports);
HWY_EXPORT(MatmulPairDotsPrepare);
HWY_EXPORT(LinearPairDotsPrepare);
HWY_EXPORT(LaunchPairDots);

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
  const char* isa = isa_name();
  constexpr DTypeSet kFloats = dtype_bit(DType::kBFloat16);
  const auto pairs = LC_KERNEL_PTR(LaunchPairs);
  const auto dots = LC_KERNEL_PTR(LaunchPairDots);
  kernels.push_back({"matmul", "bf16_dots", isa, LC_KERNEL_PTR(MatmulPairDotsSupports),
                     LC_KERNEL_PTR(MatmulPairDotsPrepare), dots, kFloats});
  kernels.push_back({"matmul", "bf16_dot", isa, LC_KERNEL_PTR(PairsSupports),
                     LC_KERNEL_PTR(MatmulPairsPrepare), pairs, kFloats});
  kernels.push_back({"linear", "bf16_dots", isa, LC_KERNEL_PTR(LinearPairDotsSupports),
                     LC_KERNEL_PTR(LinearPairDotsPrepare), dots, kFloats});
  kernels.push_back({"linear", "bf16_dot", isa, LC_KERNEL_PTR(LinearPairsSupports),
                     LC_KERNEL_PTR(LinearPairsPrepare), pairs, kFloats});
}
#endif  // HWY_ONCE
