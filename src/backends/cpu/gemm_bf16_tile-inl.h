// Packing and register tiles of a product of bfloat16 matrices, summed in float32.
//
// Both operands are packed in pairs: one 32-bit lane holds elements 2q and 2q + 1 of the sum, the
// first in its lower half, zero where k is odd. AVX-512's bfloat16 dot instruction multiplies and
// adds such pairs, at twice the rate of float32's multiply-add. It takes subnormal inputs, sums and
// results for zero, so it serves where none can occur, and an exact tile on the same layout where
// one can: see ExponentFloor().

#if defined(LC_BACKENDS_CPU_GEMM_BF16_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LC_BACKENDS_CPU_GEMM_BF16_TILE_INL_H_
#undef LC_BACKENDS_CPU_GEMM_BF16_TILE_INL_H_
#else
#define LC_BACKENDS_CPU_GEMM_BF16_TILE_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

#include "backends/cpu/gemm_tile-inl.h"
#include "backends/cpu/half.hpp"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

/// The instruction can be compiled for this target; whether the processor has it is asked at run
/// time (gemm_bf16.hpp).
#undef LC_HAS_BF16_DOT
#if HWY_TARGET == HWY_AVX3
#define LC_HAS_BF16_DOT 1
#include <immintrin.h>
#else
#define LC_HAS_BF16_DOT 0
#endif

#if LC_HAS_BF16_DOT
HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Pair = uint32_t;
using PairTag = hn::ScalableTag<Pair>;

// ---------------------------------------------------------------- exponents

/// Biased exponent of the smallest nonzero magnitude, which is `least` + 1: 0 for a subnormal. More
/// than any exponent where all are zero, whose `least` is 0xffff.
HWY_INLINE int ExponentOf(uint32_t least) { return static_cast<int>((least + 1) >> 7); }
inline constexpr int kNoExponent = 512;

/// ExponentOf() n elements.
HWY_INLINE int ExponentFloor(const uint16_t* HWY_RESTRICT from, int64_t n) {
  const hn::ScalableTag<uint16_t> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto magnitude = hn::Set(d, 0x7fffu);
  const auto one = hn::Set(d, 1u);
  auto least = hn::Set(d, 0xffffu);  // of magnitude - 1, which makes zero the largest
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    least = hn::Min(least, hn::Sub(hn::And(hn::LoadU(d, from + i), magnitude), one));
  alignas(64) uint16_t each[hn::MaxLanes(d)];
  hn::Store(least, d, each);
  uint32_t found = 0xffff;
  for (int64_t l = 0; l < lanes; ++l) found = std::min<uint32_t>(found, each[l]);
  for (; i < n; ++i) found = std::min(found, ((from[i] & 0x7fffu) - 1u) & 0xffffu);
  return ExponentOf(found);
}
HWY_INLINE int ExponentFloor(const Pair* pairs, int64_t n) {
  return ExponentFloor(reinterpret_cast<const uint16_t*>(pairs), 2 * n);
}

/// True if no product of the two panels and no sum of such products is a subnormal float32. Every
/// product is a multiple of the two floors' units in the last place, hence every sum is, rounded or
/// not: 2^(a - 134) 2^(b - 134) must not be below 2^-126.
HWY_INLINE bool NoSubnormals(int floor_a, int floor_b) {
  return floor_a > 0 && floor_b > 0 && floor_a + floor_b >= 142;
}

// ---------------------------------------------------------------- packing

HWY_INLINE Pair PairOf(const BFloat* first, const BFloat* second) {
  return first->bits | static_cast<Pair>(second != nullptr ? second->bits : 0) << 16;
}

/// to[q * to_step + i] = elements 2q and 2q + 1 of row i, i < rows, q < k / 2, rows contiguous:
/// squares of as many lanes as there are rows for. `row` may be odd.
template <size_t kLanes>
HWY_INLINE void PackPairsTransposed(const BFloat* HWY_RESTRICT from, int64_t row, int64_t rows,
                                    int64_t pairs, Pair* HWY_RESTRICT to, int64_t to_step) {
  constexpr auto kRows = static_cast<int64_t>(kLanes);
  int64_t i = 0;
  const hn::FixedTag<Pair, kLanes> d;
  for (; i + kRows <= rows; i += kRows) {
    int64_t q = 0;
    for (; q + kRows <= pairs; q += kRows)
      TransposeSquare(d, from + i * row + 2 * q, row, to + q * to_step + i, to_step);
    for (; q < pairs; ++q)
      for (int64_t e = 0; e < kRows; ++e)
        std::memcpy(to + q * to_step + i + e, from + (i + e) * row + 2 * q, sizeof(Pair));
  }
  if constexpr (kLanes > 4) {
    PackPairsTransposed<kLanes / 2>(from + i * row, row, rows - i, pairs, to + i, to_step);
    return;
  }
  for (; i < rows; ++i)
    for (int64_t q = 0; q < pairs; ++q)
      std::memcpy(to + q * to_step + i, from + i * row + 2 * q, sizeof(Pair));
}

/// Two rows of contiguous columns, the second null for zeros, to `cols` pairs.
HWY_INLINE void InterleaveRows(const BFloat* HWY_RESTRICT first, const BFloat* HWY_RESTRICT second,
                               int64_t cols, Pair* HWY_RESTRICT to) {
  const PairTag d;
  const hn::Rebind<uint16_t, PairTag> d16;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto load = [&](const BFloat* p) HWY_ATTR {
    return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p)));
  };
  int64_t j = 0;
  for (; j + lanes <= cols; j += lanes) {
    const auto low = load(first + j);
    hn::StoreU(second != nullptr ? hn::Or(low, hn::ShiftLeft<16>(load(second + j))) : low, d,
               to + j);
  }
  for (; j < cols; ++j) to[j] = PairOf(first + j, second != nullptr ? second + j : nullptr);
}

/// Pairs [q0, q1) of a panel of `rows` rows (columns of B), element (i, p) at
/// from[i * row + p * step]; `k` elements in all. to[q * to_step + i]; lanes [rows, to_step) are
/// zeroed. The panel's ExponentFloor().
HWY_INLINE int PackPairs(const BFloat* from, int64_t row, int64_t step, int64_t rows, int64_t k,
                         int64_t q0, int64_t q1, Pair* to, int64_t to_step) {
  constexpr int64_t kChunk = 64;  // pairs whose exponents are looked at while they are in L1
  int floor = kNoExponent;
  for (int64_t q = q0; q < q1; q += kChunk) {
    const int64_t end = std::min(q + kChunk, q1);
    const int64_t whole = std::min(end, k / 2);  // the last pair of an odd k has one element
    Pair* const out = to + q * to_step;
    if (step == 1) {
      PackPairsTransposed<hn::MaxLanes(PairTag())>(from + 2 * q, row, rows, whole - q, out,
                                                   to_step);
    } else if (row == 1) {
      for (int64_t p = q; p < whole; ++p)
        InterleaveRows(from + 2 * p * step, from + (2 * p + 1) * step, rows, to + p * to_step);
    } else {
      for (int64_t p = q; p < whole; ++p)
        for (int64_t i = 0; i < rows; ++i)
          to[p * to_step + i] =
              PairOf(from + i * row + 2 * p * step, from + i * row + (2 * p + 1) * step);
    }
    if (whole < end)
      for (int64_t i = 0; i < rows; ++i)
        to[whole * to_step + i] = PairOf(from + i * row + 2 * whole * step, nullptr);
    if (rows < to_step)
      for (int64_t p = q; p < end; ++p)
        std::fill(to + p * to_step + rows, to + (p + 1) * to_step, Pair{0});
    floor = std::min(floor, ExponentFloor(out, (end - q) * to_step));
  }
  return floor;
}

// ---------------------------------------------------------------- tiles

/// out[i * width + j] (+)= sum over q < pairs of a[q * kRows + i] b[q * width + j], j < kVectors
/// vectors, width = PanelWidth<float>(). By multiply-adds, with subnormals: one pass for the even
/// elements of pairs, one for the odd ones, because both of b do not fit the registers.
template <int kRows, int kVectors>
HWY_NOINLINE void ExactPairTile(int64_t pairs, const Pair* HWY_RESTRICT a,
                                const Pair* HWY_RESTRICT b, float* HWY_RESTRICT out,
                                bool accumulate, const Ahead&) {
  const GemmTag<float> d;
  const PairTag du;
  using V = hn::Vec<decltype(d)>;
  const int64_t N = VectorLanes<float>();
  const int64_t width = PanelWidth<float>();
  const auto odd = hn::Set(du, 0xffff0000u);
  V acc[kRows][kVectors];
  HWY_UNROLL(8)
  for (int i = 0; i < kRows; ++i) {
    HWY_UNROLL(3)
    for (int v = 0; v < kVectors; ++v)
      acc[i][v] = accumulate ? hn::LoadU(d, out + i * width + v * N) : hn::Zero(d);
  }
  const auto step = [&](const auto& half) HWY_ATTR {
    V bv[kVectors];
    HWY_UNROLL(3)
    for (int v = 0; v < kVectors; ++v) bv[v] = hn::BitCast(d, half(hn::LoadU(du, b + v * N)));
    HWY_UNROLL(8)
    for (int i = 0; i < kRows; ++i) {
      const V x = hn::BitCast(d, half(hn::Set(du, a[i])));
      HWY_UNROLL(3)
      for (int v = 0; v < kVectors; ++v) acc[i][v] = hn::MulAdd(x, bv[v], acc[i][v]);
    }
  };
  for (int64_t q = 0; q < pairs; ++q, a += kRows, b += width) {
    step([&](auto x) HWY_ATTR { return hn::ShiftLeft<16>(x); });
    HWY_FENCE;
    step([&](auto x) HWY_ATTR { return hn::And(x, odd); });
    HWY_FENCE;
  }
  HWY_UNROLL(8)
  for (int i = 0; i < kRows; ++i) {
    HWY_UNROLL(3)
    for (int v = 0; v < kVectors; ++v) hn::StoreU(acc[i][v], d, out + i * width + v * N);
  }
}

HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512bf16")

/// The same by the dot instruction, for panels of which NoSubnormals() holds.
template <int kRows, int kVectors>
HWY_NOINLINE void DotPairTile(int64_t pairs, const Pair* HWY_RESTRICT a, const Pair* HWY_RESTRICT b,
                              float* HWY_RESTRICT out, bool accumulate, const Ahead& ahead) {
  constexpr int64_t kLanes = 16;
  constexpr int64_t kWidth = kNv * kLanes;
  constexpr int64_t kAhead = 16 * kRows;  // packed A streams from L2
  __m512 acc[kRows][kVectors];
  HWY_UNROLL(8)
  for (int i = 0; i < kRows; ++i) {
    HWY_UNROLL(3)
    for (int v = 0; v < kVectors; ++v)
      acc[i][v] = accumulate ? _mm512_loadu_ps(out + i * kWidth + v * kLanes) : _mm512_setzero_ps();
  }
  const char* soon =
      ahead.at != nullptr ? static_cast<const char*>(ahead.at) : reinterpret_cast<const char*>(a);
  int64_t q = 0;
  while (q < pairs) {
    const int64_t end = std::min(q + 4, pairs);
    HWY_UNROLL(2)
    for (int64_t at = 0; at < 4 * kRows; at += 16) hwy::Prefetch(a + kAhead + at);
    for (int64_t l = 0; l < ahead.lines; ++l, soon += kLineBytes) __builtin_prefetch(soon, 0, 2);
    for (; q < end; ++q, a += kRows, b += kWidth) {
      __m512bh bv[kVectors];
      HWY_UNROLL(3)
      for (int v = 0; v < kVectors; ++v) bv[v] = (__m512bh)_mm512_loadu_si512(b + v * kLanes);
      HWY_UNROLL(8)
      for (int i = 0; i < kRows; ++i) {
        const __m512bh x = (__m512bh)_mm512_set1_epi32(static_cast<int>(a[i]));
        HWY_UNROLL(3)
        for (int v = 0; v < kVectors; ++v) acc[i][v] = _mm512_dpbf16_ps(acc[i][v], x, bv[v]);
      }
    }
  }
  HWY_UNROLL(8)
  for (int i = 0; i < kRows; ++i) {
    HWY_UNROLL(3)
    for (int v = 0; v < kVectors; ++v) _mm512_storeu_ps(out + i * kWidth + v * kLanes, acc[i][v]);
  }
}

HWY_POP_ATTRIBUTES

using PairTileFn = void (*)(int64_t, const Pair*, const Pair*, float*, bool, const Ahead&);

/// Every height and width of both tiles: [rows - 1][vectors - 1].
template <int... kRow>
HWY_INLINE PairTileFn FindPairTile(bool dot, int rows, int vectors,
                                   std::integer_sequence<int, kRow...>) {
  static_assert(kNv == 3);
  static constexpr PairTileFn kDot[][3] = {
      {DotPairTile<kRow + 1, 1>, DotPairTile<kRow + 1, 2>, DotPairTile<kRow + 1, 3>}...};
  static constexpr PairTileFn kExact[][3] = {
      {ExactPairTile<kRow + 1, 1>, ExactPairTile<kRow + 1, 2>, ExactPairTile<kRow + 1, 3>}...};
  return (dot ? kDot : kExact)[rows - 1][vectors - 1];
}

HWY_INLINE void RunPairTile(bool dot, int64_t rows, int64_t cols, int64_t pairs, const Pair* a,
                            const Pair* b, float* out, bool accumulate, const Ahead& ahead) {
  constexpr auto kHeights = std::make_integer_sequence<int, kMr>();
  const auto height = static_cast<int>(rows);
  const auto vectors = static_cast<int>((cols + VectorLanes<float>() - 1) / VectorLanes<float>());
  FindPairTile(dot, height, vectors, kHeights)(pairs, a, b, out, accumulate, ahead);
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // LC_HAS_BF16_DOT

#endif  // toggle guard
