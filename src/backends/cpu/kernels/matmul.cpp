// matmul and linear: four candidates over one planned product (matmul_run-inl.h), whose matrices
// may have any strides; linear has two more for packed and narrow
// weights. pack_weight packs them.
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

/// Of linear, by a candidate that reads a plain weight.
template <Takes kTakes>
Support LinearSupports(const OpCall& call, const DeviceInfo& info) {
  if (Support plain = plain_weight(call); !plain) return plain;
  return kTakes(linear_plan(call), info);
}

template <bool kLinear, Decide kDecide>
void PreparePlan(const OpCall& call, const DeviceInfo& info, Prepared& out) {
  out.contiguous_inputs = out.contiguous_outputs = 0;
  if constexpr (kLinear) {
    out.contiguous_inputs = 1u << 3;
    if (call.in[1].rank() == 3) out.contiguous_inputs |= 1u << 1;
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
  return LinearSupports<GemvTakes>(c, i);
}
Support LinearDotsSupports(const OpCall& c, const DeviceInfo& i) {
  return LinearSupports<DotsTakes>(c, i);
}
Support LinearDirectSupports(const OpCall& c, const DeviceInfo& i) {
  return LinearSupports<DirectTakes>(c, i);
}
Support LinearPackedSupports(const OpCall& c, const DeviceInfo&) { return plain_weight(c); }
Support LinearStreamSupports(const OpCall& c, const DeviceInfo& i) {
  return SupportsPlan<linear_plan, StreamTakes>(c, i);
}
Support LinearRepackedSupports(const OpCall& c, const DeviceInfo& i) {
  return SupportsPlan<linear_plan, RepackedTakes>(c, i);
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
void LinearStreamPrepare(const OpCall& c, const DeviceInfo& i, Prepared& p) {
  PreparePlan<true, PrepareStream>(c, i, p);
}

/// Row panels [first, end) of a weight [rows, k], of `width` columns each.
template <typename T>
void PackWeightPanels(const View& from, int64_t width, int64_t first, int64_t end, T* to) {
  const int64_t rows = from.shape[0];
  const int64_t k = from.shape[1];
  for (int64_t i = first; i < end; ++i) {
    T* const panel = to + i * k * width;
    const int64_t height = std::min(width, rows - i * width);
    const T* const source = from.ptr<const T>() + i * width * from.strides[0];
    if constexpr (sizeof(T) >= 4) {
      PackPanel(source, from.strides[0], from.strides[1], height, k, panel, width);
    } else {
      for (int64_t p = 0; p < k; ++p)
        for (int64_t r = 0; r < height; ++r)
          panel[p * width + r] = source[r * from.strides[0] + p * from.strides[1]];
    }
    for (int64_t p = 0; p < k; ++p)
      std::fill(panel + p * width + height, panel + (p + 1) * width, T{});
  }
}

template <typename T>
void PackWeightOf(const Launch& l) {
  const View& out = l.out[0];
  parallel_ranges(out.shape[0], 1, [&](int64_t first, int64_t end) HWY_ATTR {
    PackWeightPanels(l.in[0], out.shape[2], first, end, out.ptr<T>());
  });
}

void LaunchPackWeight(const Launch& l) {
  switch (dtype_size(l.out[0].dtype)) {
    case 1:
      return PackWeightOf<uint8_t>(l);
    case 2:
      return PackWeightOf<uint16_t>(l);
    case 4:
      return PackWeightOf<float>(l);
    default:
      return PackWeightOf<double>(l);
  }
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
HWY_EXPORT(LinearPackedSupports);
HWY_EXPORT(LinearStreamSupports);
HWY_EXPORT(LinearStreamPrepare);
HWY_EXPORT(LinearRepackedSupports);
HWY_EXPORT(LaunchRepacked);
HWY_EXPORT(LaunchStream);
HWY_EXPORT(LaunchPackWeight);

namespace {
void prepare_pack_weight(const OpCall&, const DeviceInfo&, Prepared& prepared) {
  prepared.contiguous_outputs = 1;
}
}  // namespace
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
  kernels.push_back({"linear", "stream", isa, LC_KERNEL_PTR(LinearStreamSupports),
                     LC_KERNEL_PTR(LinearStreamPrepare), LC_KERNEL_PTR(LaunchStream)});
  kernels.push_back({"linear", "gemv", isa, LC_KERNEL_PTR(LinearGemvSupports),
                     LC_KERNEL_PTR(LinearGemvPrepare), gemv});
  kernels.push_back({"linear", "dots", isa, LC_KERNEL_PTR(LinearDotsSupports),
                     LC_KERNEL_PTR(LinearDotsPrepare), dots});
  kernels.push_back({"linear", "direct", isa, LC_KERNEL_PTR(LinearDirectSupports),
                     LC_KERNEL_PTR(LinearDirectPrepare), direct});
  kernels.push_back({"linear", "packed", isa, LC_KERNEL_PTR(LinearPackedSupports),
                     LC_KERNEL_PTR(LinearPackedPrepare), packed});
  kernels.push_back({"linear", "repacked", isa, LC_KERNEL_PTR(LinearRepackedSupports),
                     LC_KERNEL_PTR(LinearPackedPrepare), LC_KERNEL_PTR(LaunchRepacked)});
  kernels.push_back({.op = "pack_weight",
                     .name = "panels",
                     .isa = isa,
                     .prepare = prepare_pack_weight,
                     .launch = LC_KERNEL_PTR(LaunchPackWeight),
                     .floats = kFloatTypes});
}
#endif  // HWY_ONCE
