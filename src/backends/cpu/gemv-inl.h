// Vector times matrix: bound by reading the matrix once, so nothing is packed.

#if defined(LC_BACKENDS_CPU_GEMV_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LC_BACKENDS_CPU_GEMV_INL_H_
#undef LC_BACKENDS_CPU_GEMV_INL_H_
#else
#define LC_BACKENDS_CPU_GEMV_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "backends/cpu/gemm_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// y[n] = x[k] B[k, n], B's rows contiguous: sums of rows, eight vectors of columns at a time. B
/// may be of float16 or bfloat16.
template <typename T, typename TB>
HWY_INLINE void GemvRows(const GemmSizes& s, const T* x, int64_t x_step, const TB* b, int64_t b_row,
                         T* y, int64_t y_step, int64_t col0, int64_t col1) {
  const GemmTag<T> d;
  const int64_t N = VectorLanes<T>();
  const auto alpha = hn::Set(d, static_cast<T>(s.alpha));
  int64_t j = col0;
  for (; j + 8 * N <= col1 && y_step == 1; j += 8 * N) {
    auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
    const TB* HWY_RESTRICT r = b + j;
    for (int64_t p = 0; p < s.k; ++p, r += b_row) {
      const auto v = hn::Set(d, x[p * x_step]);
      s0 = hn::MulAdd(v, LoadFloats(d, r), s0);
      s1 = hn::MulAdd(v, LoadFloats(d, r + N), s1);
      s2 = hn::MulAdd(v, LoadFloats(d, r + 2 * N), s2);
      s3 = hn::MulAdd(v, LoadFloats(d, r + 3 * N), s3);
      s4 = hn::MulAdd(v, LoadFloats(d, r + 4 * N), s4);
      s5 = hn::MulAdd(v, LoadFloats(d, r + 5 * N), s5);
      s6 = hn::MulAdd(v, LoadFloats(d, r + 6 * N), s6);
      s7 = hn::MulAdd(v, LoadFloats(d, r + 7 * N), s7);
    }
    T* HWY_RESTRICT o = y + j;
    hn::StoreU(hn::Mul(s0, alpha), d, o);
    hn::StoreU(hn::Mul(s1, alpha), d, o + N);
    hn::StoreU(hn::Mul(s2, alpha), d, o + 2 * N);
    hn::StoreU(hn::Mul(s3, alpha), d, o + 3 * N);
    hn::StoreU(hn::Mul(s4, alpha), d, o + 4 * N);
    hn::StoreU(hn::Mul(s5, alpha), d, o + 5 * N);
    hn::StoreU(hn::Mul(s6, alpha), d, o + 6 * N);
    hn::StoreU(hn::Mul(s7, alpha), d, o + 7 * N);
  }
  for (; j < col1; j += N) {
    const int64_t n = std::min(N, col1 - j);
    const auto mask = hn::FirstN(d, static_cast<size_t>(n));
    auto sum = hn::Zero(d);
    const TB* r = b + j;
    for (int64_t p = 0; p < s.k; ++p, r += b_row)
      sum = hn::MulAdd(hn::Set(d, x[p * x_step]), LoadPart(d, mask, n, r), sum);
    sum = hn::Mul(sum, alpha);
    if (y_step == 1) {
      StorePart(sum, d, mask, n, y + j);
    } else {
      alignas(64) T lanes[hn::MaxLanes(d)];
      hn::Store(sum, d, lanes);
      for (int64_t l = 0; l < n; ++l) y[(j + l) * y_step] = lanes[l];
    }
  }
}

/// y[n] = x[k] B[k, n], B's columns contiguous (a weight matrix): dot products, four at a time.
template <typename T>
HWY_INLINE void GemvDots(const GemmSizes& s, const T* x, const T* b, int64_t b_col, T* y,
                         int64_t y_step, int64_t col0, int64_t col1) {
  const GemmTag<T> d;
  const int64_t N = VectorLanes<T>();
  const T alpha = static_cast<T>(s.alpha);
  const auto sum_of = [&](auto a0, auto a1)
                          HWY_ATTR { return hn::GetLane(hn::SumOfLanes(d, hn::Add(a0, a1))); };
  const int64_t whole = s.k / (2 * N) * (2 * N);
  int64_t j = col0;
  for (; j + 4 <= col1; j += 4) {
    const T* HWY_RESTRICT r0 = b + j * b_col;
    const T* HWY_RESTRICT r1 = r0 + b_col;
    const T* HWY_RESTRICT r2 = r1 + b_col;
    const T* HWY_RESTRICT r3 = r2 + b_col;
    auto a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0, a4 = a0, a5 = a0, a6 = a0, a7 = a0;
    int64_t p = 0;
    for (; p < whole; p += 2 * N) {
      const auto v0 = hn::LoadU(d, x + p);
      const auto v1 = hn::LoadU(d, x + p + N);
      a0 = hn::MulAdd(v0, hn::LoadU(d, r0 + p), a0);
      a1 = hn::MulAdd(v1, hn::LoadU(d, r0 + p + N), a1);
      a2 = hn::MulAdd(v0, hn::LoadU(d, r1 + p), a2);
      a3 = hn::MulAdd(v1, hn::LoadU(d, r1 + p + N), a3);
      a4 = hn::MulAdd(v0, hn::LoadU(d, r2 + p), a4);
      a5 = hn::MulAdd(v1, hn::LoadU(d, r2 + p + N), a5);
      a6 = hn::MulAdd(v0, hn::LoadU(d, r3 + p), a6);
      a7 = hn::MulAdd(v1, hn::LoadU(d, r3 + p + N), a7);
    }
    for (; p < s.k; p += N) {
      const int64_t n = std::min(N, s.k - p);
      const auto mask = hn::FirstN(d, static_cast<size_t>(n));
      const auto v = LoadPart(d, mask, n, x + p);
      a0 = hn::MulAdd(v, LoadPart(d, mask, n, r0 + p), a0);
      a2 = hn::MulAdd(v, LoadPart(d, mask, n, r1 + p), a2);
      a4 = hn::MulAdd(v, LoadPart(d, mask, n, r2 + p), a4);
      a6 = hn::MulAdd(v, LoadPart(d, mask, n, r3 + p), a6);
    }
    y[j * y_step] = alpha * sum_of(a0, a1);
    y[(j + 1) * y_step] = alpha * sum_of(a2, a3);
    y[(j + 2) * y_step] = alpha * sum_of(a4, a5);
    y[(j + 3) * y_step] = alpha * sum_of(a6, a7);
  }
  for (; j < col1; ++j) {
    const T* HWY_RESTRICT r = b + j * b_col;
    auto a0 = hn::Zero(d);
    for (int64_t p = 0; p < s.k; p += N) {
      const int64_t n = std::min(N, s.k - p);
      const auto mask = hn::FirstN(d, static_cast<size_t>(n));
      a0 = hn::MulAdd(LoadPart(d, mask, n, x + p), LoadPart(d, mask, n, r + p), a0);
    }
    y[j * y_step] = alpha * hn::GetLane(hn::SumOfLanes(d, a0));
  }
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // LC_BACKENDS_CPU_GEMV_INL_H_
