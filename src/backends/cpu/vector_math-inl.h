// Elementary functions on Highway vectors of float and double, for all CPU kernels.
//
// Error at most 4 ulp over the whole range (measured by tests/cpp/vector_math_test.cpp), denormals
// included; infinities and NaN as in C's libm. Exceptions: gelu and gelu_tanh 6 ulp, and 6 ulp of
// 0.05 where they are smaller; silu 4 ulp of 1e-30 where it is smaller. No function needs fused
// multiply-add for its accuracy, so the baseline target keeps the same bounds.
//
// Sources: reductions after Cody & Waite 1980; log and log1p after fdlibm; erfc as
// exp(-x^2) u P(u), u = 1/(1+cx), after Shepherd & Laframboise 1981; polynomials fitted with Remez.

// Toggle guard: included once for every target.
#if defined(LC_BACKENDS_CPU_VECTOR_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LC_BACKENDS_CPU_VECTOR_MATH_INL_H_
#undef LC_BACKENDS_CPU_VECTOR_MATH_INL_H_
#else
#define LC_BACKENDS_CPU_VECTOR_MATH_INL_H_
#endif

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "hwy/highway.h"
#include "ops/activation.hpp"

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

namespace vmath {

constexpr bool kEmulated = HWY_TARGET == HWY_EMU128 || HWY_TARGET == HWY_SCALAR;
constexpr bool kHasFma = !kEmulated && (!HWY_ARCH_X86 || HWY_TARGET <= HWY_AVX2);
/// hn::Floor and hn::Ceil keep the sign of zero where they are an instruction.
constexpr bool kFloorKeepsSign = !kEmulated && (!HWY_ARCH_X86 || HWY_TARGET <= HWY_SSE4);

template <class D>
using VI = hn::Vec<hn::RebindToSigned<D>>;

template <size_t kFirst, size_t kStep, class D, class V, size_t kN>
HWY_INLINE V Horner(D d, V x, const hn::TFromD<D> (&c)[kN]) {
  if constexpr (kFirst + kStep >= kN) {
    return hn::Set(d, c[kFirst]);
  } else {
    return hn::MulAdd(Horner<kFirst + kStep, kStep>(d, x, c), x, hn::Set(d, c[kFirst]));
  }
}

/// c[0] + c[1] x + ...; long ones as two interleaved chains.
template <class D, class V, size_t kN>
HWY_INLINE V Poly(D d, V x, const hn::TFromD<D> (&c)[kN]) {
  if constexpr (kN <= 6) {
    return Horner<0, 1>(d, x, c);
  } else {
    const V x2 = hn::Mul(x, x);
    return hn::MulAdd(Horner<1, 2>(d, x2, c), x, Horner<0, 2>(d, x2, c));
  }
}

template <class T>
struct Constants;

template <>
struct Constants<float> {
  static constexpr int kMantissa = 23;
  static constexpr int kBias = 127;
  static constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  static constexpr float kExpMin = -104.0f, kExpMax = 89.0f, kExpm1Min = -20.0f;
  static constexpr float kLn2Hi = 0.693145751953125f;  // 15 bits: n * kLn2Hi is exact
  static constexpr float kLn2Lo = 1.428606765330187045e-6f;
  // (e^r - 1 - r) / r^2
  static constexpr float kExp[] = {0.5000000062f, 0.1666654299f, 0.04166628151f, 0.008366584168f,
                                   0.001394649954f};
  static constexpr float kLogHi = 0.69313812256f, kLogLo = 9.0580006145e-6f;
  static constexpr float kLog[] = {0.66666662693f, 0.40000972152f, 0.28498786688f, 0.24279078841f};
  static constexpr int32_t kSqrtHalf = 0x3f3504f3;
  static constexpr float kDenormScale = 33554432.0f;  // 2^25
  static constexpr float kDenormExp = 25.0f;
  static constexpr float kTrigMax = 30000.0f;
  // pi/2 in parts whose products with n are exact
  static constexpr float kHalfPi[] = {1.5703125f, 0.00048351287841796875f,
                                      3.13855707645416259765625e-7f, 6.0771006282767103812e-11f};
  static constexpr float kSin[] = {-1.6666654611e-1f, 8.3321608736e-3f, -1.9515295891e-4f};
  static constexpr float kCosine[] = {4.166664568298827e-2f, -1.388731625493765e-3f,
                                      2.443315711809948e-5f};
  // erf(x) / x - 1, in x^2
  static constexpr float kErf[] = {0.1283791538f,   -0.3761252328f,  0.1128214079f,
                                   -0.02677890824f, 0.005011962037f, -0.0006090356612f};
  // e^(x^2) erfc(x) / u in 2u - 1, u = 1 / (1 + 0.3 x)
  static constexpr float kErfc[] = {0.3249799177f,   0.2765236203f,     0.1987815184f,
                                    0.1187167314f,   0.05695521463f,    0.02041974766f,
                                    0.004383199952f, -0.0002539488455f, -0.0005060208123f};
};

template <>
struct Constants<double> {
  static constexpr int kMantissa = 52;
  static constexpr int kBias = 1023;
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kExpMin = -746.0, kExpMax = 710.0, kExpm1Min = -45.0;
  static constexpr double kLn2Hi = 0.6931471805596629565116018;
  static constexpr double kLn2Lo = 0.28235290563031577122588448175e-12;
  static constexpr double kExp[] = {0.5,
                                    0.166666666666666766,
                                    0.041666666666666701,
                                    0.0083333333333216162,
                                    0.00138888888888669684,
                                    0.000198412698861578216,
                                    0.0000248015873603459303,
                                    2.75572441824411941e-6,
                                    2.75572429091585647e-7,
                                    2.51090447758093933e-8,
                                    2.09244043329006796e-9};
  static constexpr double kLogHi = 6.93147180369123816490e-01, kLogLo = 1.90821492927058770002e-10;
  static constexpr double kLog[] = {6.666666666666735130e-01, 3.999999999940941908e-01,
                                    2.857142874366239149e-01, 2.222219843214978396e-01,
                                    1.818357216161805012e-01, 1.531383769920937332e-01,
                                    1.479819860511658591e-01};
  static constexpr int64_t kSqrtHalf = 0x3fe6a09e667f3bcd;
  static constexpr double kDenormScale = 18014398509481984.0;  // 2^54
  static constexpr double kDenormExp = 54.0;
  static constexpr double kTrigMax = 1e6;
  static constexpr double kHalfPi[] = {1.57079632673412561416626, 6.077100506303965976595549e-11,
                                       2.022266248711166455795996e-21,
                                       8.478427660368899569973654e-32};
  static constexpr double kSin[] = {-1.66666666666666324348e-01, 8.33333333332248946124e-03,
                                    -1.98412698298579493134e-04, 2.75573137070700676789e-06,
                                    -2.50507602534068634195e-08, 1.58969099521155010221e-10};
  static constexpr double kCosine[] = {4.16666666666666019037e-02, -1.38888888888741095749e-03,
                                       2.48015872894767294178e-05, -2.75573143513906633035e-07,
                                       2.08757232129817482790e-09, -1.13596475577881948265e-11};
  static constexpr double kErf[] = {
      0.128379167095512573,    -0.37612638903183728,      0.112837916709537041,
      -0.0268661706448066313,  0.00522397762160316694,    -0.000854832675491653443,
      0.000120553210420877308, -0.0000149252997371776934, 1.64552138998932585e-6,
      -1.62754758422860504e-7, 1.40460460148801039e-8,    -8.48184738994638257e-10};
  static constexpr double kErfc[] = {
      0.324979921859796872,     0.276523556756065371,     0.198781078044328238,
      0.11871867470892871,      0.0569616380431862625,    0.0204014469302644398,
      0.00435610007921605214,   -0.000181737545289144068, -0.000481348129126365156,
      -0.000107000879162775786, 0.0000327321456589543563, 0.0000191005518904771179,
      -1.74953177329709712e-6,  -2.85941648322144735e-6,  7.1328337605429191e-8,
      4.44241126540911735e-7,   -1.03318268773543746e-8,  -7.32557878127564251e-8,
      5.76854891559596798e-9,   1.16561079607512878e-8,   -2.15483755277475144e-9,
      -1.28153651314421717e-9,  4.12367161674773362e-10};
};

// x86's minimum and maximum return their second operand if either is NaN or both are zero.
constexpr bool kMinMaxKeepsSecond = HWY_ARCH_X86 && !kEmulated;

/// The smaller, or b if either is NaN.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V MinOrSecond(D, V a, V b) {
  return kMinMaxKeepsSecond ? hn::Min(a, b) : hn::IfThenElse(hn::Lt(a, b), a, b);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V ClampBelow(D d, V x, hn::TFromD<D> lo) {  // keeps NaN and, at 0, the sign
  const V v = hn::Set(d, lo);
  return kMinMaxKeepsSecond ? hn::Max(v, x) : hn::IfThenElse(hn::Lt(x, v), v, x);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V ClampAbove(D d, V x, hn::TFromD<D> hi) {
  return MinOrSecond(d, hn::Set(d, hi), x);
}

/// x = n ln2 + r; returns e^r - 1 and n as a signed integer vector.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V ExpReduced(D d, V x, VI<D>* n) {
  using C = Constants<hn::TFromD<D>>;
  const hn::RebindToSigned<D> di;
  const V magic = hn::Set(d, C::kRound);
  const V t = hn::MulAdd(x, hn::Set(d, static_cast<hn::TFromD<D>>(1.4426950408889634)), magic);
  const V nf = hn::Sub(t, magic);
  V r = hn::NegMulAdd(nf, hn::Set(d, C::kLn2Hi), x);
  r = hn::NegMulAdd(nf, hn::Set(d, C::kLn2Lo), r);
  *n = hn::Sub(hn::BitCast(di, t), hn::BitCast(di, magic));
  return hn::MulAdd(hn::Mul(r, r), Poly(d, r, C::kExp), r);
}

/// 2^n, for n within the normal exponents.
template <class D>
HWY_INLINE hn::Vec<D> Pow2(D d, VI<D> n) {
  using C = Constants<hn::TFromD<D>>;
  using TI = hwy::MakeSigned<hn::TFromD<D>>;
  const hn::RebindToSigned<D> di;
  return hn::BitCast(d, hn::ShiftLeft<C::kMantissa>(hn::Add(n, hn::Set(di, TI{C::kBias}))));
}

/// n / 2 rounded down, for |n| < 4096. int64 vectors have no arithmetic shift before AVX-512.
template <class D>
HWY_INLINE VI<D> Half(D, VI<D> n) {
  using TI = hwy::MakeSigned<hn::TFromD<D>>;
  const hn::RebindToSigned<D> di;
  const hn::RebindToUnsigned<D> du;
  const auto u = hn::BitCast(du, hn::Add(n, hn::Set(di, TI{4096})));
  return hn::Sub(hn::BitCast(di, hn::ShiftRight<1>(u)), hn::Set(di, TI{2048}));
}

#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
HWY_INLINE hn::Vec512<float> ScaleF(hn::Vec512<float> v, hn::Vec512<float> n) {
  return hn::Vec512<float>{_mm512_scalef_ps(v.raw, n.raw)};
}
HWY_INLINE hn::Vec512<double> ScaleF(hn::Vec512<double> v, hn::Vec512<double> n) {
  return hn::Vec512<double>{_mm512_scalef_pd(v.raw, n.raw)};
}
HWY_INLINE hn::Vec256<float> ScaleF(hn::Vec256<float> v, hn::Vec256<float> n) {
  return hn::Vec256<float>{_mm256_scalef_ps(v.raw, n.raw)};
}
HWY_INLINE hn::Vec256<double> ScaleF(hn::Vec256<double> v, hn::Vec256<double> n) {
  return hn::Vec256<double>{_mm256_scalef_pd(v.raw, n.raw)};
}
template <size_t kN>
HWY_INLINE hn::Vec128<float, kN> ScaleF(hn::Vec128<float, kN> v, hn::Vec128<float, kN> n) {
  return hn::Vec128<float, kN>{_mm_scalef_ps(v.raw, n.raw)};
}
template <size_t kN>
HWY_INLINE hn::Vec128<double, kN> ScaleF(hn::Vec128<double, kN> v, hn::Vec128<double, kN> n) {
  return hn::Vec128<double, kN>{_mm_scalef_pd(v.raw, n.raw)};
}
#endif

/// v 2^n, rounded once, for v in [1/4, 4] and |n| < 2048; t = kRound + n.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Scale(D d, V v, V t) {
  const V magic = hn::Set(d, Constants<hn::TFromD<D>>::kRound);
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
  return ScaleF(v, hn::Sub(t, magic));
#else
  // In two steps: 2^n alone overflows at the top and is denormal at the bottom.
  const hn::RebindToSigned<D> di;
  const auto n = hn::Sub(hn::BitCast(di, t), hn::BitCast(di, magic));
  const auto n1 = Half(d, n);
  return hn::Mul(hn::Mul(v, Pow2(d, n1)), Pow2(d, hn::Sub(n, n1)));
#endif
}

/// e^r for |r| <= ln2 / 2.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V ExpNear0(D d, V r) {
  using T = hn::TFromD<D>;
  using C = Constants<T>;
  if constexpr (sizeof(T) == 4) {
    static constexpr T k[] = {1, 1, C::kExp[0], C::kExp[1], C::kExp[2], C::kExp[3], C::kExp[4]};
    return Horner<0, 1>(d, r, k);
  } else {
    return hn::Add(hn::MulAdd(hn::Mul(r, r), Poly(d, r, C::kExp), r), hn::Set(d, T{1}));
  }
}

/// log(u) + c for normal positive u, c small beside it.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V LogCore(D d, V u, V exponent_shift, V c) {
  using T = hn::TFromD<D>;
  using C = Constants<T>;
  using TI = hwy::MakeSigned<T>;
  const hn::RebindToSigned<D> di;
  const V one = hn::Set(d, T{1});
  const TI one_bits = static_cast<TI>(TI{C::kBias} << C::kMantissa);
  const auto ix =
      hn::Add(hn::BitCast(di, u), hn::Set(di, static_cast<TI>(one_bits - C::kSqrtHalf)));
  // ix is positive, so a logical shift does; the magic add turns it into a float.
  const V shifted = hn::BitCast(d, hn::Or(hn::BitCast(di, hn::ShiftRight<C::kMantissa>(hn::BitCast(
                                                              hn::RebindToUnsigned<D>(), ix))),
                                          hn::BitCast(di, hn::Set(d, C::kRound))));
  const V k =
      hn::Sub(hn::Sub(shifted, hn::Set(d, C::kRound + static_cast<T>(C::kBias))), exponent_shift);
  const TI mantissa_mask = static_cast<TI>((TI{1} << C::kMantissa) - 1);
  const V m = hn::BitCast(
      d, hn::Add(hn::And(ix, hn::Set(di, mantissa_mask)), hn::Set(di, TI{C::kSqrtHalf})));
  const V f = hn::Sub(m, one);
  const V s = hn::Div(f, hn::Add(f, hn::Set(d, T{2})));
  const V z = hn::Mul(s, s);
  const V r = hn::Mul(z, Poly(d, z, C::kLog));
  const V hfsq = hn::Mul(hn::Set(d, T{0.5}), hn::Mul(f, f));
  const V lo = hn::MulAdd(k, hn::Set(d, C::kLogLo), c);
  const V tail = hn::Sub(hfsq, hn::MulAdd(s, hn::Add(hfsq, r), lo));
  return hn::Sub(hn::Mul(k, hn::Set(d, C::kLogHi)), hn::Sub(tail, f));
}

/// Applies f lane by lane: for arguments past the range reduction.
template <class D, class V, class F>
HWY_NOINLINE V PerLane(D d, V x, F f) {
  HWY_ALIGN hn::TFromD<D> lanes[hn::MaxLanes(d)];
  hn::Store(x, d, lanes);
  for (size_t i = 0; i < hn::Lanes(d); ++i) lanes[i] = f(lanes[i]);
  return hn::Load(d, lanes);
}

}  // namespace vmath

// ---------------------------------------------------------------- ends of rows

// AVX2 and AVX-512 have masked loads that do not touch the rest of the vector.
constexpr bool kMaskedTails = HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2;

/// The first `count` < Lanes(d) elements at p, the others `fill`.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> LoadTail(D d, const T* p, size_t count, T fill) {
  if constexpr (kMaskedTails) {
    const auto first = hn::FirstN(d, count);
    return hn::IfThenElse(first, hn::MaskedLoad(first, d, p), hn::Set(d, fill));
  } else {
    HWY_ALIGN T lanes[hn::MaxLanes(d)];
    hn::Store(hn::Set(d, fill), d, lanes);
    for (size_t i = 0; i < count; ++i) lanes[i] = p[i];
    return hn::Load(d, lanes);
  }
}

template <class D, class V = hn::Vec<D>, class T = hn::TFromD<D>>
HWY_INLINE void StoreTail(V v, D d, T* p, size_t count) {
  if constexpr (kMaskedTails) {
    hn::BlendedStore(v, hn::FirstN(d, count), d, p);
  } else {
    HWY_ALIGN T lanes[hn::MaxLanes(d)];
    hn::Store(v, d, lanes);
    for (size_t i = 0; i < count; ++i) p[i] = lanes[i];
  }
}

// ---------------------------------------------------------------- exponentials and logarithms

template <class D, class V = hn::Vec<D>>
HWY_INLINE V VExp(D d, V x) {
  using T = hn::TFromD<D>;
  using C = vmath::Constants<T>;
  x = vmath::ClampAbove(d, vmath::ClampBelow(d, x, C::kExpMin), C::kExpMax);
  const V magic = hn::Set(d, C::kRound);
  const V t = hn::MulAdd(x, hn::Set(d, static_cast<T>(1.4426950408889634)), magic);
  const V nf = hn::Sub(t, magic);
  V r = hn::NegMulAdd(nf, hn::Set(d, C::kLn2Hi), x);
  r = hn::NegMulAdd(nf, hn::Set(d, C::kLn2Lo), r);
  return vmath::Scale(d, vmath::ExpNear0(d, r), t);
}

namespace vmath {

#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
// x less the integer below it (0 for -inf), and v 2^floor(x), or 0 where x < -126. Two instructions
// for the five that move an integer into an exponent.
HWY_INLINE hn::Vec512<float> Fraction(hn::Vec512<float> x) {
  return hn::Vec512<float>{_mm512_reduce_ps(x.raw, _MM_FROUND_FLOOR)};
}
HWY_INLINE hn::Vec256<float> Fraction(hn::Vec256<float> x) {
  return hn::Vec256<float>{_mm256_reduce_ps(x.raw, _MM_FROUND_FLOOR)};
}
template <size_t kN>
HWY_INLINE hn::Vec128<float, kN> Fraction(hn::Vec128<float, kN> x) {
  return hn::Vec128<float, kN>{_mm_reduce_ps(x.raw, _MM_FROUND_FLOOR)};
}
HWY_INLINE hn::Vec512<float> ScaleNormal(hn::Vec512<float> v, hn::Vec512<float> x) {
  const auto normal = _mm512_cmp_ps_mask(x.raw, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
  return hn::Vec512<float>{_mm512_maskz_scalef_ps(normal, v.raw, x.raw)};
}
HWY_INLINE hn::Vec256<float> ScaleNormal(hn::Vec256<float> v, hn::Vec256<float> x) {
  const auto normal = _mm256_cmp_ps_mask(x.raw, _mm256_set1_ps(-126.0f), _CMP_NLT_UQ);
  return hn::Vec256<float>{_mm256_maskz_scalef_ps(normal, v.raw, x.raw)};
}
template <size_t kN>
HWY_INLINE hn::Vec128<float, kN> ScaleNormal(hn::Vec128<float, kN> v, hn::Vec128<float, kN> x) {
  const auto normal = _mm_cmp_ps_mask(x.raw, _mm_set1_ps(-126.0f), _CMP_NLT_UQ);
  return hn::Vec128<float, kN>{_mm_maskz_scalef_ps(normal, v.raw, x.raw)};
}
#endif

/// As VExp2Fast, in the operations that all targets have.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Exp2Portable(D d, V x) {
  using T = hn::TFromD<D>;
  using C = vmath::Constants<T>;
  const hn::RebindToSigned<D> di;
  const V magic = hn::Set(d, C::kRound);
  // From here on down the exponent's bits are 0, and so is the result.
  x = ClampBelow(d, x, static_cast<T>(-C::kBias));
  const V t = hn::Add(x, magic);
  const V r = hn::Sub(x, hn::Sub(t, magic));
  // Only the low bits of t hold n; the shift drops those of the magic number.
  const V scale = hn::BitCast(d, hn::Add(hn::ShiftLeft<C::kMantissa>(hn::BitCast(di, t)),
                                         hn::BitCast(di, hn::Set(d, T{1}))));
  V p;
  if constexpr (sizeof(T) == 4) {
    static constexpr T k[] = {1.0f,           0.6931469773f,   0.240222418f,
                              0.05550734056f, 0.009671532796f, 0.001326468225f};
    p = Horner<0, 1>(d, r, k);
  } else {
    const V y = hn::Mul(r, hn::Set(d, T{0.69314718055994530942}));
    p = hn::Add(hn::MulAdd(hn::Mul(y, y), Poly(d, y, C::kExp), y), hn::Set(d, T{1}));
  }
  return hn::Mul(p, scale);
}

}  // namespace vmath

/// 2^x for softmax: x <= 127 (float), 2 ulp; results below the smallest normal number are 0 or
/// within half an octave of it, -inf gives 0, NaN gives NaN.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VExp2Fast(D d, V x) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
  if constexpr (sizeof(hn::TFromD<D>) == 4) {
    static constexpr float k[] = {1.0f,           0.6931524873f,   0.2401527911f,
                                  0.05583592877f, 0.008973375894f, 0.001885299222f};
    return vmath::ScaleNormal(vmath::Horner<0, 1>(d, vmath::Fraction(x), k), x);
  }
#endif
  return vmath::Exp2Portable(d, x);
}

/// e^x for x <= 88 (float), as VExp2Fast.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VExpFast(D d, V x) {
  using T = hn::TFromD<D>;
  using C = vmath::Constants<T>;
  const hn::RebindToSigned<D> di;
  const V magic = hn::Set(d, C::kRound);
  const V t = hn::MulAdd(x, hn::Set(d, static_cast<T>(1.4426950408889634)), magic);
  const V nf = hn::Sub(t, magic);
  V r = hn::NegMulAdd(nf, hn::Set(d, C::kLn2Hi), x);
  r = hn::NegMulAdd(nf, hn::Set(d, C::kLn2Lo), r);
  const V scale = hn::BitCast(d, hn::Add(hn::ShiftLeft<C::kMantissa>(hn::BitCast(di, t)),
                                         hn::BitCast(di, hn::Set(d, T{1}))));
  V p;
  if constexpr (sizeof(T) == 4) {
    static constexpr T k[] = {1.0f,          0.999999707f,   0.4999914927f,
                              0.1666763673f, 0.04189797031f, 0.008290296187f};
    p = vmath::Horner<0, 1>(d, r, k);
  } else {
    p = hn::Add(hn::MulAdd(hn::Mul(r, r), vmath::Poly(d, r, C::kExp), r), hn::Set(d, T{1}));
  }
  const auto tiny = hn::Lt(x, hn::Set(d, static_cast<T>(sizeof(T) == 4 ? -87.3365 : -708.39)));
  return hn::IfThenZeroElse(tiny, hn::Mul(p, scale));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V VExpm1(D d, V x) {
  using T = hn::TFromD<D>;
  using C = vmath::Constants<T>;
  using TI = hwy::MakeSigned<T>;
  const hn::RebindToSigned<D> di;
  const V c = vmath::ClampAbove(d, vmath::ClampBelow(d, x, C::kExpm1Min), C::kExpMax);
  vmath::VI<D> n;
  const V p = vmath::ExpReduced(d, c, &n);
  // e^x - 1 = 2 (s p + (s - 1/2)), s = 2^(n-1), which is finite for the largest n.
  const V s = vmath::Pow2(d, hn::Sub(n, hn::Set(di, TI{1})));
  const V y = hn::MulAdd(s, p, hn::Sub(s, hn::Set(d, T{0.5})));
  const V r =
      hn::IfThenElse(hn::Lt(hn::Abs(x), hn::Set(d, static_cast<T>(0.34))), p, hn::Add(y, y));
  return hn::CopySign(r, x);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V VLog(D d, V x) {
  using T = hn::TFromD<D>;
  using C = vmath::Constants<T>;
  const V zero = hn::Zero(d);
  const V inf = hn::Set(d, std::numeric_limits<T>::infinity());
  const auto denormal = hn::Lt(x, hn::Set(d, std::numeric_limits<T>::min()));
  const V u = hn::IfThenElse(denormal, hn::Mul(x, hn::Set(d, C::kDenormScale)), x);
  const V shift = hn::IfThenElseZero(denormal, hn::Set(d, C::kDenormExp));
  const V y = hn::IfThenElse(hn::Lt(x, inf), vmath::LogCore(d, u, shift, zero), x);
  const V pole = hn::IfThenElse(hn::Eq(x, zero), hn::Neg(inf),
                                hn::Set(d, std::numeric_limits<T>::quiet_NaN()));
  return hn::IfThenElse(hn::Gt(x, zero), y, pole);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V VLog1p(D d, V x) {
  using T = hn::TFromD<D>;
  const V one = hn::Set(d, T{1});
  const V zero = hn::Zero(d);
  const V inf = hn::Set(d, std::numeric_limits<T>::infinity());
  const V u = hn::Add(x, one);
  // What rounding 1 + x lost, relative to it.
  const V lost =
      hn::IfThenElse(hn::Lt(x, one), hn::Sub(x, hn::Sub(u, one)), hn::Sub(one, hn::Sub(u, x)));
  V y = vmath::LogCore(d, u, zero, hn::Div(lost, u));
  y = hn::CopySign(y, x);
  y = hn::IfThenElse(hn::Lt(x, inf), y, x);
  const V pole = hn::IfThenElse(hn::Eq(u, zero), hn::Neg(inf),
                                hn::Set(d, std::numeric_limits<T>::quiet_NaN()));
  return hn::IfThenElse(hn::Gt(u, zero), y, pole);
}

// ---------------------------------------------------------------- trigonometry

namespace vmath {

/// sin or cos of |x| < kTrigMax: x = n pi/2 + r, then one of two polynomials by n mod 4.
template <bool kCos, class D, class V = hn::Vec<D>>
HWY_INLINE V SinCos(D d, V x) {
  using T = hn::TFromD<D>;
  using C = Constants<T>;
  using TI = hwy::MakeSigned<T>;
  const hn::RebindToSigned<D> di;
  const V magic = hn::Set(d, C::kRound);
  const V t = hn::MulAdd(x, hn::Set(d, static_cast<T>(0.63661977236758134308)), magic);
  const V nf = hn::Sub(t, magic);
  V r = hn::NegMulAdd(nf, hn::Set(d, C::kHalfPi[0]), x);
  r = hn::NegMulAdd(nf, hn::Set(d, C::kHalfPi[1]), r);
  r = hn::NegMulAdd(nf, hn::Set(d, C::kHalfPi[2]), r);
  r = hn::NegMulAdd(nf, hn::Set(d, C::kHalfPi[3]), r);
  auto n = hn::BitCast(di, t);  // its low bits
  if constexpr (kCos) n = hn::Add(n, hn::Set(di, TI{1}));
  const V z = hn::Mul(r, r);
  const V sin = hn::MulAdd(hn::Mul(z, r), Poly(d, z, C::kSin), r);
  const V cos = hn::MulAdd(hn::Mul(z, z), Poly(d, z, C::kCosine),
                           hn::NegMulAdd(hn::Set(d, T{0.5}), z, hn::Set(d, T{1})));
  const V sign = hn::And(hn::SignBit(d), hn::BitCast(d, hn::ShiftLeft<sizeof(T) * 8 - 2>(n)));
  const auto is_odd = hn::Ne(hn::And(n, hn::Set(di, TI{1})), hn::Zero(di));
  return hn::Xor(hn::IfThenElse(hn::RebindMask(d, is_odd), cos, sin), sign);
}

}  // namespace vmath

template <class D, class V = hn::Vec<D>>
HWY_INLINE V VSin(D d, V x) {
  using T = hn::TFromD<D>;
  const auto in_range = hn::Lt(hn::Abs(x), hn::Set(d, vmath::Constants<T>::kTrigMax));
  if (HWY_UNLIKELY(!hn::AllTrue(d, in_range)))
    return vmath::PerLane(d, x, [](T v) { return std::sin(v); });
  return hn::IfThenElse(hn::Eq(x, hn::Zero(d)), x, vmath::SinCos<false>(d, x));  // keeps -0
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V VCos(D d, V x) {
  using T = hn::TFromD<D>;
  const auto in_range = hn::Lt(hn::Abs(x), hn::Set(d, vmath::Constants<T>::kTrigMax));
  if (HWY_UNLIKELY(!hn::AllTrue(d, in_range)))
    return vmath::PerLane(d, x, [](T v) { return std::cos(v); });
  return vmath::SinCos<true>(d, x);
}

// ---------------------------------------------------------------- sigmoids and error functions

template <class D, class V = hn::Vec<D>>
HWY_INLINE V VTanh(D d, V x) {
  using T = hn::TFromD<D>;
  const V t = VExpm1(d, hn::Mul(hn::Abs(x), hn::Set(d, T{-2})));
  return hn::CopySign(hn::Div(t, hn::Add(t, hn::Set(d, T{2}))), x);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V VSigmoid(D d, V x) {
  using T = hn::TFromD<D>;
  const V one = hn::Set(d, T{1});
  const V e = VExp(d, hn::Neg(hn::Abs(x)));
  return hn::Div(hn::IfThenElse(hn::Lt(x, hn::Zero(d)), e, one), hn::Add(one, e));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V VSilu(D d, V x) {
  return hn::Mul(x, VSigmoid(d, x));
}

namespace vmath {

/// erfc(z) for z = sqrt(k) a, a >= 0: kHalf selects k = 1/2, else 1.
template <bool kHalf, class D, class V = hn::Vec<D>>
HWY_INLINE V Erfc(D d, V a) {
  using T = hn::TFromD<D>;
  using C = Constants<T>;
  const V one = hn::Set(d, T{1});
  const V magic = hn::Set(d, C::kRound);
  // From here on the result is 0.
  a = ClampAbove(d, a, static_cast<T>((sizeof(T) == 4 ? 15.5 : 39.5) * (kHalf ? 1 : 0.70710678)));
  // -k a^2 = n ln2 + r. The rounding error of a^2 would be multiplied by a^2 in the exponential, so
  // r is taken from the exact square: with fused multiply-add n ln2Hi, which is exact, goes first.
  const V h = hn::Mul(a, hn::Set(d, kHalf ? T{-0.5} : T{-1}));
  const V t = hn::MulAdd(h, hn::Mul(a, hn::Set(d, static_cast<T>(1.4426950408889634))), magic);
  const V nf = hn::Sub(t, magic);
  const V n_ln2 = hn::Mul(nf, hn::Set(d, C::kLn2Hi));
  V r;
  if constexpr (kHasFma) {
    r = hn::MulSub(h, a, n_ln2);
  } else {  // Dekker's product
    const hn::RebindToUnsigned<D> du;
    using TU = hwy::MakeUnsigned<T>;
    const TU mask = static_cast<TU>(~((TU{1} << (C::kMantissa / 2 + 1)) - 1));
    const V ah = hn::BitCast(d, hn::And(hn::BitCast(du, a), hn::Set(du, mask)));
    const V al = hn::Sub(a, ah);
    const V hi = hn::Mul(a, a);
    const V lo = hn::Add(hn::Add(hn::Sub(hn::Mul(ah, ah), hi), hn::Mul(hn::Add(ah, ah), al)),
                         hn::Mul(al, al));
    const V k = hn::Set(d, kHalf ? T{-0.5} : T{-1});
    r = hn::MulAdd(lo, k, hn::Sub(hn::Mul(hi, k), n_ln2));
  }
  r = hn::NegMulAdd(nf, hn::Set(d, C::kLn2Lo), r);
  constexpr double kC = kHalf ? 0.3 * 0.70710678118654752440 : 0.3;
  const V u = hn::Div(one, hn::MulAdd(a, hn::Set(d, static_cast<T>(kC)), one));
  // 2u - 1 as 1 - 2ca u: the rounding of u, which counts near 0, enters times a.
  const V v = hn::NegMulAdd(hn::Mul(a, hn::Set(d, static_cast<T>(2 * kC))), u, one);
  const V w = hn::Mul(u, Poly(d, v, C::kErfc));
  return hn::Mul(Scale(d, ExpNear0(d, r), t), w);
}

}  // namespace vmath

template <class D, class V = hn::Vec<D>>
HWY_INLINE V VErf(D d, V x) {
  using T = hn::TFromD<D>;
  const V a = hn::Abs(x);
  const V p = vmath::Poly(d, hn::Mul(x, x), vmath::Constants<T>::kErf);
  const V large = hn::CopySign(hn::Sub(hn::Set(d, T{1}), vmath::Erfc<false>(d, a)), x);
  return hn::IfThenElse(hn::Lt(a, hn::Set(d, static_cast<T>(0.9))), hn::MulAdd(x, p, x), large);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V VRelu(D d, V x) {
  return vmath::ClampBelow(d, x, hn::TFromD<D>{0});
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V VGelu(D d, V x) {
  using T = hn::TFromD<D>;
  // max(x, 0) - |x| Phi(-|x|): from the tail, so that small results keep their relative accuracy.
  // The maximum as x - min(x, 0), which is NaN for -inf, as -inf * Phi(-inf) is.
  const V a = vmath::ClampAbove(d, hn::Abs(x), T{64});
  const V positive = hn::Sub(x, vmath::MinOrSecond(d, x, hn::Zero(d)));
  return hn::MulAdd(hn::Mul(a, hn::Set(d, T{-0.5})), vmath::Erfc<true>(d, a), positive);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V VGeluTanh(D d, V x) {
  using T = hn::TFromD<D>;
  // x (1 + tanh(u)) / 2 = x sigmoid(2u)
  const V x2 = hn::Mul(x, x);
  const V s = hn::MulAdd(x2, hn::Set(d, static_cast<T>(2 * 0.79788456080286535588 * 0.044715)),
                         hn::Set(d, static_cast<T>(2 * 0.79788456080286535588)));
  return hn::Mul(x, VSigmoid(d, hn::Mul(x, s)));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V VSoftplus(D d, V x) {
  const V zero = hn::Zero(d);
  const V e = VExp(d, hn::Neg(hn::Abs(x)));
  return hn::Add(hn::IfThenElse(hn::Lt(x, zero), zero, x), VLog1p(d, e));
}

// ---------------------------------------------------------------- plain arithmetic

template <class D, class V = hn::Vec<D>>
HWY_INLINE V VNeg(D, V x) {
  return hn::Neg(x);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VAbs(D, V x) {
  return hn::Abs(x);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VSign(D d, V x) {
  using T = hn::TFromD<D>;
  const V zero = hn::Zero(d);
  const V one = hn::Set(d, T{1});
  const V y = hn::IfThenElse(hn::Eq(x, zero), zero, hn::CopySign(one, x));
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VSquare(D, V x) {
  return hn::Mul(x, x);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VSqrt(D, V x) {
  return hn::Sqrt(x);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VReciprocal(D d, V x) {
  return hn::Div(hn::Set(d, hn::TFromD<D>{1}), x);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VRsqrt(D d, V x) {
  return hn::Div(hn::Set(d, hn::TFromD<D>{1}), hn::Sqrt(x));
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VFloor(D, V x) {
  const V y = hn::Floor(x);
  return vmath::kFloorKeepsSign ? y : hn::CopySign(y, x);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VRound(D, V x) {
  const V y = hn::Round(x);
  return vmath::kFloorKeepsSign ? y : hn::CopySign(y, x);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VCeil(D, V x) {
  const V y = hn::Ceil(x);
  return vmath::kFloorKeepsSign ? y : hn::CopySign(y, x);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V VAdd(D, V a, V b) {
  return hn::Add(a, b);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VSub(D, V a, V b) {
  return hn::Sub(a, b);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VMul(D, V a, V b) {
  return hn::Mul(a, b);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VDiv(D, V a, V b) {
  return hn::Div(a, b);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VMaximum(D, V a, V b) {
  return hn::IfThenElse(hn::Or(hn::Gt(a, b), hn::IsNaN(a)), a, b);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VMinimum(D, V a, V b) {
  return hn::IfThenElse(hn::Or(hn::Lt(a, b), hn::IsNaN(a)), a, b);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V VPow(D d, V a, V b) {
  using T = hn::TFromD<D>;
  if (hn::AllTrue(d, hn::Eq(b, hn::Set(d, T{2})))) return hn::Mul(a, a);
  HWY_ALIGN T x[hn::MaxLanes(d)];
  HWY_ALIGN T y[hn::MaxLanes(d)];
  hn::Store(a, d, x);
  hn::Store(b, d, y);
  for (size_t i = 0; i < hn::Lanes(d); ++i) x[i] = std::pow(x[i], y[i]);
  return hn::Load(d, x);
}

// ---------------------------------------------------------------- comparisons

template <class D, class V = hn::Vec<D>>
HWY_INLINE hn::Mask<D> VEqual(D, V a, V b) {
  return hn::Eq(a, b);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE hn::Mask<D> VNotEqual(D, V a, V b) {
  return hn::Not(hn::Eq(a, b));  // true where either is NaN, which Ne is not
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE hn::Mask<D> VLess(D, V a, V b) {
  return hn::Lt(a, b);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE hn::Mask<D> VLessEqual(D, V a, V b) {
  return hn::Le(a, b);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE hn::Mask<D> VGreater(D, V a, V b) {
  return hn::Gt(a, b);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE hn::Mask<D> VGreaterEqual(D, V a, V b) {
  return hn::Ge(a, b);
}

// ---------------------------------------------------------------- activations

template <Activation kActivation, class D, class V = hn::Vec<D>>
HWY_INLINE V ActivateT(D d, V x) {
  if constexpr (kActivation == Activation::kRelu) return VRelu(d, x);
  if constexpr (kActivation == Activation::kGelu) return VGelu(d, x);
  if constexpr (kActivation == Activation::kGeluTanh) return VGeluTanh(d, x);
  if constexpr (kActivation == Activation::kSilu) return VSilu(d, x);
  if constexpr (kActivation == Activation::kSigmoid) return VSigmoid(d, x);
  if constexpr (kActivation == Activation::kTanh) return VTanh(d, x);
  return x;
}

/// A switch; hot loops hoist it with ActivateT.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Activate(D d, Activation activation, V x) {
  switch (activation) {
    case Activation::kNone:
      break;
    case Activation::kRelu:
      return VRelu(d, x);
    case Activation::kGelu:
      return VGelu(d, x);
    case Activation::kGeluTanh:
      return VGeluTanh(d, x);
    case Activation::kSilu:
      return VSilu(d, x);
    case Activation::kSigmoid:
      return VSigmoid(d, x);
    case Activation::kTanh:
      return VTanh(d, x);
  }
  return x;
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // LC_BACKENDS_CPU_VECTOR_MATH_INL_H_
