// A packed int8 weight by rows that are made int8 as well, each with its own factor, for AVX-512
// VNNI: four products and their sum a lane and instruction, where float32 has one.
//
// The instruction multiplies unsigned by signed bytes, and only the signed ones may be a broadcast
// from memory, which is what x is. So weights become value + 128 as they are loaded, and what that
// adds, 128 times the sum of a row of x, is where the row's sums start. All sums are exact in int32
// up to kMostInt8Terms. Four rows of a panel [k, width] become the instruction's order with one
// byte permutation, so that the weight needs no layout of its own.

#if defined(LC_BACKENDS_CPU_GEMM_INT8_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LC_BACKENDS_CPU_GEMM_INT8_INL_H_
#undef LC_BACKENDS_CPU_GEMM_INT8_INL_H_
#else
#define LC_BACKENDS_CPU_GEMM_INT8_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#include "backends/cpu/gemm_stream-inl.h"
#include "hwy/highway.h"

/// The instructions can be compiled for this target; whether the processor has them is asked at run
/// time.
#undef LC_HAS_INT8_DOT
#if HWY_TARGET == HWY_AVX3
#define LC_HAS_INT8_DOT 1
#include <immintrin.h>
#else
#define LC_HAS_INT8_DOT 0
#endif

#if LC_HAS_INT8_DOT
HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// 255 * 127 a term in int32.
inline constexpr int64_t kMostInt8Terms = 65536;

/// A row of x: value i is `factor` times byte i.
struct QuantizedRow {
  float factor;  ///< the largest magnitude is 127 steps; NaN where a value is not finite
  int32_t sum;   ///< of the bytes
};

/// Elements [0, k) of a row, `step` apart, as round(x / factor) in `to`, padded with zeros to a
/// multiple of 4.
HWY_INLINE QuantizedRow QuantizeRow(const float* HWY_RESTRICT x, int64_t step, int64_t k,
                                    int8_t* HWY_RESTRICT to) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::Rebind<int8_t, decltype(d)> bytes;
  const auto N = static_cast<int64_t>(hn::Lanes(d));
  const auto load = [&](int64_t p) HWY_ATTR {
    if (step == 1) {
      if (p + N <= k) return hn::LoadU(d, x + p);
      return hn::MaskedLoad(hn::FirstN(d, static_cast<size_t>(k - p)), d, x + p);
    }
    alignas(64) float lanes[hn::MaxLanes(d)] = {};
    for (int64_t l = 0; l < std::min(N, k - p); ++l) lanes[l] = x[(p + l) * step];
    return hn::Load(d, lanes);
  };
  auto most = hn::Zero(d);
  auto odd = hn::Zero(d);  // NaN from the first value that is not finite
  for (int64_t p = 0; p < k; p += N) {
    const auto v = load(p);
    most = hn::Max(most, hn::Abs(v));
    odd = hn::MulAdd(v, hn::Zero(d), odd);
  }
  const float largest = hn::GetLane(hn::MaxOfLanes(d, most));
  const float rest = hn::GetLane(hn::SumOfLanes(d, odd));
  const bool finite = rest == 0;
  // A magnitude below 127 times the least normal number has no reciprocal: it counts as zero.
  const bool some = finite && largest > 127 * std::numeric_limits<float>::min();
  const auto inverse = hn::Set(d, some ? 127 / largest : 0.0f);
  const int64_t padded = (k + 3) / 4 * 4;
  auto sums = hn::Zero(di);
  for (int64_t p = 0; p < padded; p += N) {
    const auto v = finite ? load(p) : hn::Zero(d);
    const auto q = hn::NearestInt(hn::Mul(v, inverse));
    sums = hn::Add(sums, q);
    alignas(64) int8_t lanes[hn::MaxLanes(d)];
    hn::Store(hn::DemoteTo(bytes, q), bytes, lanes);
    std::memcpy(to + p, lanes, static_cast<size_t>(std::min(N, padded - p)));
  }
  const float factor = some ? largest / 127 : 0.0f;
  return {finite ? factor : std::numeric_limits<float>::quiet_NaN(),
          hn::GetLane(hn::SumOfLanes(di, sums))};
}

HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512vnni,avx512vbmi")

/// 16 columns of four rows of a panel, `width` bytes apart, in the instruction's order: byte 4c + r
/// is row r of column c.
HWY_INLINE __m512i QuadOfRows(const int8_t* w, int64_t width, __m512i order) {
  const auto row = [&](int64_t r) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(w + r * width));
  };
  __m512i all = _mm512_castsi128_si512(row(0));
  all = _mm512_inserti32x4(all, row(1), 1);
  all = _mm512_inserti32x4(all, row(2), 2);
  all = _mm512_inserti32x4(all, row(3), 3);
  return _mm512_permutexvar_epi8(order, all);
}

/// kRows quantised rows, `x_row` bytes apart, by one tile's columns of a panel.
template <int kRows>
HWY_NOINLINE void Int8Tile(int64_t k, const int8_t* HWY_RESTRICT x, int64_t x_row,
                           const QuantizedRow* HWY_RESTRICT rows, const int8_t* HWY_RESTRICT w,
                           int64_t width, float* HWY_RESTRICT c, int64_t c_row, int64_t cols,
                           Soon soon) {
  static_assert(kNv == 3);
  alignas(64) static constexpr uint8_t kOrder[64] = {
      0,  16, 32, 48, 1,  17, 33, 49, 2,  18, 34, 50, 3,  19, 35, 51, 4,  20, 36, 52, 5,  21,
      37, 53, 6,  22, 38, 54, 7,  23, 39, 55, 8,  24, 40, 56, 9,  25, 41, 57, 10, 26, 42, 58,
      11, 27, 43, 59, 12, 28, 44, 60, 13, 29, 45, 61, 14, 30, 46, 62, 15, 31, 47, 63};
  const __m512i order = _mm512_load_si512(kOrder);
  const __m512i offset = _mm512_set1_epi8(static_cast<char>(128));
  // Not __m512i, eight int64: g++ 12 then keeps each sum twice, once as either type.
  typedef int32_t Sums __attribute__((vector_size(64)));
  Sums acc[kRows][kNv];
  HWY_UNROLL(8)
  for (int i = 0; i < kRows; ++i) {
    HWY_UNROLL(3)
    for (int v = 0; v < kNv; ++v) acc[i][v] = (Sums)_mm512_set1_epi32(-128 * rows[i].sum);
  }
  int8_t last[4 * kNv * 16] = {};  // rows behind the sum's end are zeros, as those of x
  for (int64_t p = 0; p < k; p += 4) {
    const int8_t* HWY_RESTRICT from = w + p * width;
    int64_t step = width;
    if (HWY_UNLIKELY(p + 4 > k)) {
      for (int64_t r = 0; r < k - p; ++r)
        std::memcpy(last + r * kNv * 16, from + r * width, kNv * 16);
      from = last;
      step = kNv * 16;
    }
    __m512i wv[kNv];
    HWY_UNROLL(3)
    for (int v = 0; v < kNv; ++v) {
      // Flipping the sign bit adds 128.
      wv[v] = _mm512_xor_si512(QuadOfRows(from + v * 16, step, order), offset);
      hwy::Prefetch(soon.at + v * 64);
    }
    soon.at += 4 * soon.step;
    HWY_UNROLL(8)
    for (int i = 0; i < kRows; ++i) {
      int32_t four;
      std::memcpy(&four, x + i * x_row + p, 4);
      const __m512i xv = _mm512_set1_epi32(four);
      HWY_UNROLL(3)
      for (int v = 0; v < kNv; ++v)
        acc[i][v] = (Sums)_mm512_dpbusd_epi32((__m512i)acc[i][v], wv[v], xv);
    }
  }
  HWY_UNROLL(8)
  for (int i = 0; i < kRows; ++i) {
    const __m512 factor = _mm512_set1_ps(rows[i].factor);
    HWY_UNROLL(3)
    for (int v = 0; v < kNv; ++v) {
      const int64_t left = cols - v * 16;
      if (left <= 0) continue;
      const __m512 sum = _mm512_mul_ps(_mm512_cvtepi32_ps((__m512i)acc[i][v]), factor);
      const auto mask = static_cast<__mmask16>((uint32_t{1} << std::min<int64_t>(left, 16)) - 1);
      _mm512_mask_storeu_ps(c + i * c_row + v * 16, mask, sum);
    }
  }
}

HWY_POP_ATTRIBUTES

using Int8Fn = void (*)(int64_t, const int8_t*, int64_t, const QuantizedRow*, const int8_t*,
                        int64_t, float*, int64_t, int64_t, Soon);

template <int... kRow>
HWY_INLINE Int8Fn FindInt8(int64_t rows, std::integer_sequence<int, kRow...>) {
  static constexpr Int8Fn kTable[] = {Int8Tile<kRow + 1>...};
  return kTable[rows - 1];
}

/// Columns [col0, col1) of the product of quantised rows, then the epilogue.
HWY_INLINE void GemmInt8(const GemmSizes& s, const GemmEpilogue<float>& e, const int8_t* x,
                         int64_t x_row, const QuantizedRow* rows, const PackedWeight<int8_t>& b,
                         float* c, int64_t c_row, int64_t col0, int64_t col1) {
  const int64_t NR = PanelWidth<float>();
  const int64_t tiles = (s.m + kMr - 1) / kMr;
  for (int64_t col = col0; col < col1; col += NR) {
    const int64_t cols = std::min(NR, col1 - col);
    const int8_t* const panel = b.at(col);
    const int8_t* const next = col + NR < col1 ? b.at(col + NR) : panel;
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t r0 = s.m * i / tiles;
      const int64_t height = s.m * (i + 1) / tiles - r0;
      float* const to = c + r0 * c_row + col;
      FindInt8(height, std::make_integer_sequence<int, kMr>())(
          s.k, x + r0 * x_row, x_row, rows + r0, panel, b.width, to, c_row, cols,
          SoonOf(b, panel, next, col == col0, i, tiles));
      Finish(e, to, c_row, r0, height, col, cols);
    }
  }
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // LC_HAS_INT8_DOT

#endif  // LC_BACKENDS_CPU_GEMM_INT8_INL_H_
