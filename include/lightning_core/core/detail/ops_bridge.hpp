// The untyped functions under the reference's templates. Not for programs.
#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>

#include "lightning_core/core/runtime.hpp"

namespace lightning_core::ops::detail {

enum class Type { kFloat32, kFloat64 };

template <typename T>
constexpr Type typeOf() {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>,
                "lightning_core::ops: T is float or double");
  return std::is_same_v<T, float> ? Type::kFloat32 : Type::kFloat64;
}

enum class Elementwise { kVectorAdd, kMatrixSub, kMatrixDiv };

/// Bit i of `upload`: operand i.
struct Io {
  unsigned upload = 7;
  bool download = true;
  bool synchronize = true;
};

template <typename Policy>
Io ioOf(const Policy& p) {
  return {(p.upload_a ? 1u : 0u) | (p.upload_b ? 2u : 0u), p.download_out, p.synchronize};
}

struct ConvSizes {
  std::size_t batch, in_channels, in_h, in_w, out_channels, kernel_h, kernel_w;
  std::size_t stride_h, stride_w, pad_h, pad_w;
};

/// A vector is rows = 1.
runtime::Status elementwise(Elementwise op, Type type, const void* a, const void* b, void* out,
                            std::size_t rows, std::size_t cols, runtime::Device device, Io io);
/// `repeat` runs of the same product; 0 is refused.
runtime::Status matMul(Type type, const void* a, const void* b, void* out, std::size_t m,
                       std::size_t k, std::size_t n, runtime::Device device, Io io,
                       std::size_t repeat = 1);
/// `needs_bias`: a null bias is refused, as the functions with a policy do.
runtime::Status conv2d(Type type, const void* x, const void* w, const void* bias, void* out,
                       const ConvSizes& sizes, runtime::Device device, Io io, bool apply_relu,
                       bool needs_bias);

/// A resident session of one op with two operands, made on first use: sizes that no session can
/// have are refused by the calls. Safe from several threads.
class Resident {
 public:
  Resident(Elementwise op, Type type, std::size_t rows, std::size_t cols);
  /// Of a matrix product.
  Resident(Type type, std::size_t m, std::size_t k, std::size_t n);
  ~Resident();
  /// A copy has the sizes, and buffers of its own.
  Resident(const Resident& other);
  Resident& operator=(const Resident& other);

  /// Uploads a and b, and computes. `out` is not written.
  runtime::Status start(const void* a, const void* b) const;
  /// Computes `repeat` times on what is resident. An operand that is not resident yet is uploaded
  /// from the pointer given; null is refused.
  runtime::Status run(const void* a, const void* b, std::size_t repeat, bool synchronize) const;
  /// Run, wait, download to `out`.
  runtime::Status finish(const void* a, const void* b, void* out) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lightning_core::ops::detail
