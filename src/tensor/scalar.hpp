// One element of any dtype to and from double. For references, printing and tests, not for kernels.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "lightning_core/tensor.hpp"

namespace lc {

inline float half_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t exponent = (h >> 10) & 0x1fu;
  const uint32_t fraction = h & 0x3ffu;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
}

/// Round to nearest even. From double, so that a float64 value is rounded once.
inline uint16_t double_to_half(double x) {
  const uint16_t sign = std::signbit(x) ? 0x8000u : 0u;
  if (std::isnan(x)) return static_cast<uint16_t>(sign | 0x7e00u);
  const double a = std::fabs(x);
  if (a >= 65520.0) return static_cast<uint16_t>(sign | 0x7c00u);
  if (a < 0x1p-14)  // subnormal: a multiple of 2^-24; rounding up to 2^-14 gives the right bits
    return static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(a * 0x1p24)));
  int e = 0;
  const double m = std::frexp(a, &e);                                // a = m * 2^e, m in [0.5, 1)
  const auto q = static_cast<uint32_t>(std::nearbyint(m * 2048.0));  // 1024..2048
  return static_cast<uint16_t>(sign | ((static_cast<uint32_t>(e + 14) << 10) + (q - 1024)));
}

inline float bfloat_to_float(uint16_t b) {
  return std::bit_cast<float>(static_cast<uint32_t>(b) << 16);
}

/// Round to nearest even, in one rounding from double.
inline uint16_t double_to_bfloat(double x) {
  if (std::isnan(x)) return 0x7fc0u | (std::signbit(x) ? 0x8000u : 0u);
  // Round to float towards odd first, so that the second rounding cannot double-round.
  float f = static_cast<float>(x);
  uint32_t bits = std::bit_cast<uint32_t>(f);
  const double back = f;
  if (back != x && std::isfinite(f)) {
    if (std::fabs(back) > std::fabs(x)) bits -= 1;
    bits |= 1u;
  }
  bits += 0x7fffu + ((bits >> 16) & 1u);
  if (std::isinf(f)) bits = std::bit_cast<uint32_t>(f);
  return static_cast<uint16_t>(bits >> 16);
}

inline double load_scalar(const void* p, DType dtype) {
  const auto read = [p]<typename T>(T value) {
    std::memcpy(&value, p, sizeof value);
    return value;
  };
  switch (dtype) {
    case DType::kFloat32:
      return static_cast<double>(read(float{}));
    case DType::kFloat64:
      return read(double{});
    case DType::kFloat16:
      return static_cast<double>(half_to_float(read(uint16_t{})));
    case DType::kBFloat16:
      return static_cast<double>(bfloat_to_float(read(uint16_t{})));
    case DType::kInt8:
      return static_cast<double>(read(int8_t{}));
    case DType::kUInt8:
      return static_cast<double>(read(uint8_t{}));
    case DType::kInt32:
      return static_cast<double>(read(int32_t{}));
    case DType::kInt64:
      return static_cast<double>(read(int64_t{}));
    case DType::kBool:
      return read(uint8_t{}) != 0 ? 1.0 : 0.0;
    case DType::kNone:
      break;
  }
  return 0;
}

/// Integers truncate towards zero and saturate; NaN becomes 0.
inline void store_scalar(void* p, DType dtype, double value) {
  const auto write = [p](auto v) { std::memcpy(p, &v, sizeof v); };
  const auto integer = [value](double low, double high) {
    if (std::isnan(value)) return 0.0;
    return std::trunc(value < low ? low : value > high ? high : value);
  };
  switch (dtype) {
    case DType::kFloat32:
      write(static_cast<float>(value));
      break;
    case DType::kFloat64:
      write(value);
      break;
    case DType::kFloat16:
      write(double_to_half(value));
      break;
    case DType::kBFloat16:
      write(double_to_bfloat(value));
      break;
    case DType::kInt8:
      write(static_cast<int8_t>(integer(-128, 127)));
      break;
    case DType::kUInt8:
      write(static_cast<uint8_t>(integer(0, 255)));
      break;
    case DType::kInt32:
      write(static_cast<int32_t>(integer(-0x1p31, 0x1p31 - 1)));
      break;
    case DType::kInt64:
      write(value >= 0x1p63 ? INT64_MAX : static_cast<int64_t>(integer(-0x1p63, 0x1p63)));
      break;
    case DType::kBool:
      write(static_cast<uint8_t>(value != 0 ? 1 : 0));
      break;
    case DType::kNone:
      break;
  }
}

/// Calls f(byte pointer to element, flat row-major index) for every element.
template <typename F>
void for_each_element(const View& v, F&& f) {
  const int64_t n = v.numel();
  const int64_t size = dtype_size(v.dtype);
  int64_t index[kMaxRank] = {};
  auto* p = static_cast<char*>(v.data);
  for (int64_t flat = 0; flat < n; ++flat) {
    f(p, flat);
    for (int i = v.rank() - 1; i >= 0; --i) {
      p += v.strides[i] * size;
      if (++index[i] < v.shape[i]) break;
      p -= v.strides[i] * size * v.shape[i];
      index[i] = 0;
    }
  }
}

}  // namespace lc
