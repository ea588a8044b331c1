// Between the reference's C++ names and ours.
#pragma once

#include "lightning_core/core/runtime.hpp"
#include "lightning_core/device.hpp"
#include "runtime/last_error.hpp"

namespace lc::compat {

namespace ref = lightning_core::runtime;

[[nodiscard]] inline ref::Status status_of(ErrorCode code) {
  return code == ErrorCode::kInvalidType ? ref::Status::kInvalidValue
                                         : static_cast<ref::Status>(code);
}

/// Throws kInvalidValue for a number that names no device.
[[nodiscard]] inline Device device_of(ref::Device device) {
  switch (device) {
    case ref::Device::kCPU:
      return {DeviceKind::kCpu, 0};
    case ref::Device::kCUDA:
      return {DeviceKind::kCuda, 0};
    case ref::Device::kMetal:
      return {DeviceKind::kMetal, 0};
  }
  throw_arg("runtime", "device", "kCPU, kCUDA or kMetal", cat(static_cast<int>(device)));
}

/// The reference has no word for the null device: it reads as the CPU.
[[nodiscard]] inline ref::Device device_of(DeviceKind kind) {
  return kind == DeviceKind::kNull ? ref::Device::kCPU : static_cast<ref::Device>(kind);
}

template <typename F>
[[nodiscard]] ref::Status guard(F&& f) noexcept {
  return status_of(guarded(std::forward<F>(f)));
}

/// size_t to int64_t; throws kInvalidValue past 2^63.
[[nodiscard]] inline int64_t extent(const char* op, const char* arg, size_t n) {
  if (n > static_cast<size_t>(INT64_MAX)) throw_arg(op, arg, "at most 2^63 - 1", cat(n));
  return static_cast<int64_t>(n);
}

}  // namespace lc::compat
