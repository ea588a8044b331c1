// Backend: the boundary to a kind of device. No op in it: kernels come as KernelDefs.
#pragma once

#include <cstdint>
#include <span>

#include "lightning_core/device.hpp"
#include "lightning_core/kernel.hpp"

namespace lc {

class Backend {
 public:
  virtual ~Backend() = default;
  // Required.
  [[nodiscard]] virtual DeviceKind kind() const = 0;
  [[nodiscard]] virtual bool available() const = 0;
  [[nodiscard]] virtual const DeviceInfo& info(int index) = 0;
  /// Raw memory, 64-byte aligned; null when there is none. Called by the caching pool only.
  [[nodiscard]] virtual void* raw_alloc(int64_t bytes) = 0;
  virtual void raw_free(void* p, int64_t bytes) = 0;
  /// Between this device and the host, or within it. Synchronous.
  virtual void copy(void* dst, const void* src, int64_t bytes) = 0;
  virtual void synchronize() = 0;
  /// Candidates in the order the planner should try them, all ops mixed.
  [[nodiscard]] virtual std::span<const KernelDef> kernels() = 0;
  [[nodiscard]] virtual Encoder& encoder() = 0;
  // Optional.
  /// False for the null device: plans are made and traced, launches are not executed.
  [[nodiscard]] virtual bool computes() const { return true; }
};

/// Null where the backend is not built.
[[nodiscard]] Backend* backend(DeviceKind kind) noexcept;

}  // namespace lc
