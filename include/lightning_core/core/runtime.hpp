// The reference's C++ runtime functions. Headers under core/ never open namespace lc, so that a
// program may say `namespace lc = lightning_core;`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace lightning_core::runtime {

enum class Device { kCPU = 0, kCUDA, kMetal };
enum class WorkloadKind { kTraining = 0, kInference };
enum class Status {
  kSuccess = 0,
  kNotInitialized,
  kInvalidValue,
  kOutOfMemory,
  kNotSupported,
  kDriverError,
  kUnknown
};
enum class MemcpyKind { kHostToHost = 0, kHostToDevice, kDeviceToHost, kDeviceToDevice };
enum class MemoryModel { kNativeDevice = 0, kHostManagedCompat };
enum class RuntimeTraceEventType {
  kMallocDevice = 0,
  kFreeDevice,
  kMemcpy,
  kDeviceSynchronize,
  kApplySyncPolicy,
  kGetDeviceCount,
  kIsCudaAvailable,
  kIsMetalAvailable,
  kPreferredDeviceFor,
  kBackendName,
  kOpDispatch
};
enum class RuntimeTraceOpKind {
  kUnknown = 0,
  kMatMul,
  kVectorAdd,
  kMatrixSub,
  kMatrixDiv,
  kConv2dNchw,
  kAttentionForward
};
enum class SyncMode { kAuto = 0, kAlways, kNever };

struct RuntimeTraceEvent {
  RuntimeTraceEventType type{RuntimeTraceEventType::kBackendName};
  Status status{Status::kUnknown};
  std::uint64_t timestamp_ns{0};
  std::size_t size_bytes{0};  ///< kOpDispatch: a workload hint
  int detail0{0};
  int detail1{0};
};

struct SyncPolicy {
  SyncMode mode{SyncMode::kAuto};
  bool trace_sync_boundary{false};
};

struct BackendCapabilities {
  Device device{Device::kCPU};
  bool built{false};
  bool available{false};
  bool compute_surface{false};
  bool memory_surface{false};
  bool sync_surface{false};
  bool profiling_surface{false};
  bool runtime_trace_surface{false};
  bool sync_policy_surface{false};
  MemoryModel memory_model{MemoryModel::kHostManagedCompat};
};

struct ComputeInterfaceContract {
  bool available{false};
  bool op_dispatch_trace_surface{false};
  const char* driver_tag{"none"};
};
struct MemoryInterfaceContract {
  bool available{false};
  bool allocator_surface{false};
  bool memcpy_surface{false};
  MemoryModel memory_model{MemoryModel::kHostManagedCompat};
  const char* driver_tag{"none"};
};
struct SyncInterfaceContract {
  bool available{false};
  bool sync_policy_surface{false};
  bool trace_sync_boundary_surface{false};
  const char* driver_tag{"none"};
};
struct ProfilerInterfaceContract {
  bool available{false};
  bool runtime_trace_surface{false};
  bool op_dispatch_trace_surface{false};
  std::size_t trace_capacity{0};
  const char* driver_tag{"none"};
};
struct BackendInterfaceContract {
  Device device{Device::kCPU};
  BackendCapabilities capabilities{};
  ComputeInterfaceContract compute{};
  MemoryInterfaceContract memory{};
  SyncInterfaceContract sync{};
  ProfilerInterfaceContract profiler{};
};

// Host-managed memory on every build without CUDA. Null is a no-op for freeDevice.
Status mallocDevice(void** ptr, std::size_t size_bytes);
Status freeDevice(void* ptr);
Status memcpy(void* dst, const void* src, std::size_t size_bytes, MemcpyKind kind);
Status deviceSynchronize();
/// Accelerators: 0 on a machine that has none.
Status getDeviceCount(int* count);
bool isCudaAvailable();
bool isMetalAvailable();
Device preferredDeviceFor(WorkloadKind workload);
std::string backendName();
MemoryModel deviceMemoryModel();
const char* memoryModelName(MemoryModel model);
/// Reads the environment's configuration again.
void preloadRuntimeProfileEnv();

void setDefaultSyncPolicy(const SyncPolicy& policy);
SyncPolicy defaultSyncPolicy();
Status deviceSynchronizeWithPolicy(const SyncPolicy& policy);
Status applyDefaultSyncPolicy();
const char* syncModeName(SyncMode mode);

BackendCapabilities backendCapabilities(Device device);
BackendCapabilities activeBackendCapabilities();
BackendInterfaceContract backendInterfaceContract(Device device);
BackendInterfaceContract activeBackendInterfaceContract();

void setRuntimeTraceEnabled(bool enabled);
bool isRuntimeTraceEnabled();
void clearRuntimeTraceEvents();
std::vector<RuntimeTraceEvent> runtimeTraceEvents();
std::size_t runtimeTraceEventCapacity();
const char* runtimeTraceEventTypeName(RuntimeTraceEventType type);
const char* runtimeTraceOpKindName(RuntimeTraceOpKind op);
/// requested | selected << 4 | fallback << 8.
int encodeRuntimeTraceDispatchDetail(Device requested_device, Device selected_device,
                                     bool fallback);
/// False, and nothing written, for null pointers and for numbers that no device pair encodes to.
bool decodeRuntimeTraceDispatchDetail(int encoded, Device* requested_device,
                                      Device* selected_device, bool* fallback);
void traceOpDispatch(RuntimeTraceOpKind op, Device requested_device, Device selected_device,
                     bool fallback, std::size_t workload_hint = 0);

const char* getErrorString(Status status);
/// Ours: why this thread's last call that did not return kSuccess was refused.
const char* lastErrorMessage();

}  // namespace lightning_core::runtime
