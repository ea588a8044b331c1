// B of a product in float32 whose elements are float16 or bfloat16: converted as they are packed.

#if defined(LC_BACKENDS_CPU_GEMM_HALF_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LC_BACKENDS_CPU_GEMM_HALF_INL_H_
#undef LC_BACKENDS_CPU_GEMM_HALF_INL_H_
#else
#define LC_BACKENDS_CPU_GEMM_HALF_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "backends/cpu/gemm_tile-inl.h"
#include "backends/cpu/half-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// As MatrixB.
template <typename TB>
struct HalfMatrixB {
  const TB* b;
  int64_t row, col;
  [[nodiscard]] HWY_INLINE const TB* at(int64_t p0, int64_t c0) const {
    return b + p0 * row + c0 * col;
  }
  [[nodiscard]] HWY_INLINE bool by_rows() const { return col == 1; }
  [[nodiscard]] HWY_INLINE Ahead ahead(int64_t p0, int64_t kc, int64_t c0, int64_t cols, int64_t i,
                                       int64_t n) const {
    constexpr auto kSize = static_cast<int64_t>(sizeof(TB));
    const auto lines = [](int64_t count) { return (count * kSize + kLineBytes - 1) / kLineBytes; };
    if (col == 1) return {at(p0 + kc * i / n, c0), lines(cols), row * kSize};
    if (row == 1) return {at(p0, c0 + cols * i / n), lines(kc), col * kSize};
    return {};
  }
  HWY_INLINE void pack(int64_t p0, int64_t kc, int64_t c0, int64_t cols, float* to) const {
    const int64_t NR = PanelWidth<float>();
    const TB* const from = at(p0, c0);
    if (col != 1) {
      for (int64_t j = 0; j < cols; j += NR)
        PackPanel(from + j * col, col, row, std::min(NR, cols - j), kc, to + j * kc, NR);
      return;
    }
    const GemmTag<float> d;
    const int64_t N = VectorLanes<float>();
    const int64_t panels = cols / NR;
    for (int64_t p = 0; p < kc; ++p) {
      const TB* HWY_RESTRICT s = from + p * row;
      float* HWY_RESTRICT o = to + p * NR;
      for (int64_t j = 0; j < panels; ++j, s += NR, o += NR * kc) {
        HWY_UNROLL(3)
        for (int v = 0; v < kNv; ++v) hn::StoreU(LoadFloats(d, s + v * N), d, o + v * N);
      }
      for (int64_t j = 0; j < cols - panels * NR; ++j) o[j] = ToFloat(s[j]);
    }
  }
};

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle guard
