// matmul and linear of float16 and bfloat16 in float32: the larger operand, as a rule a weight, is
// converted as it is read or packed; the other one, the bias and the result go through float32 in
// workspace.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/kernels/matmul_half.cpp"
#include "hwy/foreach_target.h"
#include "backends/cpu/convert.hpp"
#include "backends/cpu/gemm_bf16.hpp"
#include "backends/cpu/matmul_run-inl.h"
#include "hwy/highway.h"

#ifndef LC_MATMUL_HALF_PLAN
#define LC_MATMUL_HALF_PLAN
namespace lc::cpu {

/// The product with every operand but B in float32 and row-major.
struct HalfPlan {
  MatmulPlan p;
  int64_t a, bias, c, slots;  ///< where they lie in the workspace, bytes
};

/// `call` as HalfPlan sees it: B alone keeps its strides.
inline OpCall widened(const OpCall& call, bool swapped) {
  OpCall wide = call;
  const auto widen = [](View& v) { v = View(v.data, DType::kFloat32, v.shape, v.device); };
  widen(wide.in[swapped ? 1 : 0]);
  if (wide.in[2].present()) widen(wide.in[2]);
  widen(wide.out[0]);
  return wide;
}

template <bool kLinear>
HalfPlan half_plan(const OpCall& call) {
  const auto plan = [](const OpCall& c) { return kLinear ? linear_plan(c) : matmul_plan(c); };
  OpCall rows = call;
  rows.out[0].strides = contiguous_strides(rows.out[0].shape);
  OpCall wide = widened(call, plan(rows).swapped);
  HalfPlan h{};
  h.p = plan(wide);
  h.p.dtype = call.in[0].dtype;
  const auto bytes = [](const View& v) {
    return v.present() ? (v.numel() * 4 + 63) / 64 * 64 : int64_t{0};
  };
  h.bias = bytes(wide.in[h.p.swapped ? 1 : 0]);
  h.c = h.bias + bytes(wide.in[2]);
  h.slots = h.c + bytes(wide.out[0]);
  return h;
}

}  // namespace lc::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {

/// run(p, launch) with the other operands of `launch` in float32.
template <typename F>
void InFloats(const Launch& l, const F& run) {
  const auto& h = l.prepared.get<HalfPlan>();
  char* const workspace = static_cast<char*>(l.workspace);
  View in[4] = {l.in[0], l.in[1], l.in[2]};  // no scale: that is of int8 weights
  const auto convert = [&](int i, int64_t at) {
    in[i] = View(workspace + at, DType::kFloat32, l.in[i].shape);
    strided_convert(l.in[i], in[i]);
  };
  convert(h.p.swapped ? 1 : 0, h.a);
  if (in[2].present()) convert(2, h.bias);
  const View out(workspace + h.c, DType::kFloat32, l.out[0].shape);
  run(h.p, Launch{in, &out, l.n_in, l.prepared, workspace + h.slots, l.encoder});
  strided_convert(out, l.out[0]);
}

template <typename TB>
void HalfGemv(const MatmulPlan& p, const Launch& l) {
  const auto e = EpilogueOf<float>(p, l);
  ForEachProduct<float, TB>(p, l, [&](const float* a, const TB* b, float* c, int64_t) HWY_ATTR {
    const auto part = [&](int64_t col0, int64_t col1) HWY_ATTR {
      GemvRows(p.s, a, p.a_k, b, p.b_k, c, int64_t{1}, col0, col1);
      Finish(e, c + col0, 1, 0, 1, col0, col1 - col0);
    };
    if (p.threads > 1)
      parallel_ranges(p.s.n, 8 * VectorLanes<float>(), part);
    else
      part(0, p.s.n);
  });
}

template <typename TB>
void HalfDots(const MatmulPlan& p, const Launch& l) {
  RunDots<float, TB>(p, l);
}

template <typename TB>
void HalfDirect(const MatmulPlan& p, const Launch& l) {
  RunDirect<float, TB>(p, l);
}

template <typename TB>
void HalfPacked(const MatmulPlan& p, const Launch& l) {
  const auto e = EpilogueOf<float>(p, l);
  auto* const workspace = static_cast<float*>(l.workspace);
  ForEachProduct<float, TB>(p, l,
                            [&](const float* a, const TB* b, float* c, int64_t slot) HWY_ATTR {
                              const MatrixB<float, TB> from_b{b, p.b_k, p.b_col};
                              const Product<float, MatrixB<float, TB>> g{
                                  p.s, p.blocks, e, a, p.a_row, p.a_k, c, p.c_row, p.c_col, from_b};
                              GemmPacked(g, workspace + slot * p.slot, p.threads);
                            });
}

#define LC_LAUNCH_HALF(name)                               \
  void Launch##name(const Launch& l) {                     \
    InFloats(l, [](const MatmulPlan& p, const Launch& w) { \
      if (p.dtype == DType::kBFloat16)                     \
        name<BFloat>(p, w);                                \
      else                                                 \
        name<Half>(p, w);                                  \
    });                                                    \
  }
LC_LAUNCH_HALF(HalfGemv)
LC_LAUNCH_HALF(HalfDots)
LC_LAUNCH_HALF(HalfDirect)
LC_LAUNCH_HALF(HalfPacked)
#undef LC_LAUNCH_HALF

/// Not what the processor multiplies as it is.
inline Support HalvesOnly(const MatmulPlan& p) {
  if (p.dtype != DType::kBFloat16 && p.dtype != DType::kFloat16)
    return Support::no("the operands are not float16 or bfloat16");
  return Support::yes();
}
inline Support NoDot(const MatmulPlan& p) {
  if (Support s = HalvesOnly(p); !s) return s;
#if HWY_TARGET == HWY_AVX3
  if (p.dtype == DType::kBFloat16 && has_bf16_dot())
    return Support::no("the processor has a bfloat16 dot instruction");
#endif
  return Support::yes();
}

inline Support HalfGemvTakes(const MatmulPlan& p, const DeviceInfo&) {
  if (Support s = HalvesOnly(p); !s) return s;
  if (p.s.m != 1) return Support::no("more than one row and one column");
  if (p.b_col != 1) return Support::no("the matrix's rows are not contiguous");
  return Support::yes();
}
inline Support HalfDotsTakes(const MatmulPlan& p, const DeviceInfo&) {
  constexpr int64_t kMostRows = kDotRows == 6 ? 12 : 6;  // more pay for packing b
  if (Support s = NoDot(p); !s) return s;
  if (p.b_k != 1) return Support::no("a sum's terms are apart");
  if (p.s.m > kMostRows) return Support::no(cat("more than ", kMostRows, " rows: ", p.s.m));
  return Support::yes();
}
inline Support HalfDirectTakes(const MatmulPlan& p, const DeviceInfo& info) {
  if (Support s = HalvesOnly(p); !s) return s;
  constexpr double kFewFlops = 2.0 * 32 * 32 * 32;  // packing pairs does not pay for fewer
  if (p.s.m > kMr && FlopsOf(p) > kFewFlops)
    if (Support s = NoDot(p); !s) return s;
  return DirectTakes(p, info);
}
inline Support HalfPackedTakes(const MatmulPlan& p, const DeviceInfo&) { return NoDot(p); }

/// How p is shared out and what workspace its slots take, by candidate.
inline int64_t DecideGemv(MatmulPlan& p, const DeviceInfo& info) {
  const double bytes = static_cast<double>(p.s.n) * static_cast<double>(p.s.k * 2);
  ShareOut(p, info, bytes * static_cast<double>(p.batch) > kParallelBytes);
  return 0;
}
inline int64_t DecideDots(MatmulPlan& p, const DeviceInfo& info) {
  constexpr int64_t kShallow = 256;  // as PrepareDots()
  p.blocks.kc = std::max(info.l1_bytes / 2 / (std::max<int64_t>(p.s.m, 1) * 4) / 64 * 64, kShallow);
  ShareOut(p, info, FlopsOf(p) * static_cast<double>(p.batch) > kParallelFlops);
  return 0;
}
inline int64_t DecideDirect(MatmulPlan& p, const DeviceInfo& info) {
  ShareOut(p, info, FlopsOf(p) * static_cast<double>(p.batch) > kParallelFlops);
  return 0;
}
inline int64_t DecidePacked(MatmulPlan& p, const DeviceInfo& info) {
  ShareOut(p, info, FlopsOf(p) * static_cast<double>(p.batch) > kParallelFlops);
  p.blocks = gemm_blocks(p.s, PanelWidth<float>(), 4, p.threads, info);
  p.slot = p.blocks.elements(p.threads);
  return p.batch_threads * p.slot * 4;
}

#define LC_HALF_CANDIDATE(name, takes, decide)                                         \
  Support Matmul##name##Supports(const OpCall& c, const DeviceInfo& info) {            \
    return takes(half_plan<false>(c).p, info);                                         \
  }                                                                                    \
  Support Linear##name##Supports(const OpCall& c, const DeviceInfo& info) {            \
    if (Support plain = plain_weight(c); !plain) return plain;                         \
    return takes(half_plan<true>(c).p, info);                                          \
  }                                                                                    \
  void Matmul##name##Prepare(const OpCall& c, const DeviceInfo& info, Prepared& out) { \
    HalfPlan h = half_plan<false>(c);                                                  \
    out.workspace_bytes = h.slots + decide(h.p, info);                                 \
    out.set(h);                                                                        \
  }                                                                                    \
  void Linear##name##Prepare(const OpCall& c, const DeviceInfo& info, Prepared& out) { \
    HalfPlan h = half_plan<true>(c);                                                   \
    out.workspace_bytes = h.slots + decide(h.p, info);                                 \
    out.set(h);                                                                        \
  }
LC_HALF_CANDIDATE(HalfGemv, HalfGemvTakes, DecideGemv)
LC_HALF_CANDIDATE(HalfDots, HalfDotsTakes, DecideDots)
LC_HALF_CANDIDATE(HalfDirect, HalfDirectTakes, DecideDirect)
LC_HALF_CANDIDATE(HalfPacked, HalfPackedTakes, DecidePacked)
#undef LC_HALF_CANDIDATE

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "backends/cpu/kernel_list.hpp"
#include "backends/cpu/simd.hpp"

namespace lc::cpu {
#define LC_EXPORT_HALF(name)          \
  HWY_EXPORT(Matmul##name##Supports); \
  HWY_EXPORT(Linear##name##Supports); \
  HWY_EXPORT(Matmul##name##Prepare);  \
  HWY_EXPORT(Linear##name##Prepare);  \
  HWY_EXPORT(Launch##name)
LC_EXPORT_HALF(HalfGemv);
LC_EXPORT_HALF(HalfDots);
LC_EXPORT_HALF(HalfDirect);
LC_EXPORT_HALF(HalfPacked);
#undef LC_EXPORT_HALF
}  // namespace lc::cpu

LC_KERNELS(matmul_half) {
  using namespace lc::cpu;
  const char* isa = isa_name();
#define LC_ADD_HALF(op, Op, name, Name)                                \
  kernels.push_back({op, name, isa, LC_KERNEL_PTR(Op##Name##Supports), \
                     LC_KERNEL_PTR(Op##Name##Prepare), LC_KERNEL_PTR(Launch##Name), kHalfTypes})
  LC_ADD_HALF("matmul", Matmul, "gemv_half", HalfGemv);
  LC_ADD_HALF("matmul", Matmul, "dots_half", HalfDots);
  LC_ADD_HALF("matmul", Matmul, "direct_half", HalfDirect);
  LC_ADD_HALF("matmul", Matmul, "packed_half", HalfPacked);
  LC_ADD_HALF("linear", Linear, "gemv_half", HalfGemv);
  LC_ADD_HALF("linear", Linear, "dots_half", HalfDots);
  LC_ADD_HALF("linear", Linear, "direct_half", HalfDirect);
  LC_ADD_HALF("linear", Linear, "packed_half", HalfPacked);
#undef LC_ADD_HALF
}
#endif  // HWY_ONCE
