#include <atomic>

#include "backends/cpu/simd.hpp"
#include "hwy/highway.h"
#include "lightning_core/error.hpp"
#include "runtime/config.hpp"

namespace lc::cpu {
namespace {

constinit std::atomic<const char*> g_isa{nullptr};

/// Of a single target.
const char* name_of(int64_t target) {
#if HWY_ARCH_X86
  if (target < HWY_AVX2) return "avx512";  // smaller bits are better targets
  if (target == HWY_AVX2) return "avx2";
#elif HWY_ARCH_ARM
  if (target < HWY_EMU128) return "neon";
#endif
  (void)target;
  return "baseline";
}

int64_t best_of(int64_t targets) { return targets & -targets; }

}  // namespace

void choose_isa() {
  const std::string limit = config_string("LC_MAX_ISA");
  hwy::SetSupportedTargetsForTest(0);  // as the processor says
  const int64_t have = hwy::SupportedTargets() & HWY_TARGETS;
  int64_t chosen = 0;
  if (limit == "auto") {
    chosen = best_of(have);
  } else if (limit == "baseline") {
    chosen = HWY_STATIC_TARGET;
  } else {
    for (int64_t rest = have; rest != 0 && chosen == 0; rest &= rest - 1)
      if (limit == name_of(best_of(rest))) chosen = best_of(rest);
  }
  if (chosen == 0) {
    std::string names;
    for (int64_t rest = have; rest != 0; rest &= rest - 1)
      names += cat(names.empty() ? "" : ", ", name_of(best_of(rest)));
    throw_arg(ErrorCode::kNotSupported, "config", "LC_MAX_ISA",
              cat("auto or an instruction set of this build and machine (", names, ")"),
              cat("'", limit, "'"));
  }
  hwy::SetSupportedTargetsForTest(chosen);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  g_isa.store(name_of(chosen), std::memory_order_release);
}

const char* isa_name() {
  if (g_isa.load(std::memory_order_acquire) == nullptr) choose_isa();
  return g_isa.load(std::memory_order_acquire);
}

}  // namespace lc::cpu
