// Vectors of float32 from and to memory of float16, bfloat16 or float32 itself; single values too.
// Rounded to nearest even; NaN stays NaN, quiet; denormals are kept. That is why AVX-512's bfloat16
// conversion is not used: it takes denormals for zero.

// Toggle guard: included once for every target.
#if defined(LC_BACKENDS_CPU_HALF_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LC_BACKENDS_CPU_HALF_INL_H_
#undef LC_BACKENDS_CPU_HALF_INL_H_
#else
#define LC_BACKENDS_CPU_HALF_INL_H_
#endif

#include <cstdint>
#include <cstring>

#include "backends/cpu/half.hpp"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// float16 conversions are instructions. Highway's emulation elsewhere loses infinities and NaN.
#undef LC_HAS_F16
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2 && !defined(HWY_DISABLE_F16C)) || HWY_ARCH_ARM_A64
#define LC_HAS_F16 1
#else
#define LC_HAS_F16 0
#endif

// ---------------------------------------------------------------- one value

HWY_INLINE float FloatOfBits(uint32_t u) {
  float f;
  hwy::CopySameSize(&u, &f);
  return f;
}
HWY_INLINE uint32_t BitsOfFloat(float f) {
  uint32_t u;
  hwy::CopySameSize(&f, &u);
  return u;
}

HWY_INLINE float ToFloat(float x) { return x; }
HWY_INLINE double ToFloat(double x) { return x; }

HWY_INLINE float ToFloat(Half h) {
  // Exponent rebased by a multiplication, which also normalises subnormals.
  const uint32_t sign = static_cast<uint32_t>(h.bits & 0x8000u) << 16;
  const uint32_t body = static_cast<uint32_t>(h.bits & 0x7fffu) << 13;
  const uint32_t scaled = BitsOfFloat(FloatOfBits(body) * 0x1p112f);
  const uint32_t special = body | 0x7f800000u;
  return FloatOfBits(sign | (body >= 0x0f800000u ? special : scaled));
}
HWY_INLINE float ToFloat(BFloat b) { return FloatOfBits(static_cast<uint32_t>(b.bits) << 16); }

HWY_INLINE Half ToHalf(float f) {
  const uint32_t bits = BitsOfFloat(f);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t a = bits & 0x7fffffffu;
  const uint32_t normal = (a - 0x38000000u + 0xfffu + ((a >> 13) & 1u)) >> 13;
  // Below 2^-14 the addition rounds to a multiple of 2^-24, to even.
  const uint32_t small = BitsOfFloat(FloatOfBits(a) + 0.5f) - 0x3f000000u;
  uint32_t h = a < 0x38800000u ? small : normal;
  h = a >= 0x477ff000u ? 0x7c00u : h;
  h = a > 0x7f800000u ? 0x7e00u : h;
  return Half{static_cast<uint16_t>(sign | h)};
}

HWY_INLINE BFloat ToBFloat(float f) {
  const uint32_t bits = BitsOfFloat(f);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t quiet = (bits >> 16) | 0x40u;
  return BFloat{static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded)};
}

// ---------------------------------------------------------------- vectors

template <class D, class T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> LoadFloats(D d, const T* p) {
  return hn::LoadU(d, p);
}

template <class D>
HWY_INLINE hn::Vec<D> LoadFloats(D d, const BFloat* p) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, bits)));
}

template <class D>
HWY_INLINE hn::Vec<D> LoadFloats(D d, const Half* p) {
#if LC_HAS_F16
  const hn::Rebind<hwy::float16_t, D> d16;
  return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(p)));
#else  // as ToFloat
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> du;
  const hn::RebindToSigned<D> di;
  const auto h = hn::PromoteTo(du, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p)));
  const auto sign = hn::ShiftLeft<16>(hn::And(h, hn::Set(du, 0x8000u)));
  const auto body = hn::ShiftLeft<13>(hn::And(h, hn::Set(du, 0x7fffu)));
  const auto scaled = hn::BitCast(du, hn::Mul(hn::BitCast(d, body), hn::Set(d, 0x1p112f)));
  const auto is_special =
      hn::RebindMask(du, hn::Gt(hn::BitCast(di, body), hn::Set(di, 0x0f800000 - 1)));
  const auto special = hn::Or(body, hn::Set(du, 0x7f800000u));
  return hn::BitCast(d, hn::Or(sign, hn::IfThenElse(is_special, special, scaled)));
#endif
}

template <class D, class T = hn::TFromD<D>>
HWY_INLINE void StoreFloats(hn::Vec<D> v, D d, T* p) {
  hn::StoreU(v, d, p);
}

template <class D>
HWY_INLINE void StoreFloats(hn::Vec<D> v, D, BFloat* p) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::BitCast(du, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
  const auto rounded = hn::Add(hn::Add(bits, hn::Set(du, 0x7fffu)), odd);
  const auto quiet = hn::Or(bits, hn::Set(du, 0x400000u));
  const auto result = hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), quiet, rounded);
  hn::StoreU(hn::TruncateTo(d16, hn::ShiftRight<16>(result)), d16, reinterpret_cast<uint16_t*>(p));
}

template <class D>
HWY_INLINE void StoreFloats(hn::Vec<D> v, D d, Half* p) {
#if LC_HAS_F16
  const hn::Rebind<hwy::float16_t, D> d16;
  hn::StoreU(hn::DemoteTo(d16, v), d16, reinterpret_cast<hwy::float16_t*>(p));
  (void)d;
#else  // as ToHalf
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> du;
  const hn::RebindToSigned<D> di;
  const auto bits = hn::BitCast(du, v);
  const auto sign = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 0x8000u));
  const auto a = hn::And(bits, hn::Set(du, 0x7fffffffu));
  const auto above = [&](int32_t bound) HWY_ATTR {
    return hn::RebindMask(du, hn::Gt(hn::BitCast(di, a), hn::Set(di, bound)));
  };
  const auto odd = hn::And(hn::ShiftRight<13>(a), hn::Set(du, 1u));
  const auto normal =
      hn::ShiftRight<13>(hn::Add(hn::Add(a, hn::Set(du, 0xfffu - 0x38000000u)), odd));
  const auto small = hn::Sub(hn::BitCast(du, hn::Add(hn::BitCast(d, a), hn::Set(d, 0.5f))),
                             hn::Set(du, 0x3f000000u));
  auto h = hn::IfThenElse(above(0x38800000 - 1), normal, small);
  h = hn::IfThenElse(above(0x477ff000 - 1), hn::Set(du, 0x7c00u), h);
  h = hn::IfThenElse(above(0x7f800000), hn::Set(du, 0x7e00u), h);
  hn::StoreU(hn::TruncateTo(d16, hn::Or(sign, h)), d16, reinterpret_cast<uint16_t*>(p));
#endif
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle guard
