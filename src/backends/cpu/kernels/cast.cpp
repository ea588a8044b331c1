// cast: conversion among all dtypes. float16 and bfloat16 from and to float32 go through vectors of
// their own; the other loops are plain C++ that the compiler vectorises for each instruction set.
#include <bit>
#include <limits>
#include <type_traits>

#include "backends/cpu/convert.hpp"
#include "backends/cpu/kernel_list.hpp"
#include "backends/cpu/simd.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/kernels/cast.cpp"
#include "hwy/foreach_target.h"
#include "backends/cpu/half-inl.h"
#include "hwy/highway.h"

#ifndef LC_CAST_TYPES
#define LC_CAST_TYPES
namespace lc::cpu {
struct Bool {
  uint8_t byte;
};
}  // namespace lc::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace lc::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Double to float towards odd, so that rounding it again to fewer bits rounds once in all.
HWY_INLINE float RoundToOdd(double x) {
  const float f = static_cast<float>(x);
  const double back = static_cast<double>(f);
  uint32_t bits = BitsOfFloat(f);
  const double ax = x < 0 ? -x : x;
  const double ab = back < 0 ? -back : back;
  bits -= ab > ax ? 1u : 0u;  // truncated, also from infinity
  bits |= ab != ax && ax == ax && ax <= 1.7976931348623157e308 ? 1u : 0u;
  return FloatOfBits(bits);
}

template <typename To, typename From>
HWY_INLINE To FloatToInt(From x) {
  // Bounds are powers of two, exact in From.
  constexpr From kHigh =
      static_cast<From>(uint64_t{1} << (sizeof(To) * 8 - std::is_signed_v<To> - 1)) * From{2};
  constexpr From kLow = std::is_signed_v<To> ? -kHigh : From{0};
  const bool inside = x >= kLow && x < kHigh;
  const To edge = x >= kHigh ? std::numeric_limits<To>::max()
                  : x < kLow ? std::numeric_limits<To>::min()
                             : To{0};
  // Through int64 or int32, which have conversion instructions.
  using Wide = std::conditional_t<sizeof(To) == 8, int64_t, int32_t>;
  const Wide w = static_cast<Wide>(inside ? x : From{0});
  return inside ? static_cast<To>(w) : edge;
}

template <typename To, typename From>
HWY_INLINE To ConvertOne(From x) {
  if constexpr (std::is_same_v<From, Half>) {
    if constexpr (std::is_same_v<To, Bool>)
      return Bool{static_cast<uint8_t>((x.bits & 0x7fffu) != 0)};
    else
      return ConvertOne<To>(ToFloat(x));
  } else if constexpr (std::is_same_v<From, BFloat>) {
    return ConvertOne<To>(ToFloat(x));
  } else if constexpr (std::is_same_v<From, Bool>) {
    return ConvertOne<To>(static_cast<uint8_t>(x.byte != 0));
  } else if constexpr (std::is_same_v<To, Bool>) {
    return Bool{static_cast<uint8_t>(x != 0)};
  } else if constexpr (std::is_same_v<To, Half> || std::is_same_v<To, BFloat>) {
    float f;
    if constexpr (std::is_same_v<From, double> || sizeof(From) >= 4)
      f = std::is_same_v<From, float> ? static_cast<float>(x) : RoundToOdd(static_cast<double>(x));
    else
      f = static_cast<float>(x);
    if constexpr (std::is_same_v<To, Half>)
      return ToHalf(f);
    else
      return ToBFloat(f);
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    return FloatToInt<To>(x);
  } else {
    return static_cast<To>(x);
  }
}

template <typename From, typename To>
void Cast(const void* in, void* out, int64_t n) {
  const From* HWY_RESTRICT x = static_cast<const From*>(in);
  To* HWY_RESTRICT y = static_cast<To*>(out);
  int64_t i = 0;
  if constexpr (kIsHalf<From> ? std::is_same_v<To, float>
                              : kIsHalf<To> && std::is_same_v<From, float>) {
    const hn::ScalableTag<float> d;
    const auto lanes = static_cast<int64_t>(hn::Lanes(d));
    for (; i + 2 * lanes <= n; i += 2 * lanes) {
      const auto a = LoadFloats(d, x + i);
      const auto b = LoadFloats(d, x + i + lanes);
      StoreFloats(a, d, y + i);
      StoreFloats(b, d, y + i + lanes);
    }
    if (i < n && n >= lanes) {  // the last vectors may overlap what was written
      if (i + lanes < n) StoreFloats(LoadFloats(d, x + i), d, y + i);
      StoreFloats(LoadFloats(d, x + n - lanes), d, y + n - lanes);
      return;
    }
  }
  for (; i < n; ++i) y[i] = ConvertOne<To>(x[i]);
}

template <typename From>
CastFn CastTo(DType to) {
  switch (to) {
    case DType::kFloat32:
      return Cast<From, float>;
    case DType::kFloat64:
      return Cast<From, double>;
    case DType::kFloat16:
      return Cast<From, Half>;
    case DType::kBFloat16:
      return Cast<From, BFloat>;
    case DType::kInt8:
      return Cast<From, int8_t>;
    case DType::kUInt8:
      return Cast<From, uint8_t>;
    case DType::kInt32:
      return Cast<From, int32_t>;
    case DType::kInt64:
      return Cast<From, int64_t>;
    case DType::kBool:
      return Cast<From, Bool>;
    case DType::kNone:
      break;
  }
  return nullptr;
}

CastFn FindCast(DType from, DType to) {
  switch (from) {
    case DType::kFloat32:
      return CastTo<float>(to);
    case DType::kFloat64:
      return CastTo<double>(to);
    case DType::kFloat16:
      return CastTo<Half>(to);
    case DType::kBFloat16:
      return CastTo<BFloat>(to);
    case DType::kInt8:
      return CastTo<int8_t>(to);
    case DType::kUInt8:
      return CastTo<uint8_t>(to);
    case DType::kInt32:
      return CastTo<int32_t>(to);
    case DType::kInt64:
      return CastTo<int64_t>(to);
    case DType::kBool:
      return CastTo<Bool>(to);
    case DType::kNone:
      break;
  }
  return nullptr;
}

}  // namespace lc::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lc::cpu {
HWY_EXPORT(FindCast);

CastFn cast_function(DType from, DType to) {
  return from == to ? nullptr : HWY_DYNAMIC_DISPATCH(FindCast)(from, to);
}

namespace {

void launch_cast(const Launch& launch) { strided_convert(launch.in[0], launch.out[0]); }

void prepare_cast(const OpCall& call, const DeviceInfo&, Prepared& prepared) {
  prepared.estimate_ns = static_cast<double>(call.out[0].numel()) * 0.3;
}

}  // namespace
}  // namespace lc::cpu

LC_KERNELS(cast) {
  kernels.push_back({.op = "cast",
                     .name = "strided",
                     .isa = lc::cpu::isa_name(),
                     .prepare = lc::cpu::prepare_cast,
                     .launch = lc::cpu::launch_cast,
                     .floats = kFloatTypes});
}
#endif
