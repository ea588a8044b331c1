// The reference's 21 C functions, the version and the last message.
#include "lightning_core/lightning_core.h"
#include "runtime/capabilities.hpp"
#include "runtime/last_error.hpp"

namespace {

using lc::guarded;

lcError_t code(lc::ErrorCode c) { return static_cast<lcError_t>(c); }

lcDeviceKind device_kind(lc::DeviceKind kind) {
  return kind == lc::DeviceKind::kNull ? LC_DEVICE_CPU : static_cast<lcDeviceKind>(kind);
}

lc::DeviceKind parse(lcDeviceKind kind) {
  const auto number = static_cast<unsigned>(kind);
  if (number > static_cast<unsigned>(LC_DEVICE_METAL))
    lc::throw_arg("runtime", "device", "LC_DEVICE_CPU, LC_DEVICE_CUDA or LC_DEVICE_METAL",
                  lc::cat(number));
  return static_cast<lc::DeviceKind>(number);
}

lc::SyncPolicy parse(lcSyncPolicy policy) {
  const auto number = static_cast<unsigned>(policy.mode);
  if (number > static_cast<unsigned>(LC_SYNC_NEVER))
    lc::throw_arg("runtime", "mode", "LC_SYNC_AUTO, LC_SYNC_ALWAYS or LC_SYNC_NEVER",
                  lc::cat(number));
  return {static_cast<lc::SyncMode>(number), policy.trace_sync_boundary != 0};
}

lcBackendCapabilities convert(const lc::BackendCapabilities& c) {
  lcBackendCapabilities r;
  r.device = device_kind(c.device);
  r.built = c.built;
  r.available = c.available;
  r.compute_surface = c.compute_surface;
  r.memory_surface = c.memory_surface;
  r.sync_surface = c.sync_surface;
  r.profiling_surface = c.profiling_surface;
  r.runtime_trace_surface = c.runtime_trace_surface;
  r.sync_policy_surface = c.sync_policy_surface;
  r.memory_model = static_cast<lcMemoryModel>(c.memory_model);
  return r;
}

lcBackendInterfaceContract convert(const lc::BackendInterfaces& i) {
  lcBackendInterfaceContract r;
  r.device = device_kind(i.device);
  r.capabilities = convert(i.capabilities);
  r.compute = {i.compute.available, i.compute.op_dispatch_trace_surface, i.compute.driver_tag};
  r.memory = {i.memory.available, i.memory.allocator_surface, i.memory.memcpy_surface,
              static_cast<lcMemoryModel>(i.memory.memory_model), i.memory.driver_tag};
  r.sync = {i.sync.available, i.sync.sync_policy_surface, i.sync.trace_sync_boundary_surface,
            i.sync.driver_tag};
  r.profiler = {i.profiler.available, i.profiler.runtime_trace_surface,
                i.profiler.op_dispatch_trace_surface, i.profiler.trace_capacity,
                i.profiler.driver_tag};
  return r;
}

/// *out = make(), with a null `out` refused.
template <typename T, typename F>
lcError_t fill(T* out, const char* name, F&& make) {
  return code(guarded([&] {
    if (out == nullptr) lc::throw_arg("runtime", name, "a place for the result", "null");
    *out = make();
  }));
}

}  // namespace

extern "C" {

lcError_t lcMalloc(void** ptr, size_t size_bytes) {
  return code(lc::device_malloc(ptr, size_bytes));
}
lcError_t lcFree(void* ptr) { return code(lc::device_free(ptr)); }
lcError_t lcMemcpy(void* dst, const void* src, size_t size_bytes, lcMemcpyKind kind) {
  const auto number = static_cast<unsigned>(kind);
  return code(lc::device_memcpy(dst, src, size_bytes,
                                static_cast<lc::MemcpyKind>(number > 255 ? 255 : number)));
}
lcError_t lcDeviceSynchronize(void) {
  return code(guarded([] { lc::device_synchronize(); }));
}
lcError_t lcGetDeviceCount(int* count) {
  return fill(count, "count", [] { return lc::device_count(); });
}
lcError_t lcGetPreferredDeviceForInference(lcDeviceKind* device) {
  return fill(device, "device",
              [] { return device_kind(lc::preferred_device_for(lc::Workload::kInference).kind); });
}
lcError_t lcGetPreferredDeviceForTraining(lcDeviceKind* device) {
  return fill(device, "device",
              [] { return device_kind(lc::preferred_device_for(lc::Workload::kTraining).kind); });
}
int lcIsCudaAvailable(void) {
  int yes = 0;
  (void)guarded([&] { yes = lc::cuda_available() ? 1 : 0; });
  return yes;
}
int lcIsMetalAvailable(void) {
  int yes = 0;
  (void)guarded([&] { yes = lc::metal_available() ? 1 : 0; });
  return yes;
}
lcMemoryModel lcGetMemoryModel(void) { return static_cast<lcMemoryModel>(lc::memory_model()); }
const char* lcGetMemoryModelName(lcMemoryModel model) {
  const auto number = static_cast<unsigned>(model);
  return number > 1 ? "unknown" : lc::memory_model_name(static_cast<lc::MemoryModel>(number));
}
lcError_t lcSetDefaultSyncPolicy(lcSyncPolicy policy) {
  return code(guarded([&] { lc::set_default_sync_policy(parse(policy)); }));
}
lcSyncPolicy lcGetDefaultSyncPolicy(void) {
  const lc::SyncPolicy p = lc::default_sync_policy();
  return {static_cast<lcSyncMode>(p.mode), p.trace_sync_boundary ? 1 : 0};
}
lcError_t lcApplySyncPolicy(lcSyncPolicy policy) {
  return code(guarded([&] { lc::apply_sync_policy(parse(policy)); }));
}
lcError_t lcApplyDefaultSyncPolicy(void) {
  return code(guarded([] { lc::apply_default_sync_policy(); }));
}
lcError_t lcGetBackendCapabilities(lcDeviceKind device, lcBackendCapabilities* out_caps) {
  return fill(out_caps, "out_caps",
              [&] { return convert(lc::backend_capabilities(parse(device))); });
}
lcError_t lcGetActiveBackendCapabilities(lcBackendCapabilities* out_caps) {
  return fill(out_caps, "out_caps", [] { return convert(lc::active_backend_capabilities()); });
}
lcError_t lcGetBackendInterfaceContract(lcDeviceKind device,
                                        lcBackendInterfaceContract* out_contract) {
  return fill(out_contract, "out_contract",
              [&] { return convert(lc::backend_interfaces(parse(device))); });
}
lcError_t lcGetActiveBackendInterfaceContract(lcBackendInterfaceContract* out_contract) {
  return fill(out_contract, "out_contract",
              [] { return convert(lc::active_backend_interfaces()); });
}
const char* lcBackendName(void) {
  const char* name = "cpu";
  (void)guarded([&] { name = lc::backend_name(); });
  return name;
}
const char* lcGetErrorString(lcError_t error) {
  const auto number = static_cast<unsigned>(error);
  return lc::error_code_name(number > static_cast<unsigned>(LC_INVALID_TYPE)
                                 ? lc::ErrorCode::kUnknown
                                 : static_cast<lc::ErrorCode>(number));
}

lcError_t lcGetApiVersion(int* major, int* minor, int* patch) {
  if (major != nullptr) *major = LC_API_VERSION_MAJOR;
  if (minor != nullptr) *minor = LC_API_VERSION_MINOR;
  if (patch != nullptr) *patch = LC_API_VERSION_PATCH;
  return LC_SUCCESS;
}
const char* lcGetApiVersionString(void) { return LC_API_VERSION_STRING; }
const char* lcLastErrorMessage(void) { return lc::last_error(); }

}  // extern "C"
