// What each backend can do, the process's sync policy, and host-managed device memory: the
// reference's runtime functions, in one place for C, C++ and Python. Each call that the reference
// traces writes its event here.
#pragma once

#include <cstddef>
#include <string>

#include "lightning_core/device.hpp"
#include "lightning_core/error.hpp"
#include "lightning_core/policy.hpp"

namespace lc {

/// Values are the C API's.
enum class MemoryModel : uint8_t { kNativeDevice = 0, kHostManagedCompat = 1 };
/// "native-device", "host-managed-compat".
[[nodiscard]] const char* memory_model_name(MemoryModel model) noexcept;
/// Of the device this process prefers.
[[nodiscard]] MemoryModel memory_model() noexcept;

enum class Workload : uint8_t { kTraining = 0, kInference = 1 };
enum class MemcpyKind : uint8_t { kHostToHost, kHostToDevice, kDeviceToHost, kDeviceToDevice };

struct SyncPolicy {
  SyncMode mode = SyncMode::kAuto;
  bool trace_sync_boundary = false;
  friend bool operator==(const SyncPolicy&, const SyncPolicy&) = default;
};
/// "auto", "always", "never".
[[nodiscard]] const char* sync_mode_name(SyncMode mode) noexcept;
/// Throws kInvalidValue naming `argument` and the three words.
[[nodiscard]] SyncMode parse_sync_mode(std::string_view text, std::string_view argument = "mode");

struct BackendCapabilities {
  DeviceKind device = DeviceKind::kCpu;
  bool built = false;
  bool available = false;
  bool compute_surface = false;
  bool memory_surface = false;
  bool sync_surface = false;
  bool profiling_surface = false;
  bool runtime_trace_surface = true;
  bool sync_policy_surface = true;
  MemoryModel memory_model = MemoryModel::kHostManagedCompat;
};

struct ComputeInterface {
  bool available = false;
  bool op_dispatch_trace_surface = true;
  const char* driver_tag = "";
};
struct MemoryInterface {
  bool available = false;
  bool allocator_surface = false;
  bool memcpy_surface = true;
  MemoryModel memory_model = MemoryModel::kHostManagedCompat;
  const char* driver_tag = "";
};
struct SyncInterface {
  bool available = false;
  bool sync_policy_surface = true;
  bool trace_sync_boundary_surface = true;
  const char* driver_tag = "";
};
struct ProfilerInterface {
  bool available = true;
  bool runtime_trace_surface = true;
  bool op_dispatch_trace_surface = true;
  size_t trace_capacity = 0;
  const char* driver_tag = "runtime.trace.ring";
};
struct BackendInterfaces {
  DeviceKind device = DeviceKind::kCpu;
  BackendCapabilities capabilities;
  ComputeInterface compute;
  MemoryInterface memory;
  SyncInterface sync;
  ProfilerInterface profiler;
};

[[nodiscard]] BackendCapabilities backend_capabilities(DeviceKind kind);
[[nodiscard]] BackendInterfaces backend_interfaces(DeviceKind kind);
/// Of preferred_device().
[[nodiscard]] BackendCapabilities active_backend_capabilities();
[[nodiscard]] BackendInterfaces active_backend_interfaces();
/// Arrays of all devices, for tools.
[[nodiscard]] std::string capabilities_json();
[[nodiscard]] std::string interfaces_json();
[[nodiscard]] std::string devices_json();

// The rest writes one trace event a call, as the reference does.

/// "metal" where a Metal device exists, else "cuda", else "cpu"; LC_DEVICE does not change it.
[[nodiscard]] const char* backend_name();
[[nodiscard]] bool cuda_available();
[[nodiscard]] bool metal_available();
/// Accelerators, so 0 on a CPU-only machine.
[[nodiscard]] int device_count();
[[nodiscard]] Device preferred_device_for(Workload workload);

[[nodiscard]] SyncPolicy default_sync_policy() noexcept;
void set_default_sync_policy(SyncPolicy policy) noexcept;
/// `always` waits for every available backend; `auto` and `never` only record the boundary.
void apply_sync_policy(SyncPolicy policy);
void apply_default_sync_policy();
void device_synchronize();

// Host-managed memory: 64-byte aligned, known to the functions below until freed. Errors are
// returned, never thrown.
[[nodiscard]] ErrorCode device_malloc(void** out, size_t bytes) noexcept;
/// Null is fine; kInvalidValue for memory that device_malloc did not give or that was freed.
[[nodiscard]] ErrorCode device_free(void* p) noexcept;
/// kInvalidValue for null pointers, an unknown kind, and for reaching past a device_malloc block.
[[nodiscard]] ErrorCode device_memcpy(void* dst, const void* src, size_t bytes,
                                      MemcpyKind kind) noexcept;

}  // namespace lc
