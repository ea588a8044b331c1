// How a CPU kernel file is built once per instruction set with Google Highway.
//
//   #undef HWY_TARGET_INCLUDE
//   #define HWY_TARGET_INCLUDE "backends/cpu/kernels/foo.cpp"  // this file, relative to src/
//   #include "hwy/foreach_target.h"   // recompiles this file for each target, before what follows
//   #include "hwy/highway.h"
//   #include "backends/cpu/vector_math-inl.h"  // if needed
//
//   HWY_BEFORE_NAMESPACE();
//   namespace lc::cpu::HWY_NAMESPACE { namespace hn = hwy::HWY_NAMESPACE; ... void LaunchFoo(const
//   Launch&) } HWY_AFTER_NAMESPACE();
//
//   #if HWY_ONCE
//   namespace lc::cpu {
//   HWY_EXPORT(LaunchFoo);
//   }  // namespace lc::cpu
//   LC_KERNELS(foo) { kernels.push_back({.op = "foo", .name = "simd", .isa = isa_name(), ...,
//                                        .launch = LC_KERNEL_PTR(LaunchFoo)}); }
//   #endif
//
// Targets compiled on x86-64: AVX3 ("avx512"), AVX2 ("avx2") and SSSE3 ("baseline"); on arm64: NEON
// ("neon"), where LC_KERNEL_PTR wants the function's unqualified name. The set is chosen once, at
// the backend's first use, capped by LC_MAX_ISA.
#pragma once

namespace lc::cpu {

/// Name of the instruction set the kernels of this process run on: "avx512", "avx2", "baseline",
/// "neon".
[[nodiscard]] const char* isa_name();

/// Chooses the best set this processor has, not above LC_MAX_ISA; throws kNotSupported if
/// LC_MAX_ISA names one that this build or machine lacks. Called by the CPU backend before it lists
/// its kernels, and again after a change of configuration.
void choose_isa();

}  // namespace lc::cpu

/// Pointer to the chosen target's code of a function named in HWY_EXPORT. The function must not be
/// declared noexcept (Highway deduces its plain type).
#define LC_KERNEL_PTR(function) (&(HWY_DYNAMIC_DISPATCH(function)))
