#include "lightning_core/core/runtime.hpp"

#include "compat/bridge.hpp"
#include "lightning_core/trace.hpp"
#include "runtime/capabilities.hpp"
#include "runtime/config.hpp"

namespace lightning_core::runtime {
namespace {

using lc::compat::device_of;
using lc::compat::guard;
using lc::compat::status_of;

BackendCapabilities convert(const lc::BackendCapabilities& c) {
  BackendCapabilities r;
  r.device = device_of(c.device);
  r.built = c.built;
  r.available = c.available;
  r.compute_surface = c.compute_surface;
  r.memory_surface = c.memory_surface;
  r.sync_surface = c.sync_surface;
  r.profiling_surface = c.profiling_surface;
  r.runtime_trace_surface = c.runtime_trace_surface;
  r.sync_policy_surface = c.sync_policy_surface;
  r.memory_model = static_cast<MemoryModel>(c.memory_model);
  return r;
}

BackendInterfaceContract convert(const lc::BackendInterfaces& i) {
  BackendInterfaceContract r;
  r.device = device_of(i.device);
  r.capabilities = convert(i.capabilities);
  r.compute = {i.compute.available, i.compute.op_dispatch_trace_surface, i.compute.driver_tag};
  r.memory = {i.memory.available, i.memory.allocator_surface, i.memory.memcpy_surface,
              static_cast<MemoryModel>(i.memory.memory_model), i.memory.driver_tag};
  r.sync = {i.sync.available, i.sync.sync_policy_surface, i.sync.trace_sync_boundary_surface,
            i.sync.driver_tag};
  r.profiler = {i.profiler.available, i.profiler.runtime_trace_surface,
                i.profiler.op_dispatch_trace_surface, i.profiler.trace_capacity,
                i.profiler.driver_tag};
  return r;
}

lc::SyncPolicy convert(const SyncPolicy& p) {
  if (static_cast<unsigned>(p.mode) > static_cast<unsigned>(SyncMode::kNever))
    lc::throw_arg("runtime", "mode", "kAuto, kAlways or kNever", lc::cat(static_cast<int>(p.mode)));
  return {static_cast<lc::SyncMode>(p.mode), p.trace_sync_boundary};
}

}  // namespace

Status mallocDevice(void** ptr, std::size_t size_bytes) {
  return status_of(lc::device_malloc(ptr, size_bytes));
}
Status freeDevice(void* ptr) { return status_of(lc::device_free(ptr)); }
Status memcpy(void* dst, const void* src, std::size_t size_bytes, MemcpyKind kind) {
  // A number outside the enum must stay outside when narrowed.
  const auto number = static_cast<unsigned>(kind);
  return status_of(lc::device_memcpy(dst, src, size_bytes,
                                     static_cast<lc::MemcpyKind>(number > 255 ? 255 : number)));
}
Status deviceSynchronize() {
  return guard([] { lc::device_synchronize(); });
}

Status getDeviceCount(int* count) {
  return guard([&] {
    if (count == nullptr) lc::throw_arg("runtime", "count", "a place for the number", "null");
    *count = lc::device_count();
  });
}

bool isCudaAvailable() { return lc::cuda_available(); }
bool isMetalAvailable() { return lc::metal_available(); }
Device preferredDeviceFor(WorkloadKind workload) {
  return device_of(lc::preferred_device_for(static_cast<lc::Workload>(workload)).kind);
}
std::string backendName() { return lc::backend_name(); }
MemoryModel deviceMemoryModel() { return static_cast<MemoryModel>(lc::memory_model()); }
const char* memoryModelName(MemoryModel model) {
  return lc::memory_model_name(static_cast<lc::MemoryModel>(model));
}
void preloadRuntimeProfileEnv() { lc::reload_config(); }

void setDefaultSyncPolicy(const SyncPolicy& policy) {
  (void)guard([&] { lc::set_default_sync_policy(convert(policy)); });
}
SyncPolicy defaultSyncPolicy() {
  const lc::SyncPolicy p = lc::default_sync_policy();
  return {static_cast<SyncMode>(p.mode), p.trace_sync_boundary};
}
Status deviceSynchronizeWithPolicy(const SyncPolicy& policy) {
  return guard([&] { lc::apply_sync_policy(convert(policy)); });
}
Status applyDefaultSyncPolicy() {
  return guard([] { lc::apply_default_sync_policy(); });
}
const char* syncModeName(SyncMode mode) {
  return lc::sync_mode_name(static_cast<lc::SyncMode>(mode));
}

BackendCapabilities backendCapabilities(Device device) {
  BackendCapabilities caps;
  (void)guard([&] { caps = convert(lc::backend_capabilities(device_of(device).kind)); });
  return caps;
}
BackendCapabilities activeBackendCapabilities() {
  return convert(lc::active_backend_capabilities());
}
BackendInterfaceContract backendInterfaceContract(Device device) {
  BackendInterfaceContract contract;
  (void)guard([&] { contract = convert(lc::backend_interfaces(device_of(device).kind)); });
  return contract;
}
BackendInterfaceContract activeBackendInterfaceContract() {
  return convert(lc::active_backend_interfaces());
}

void setRuntimeTraceEnabled(bool enabled) { lc::set_trace_enabled(enabled); }
bool isRuntimeTraceEnabled() { return lc::trace_enabled(); }
void clearRuntimeTraceEvents() { lc::clear_trace(); }

std::vector<RuntimeTraceEvent> runtimeTraceEvents() {
  std::vector<RuntimeTraceEvent> events;
  for (const lc::TraceEvent& e : lc::trace_events()) {
    RuntimeTraceEvent r;
    r.type = static_cast<RuntimeTraceEventType>(e.type);
    r.status = status_of(e.status);
    r.timestamp_ns = e.timestamp_ns;
    r.size_bytes = static_cast<std::size_t>(e.size_bytes);
    r.detail0 = static_cast<int>(e.detail0);
    r.detail1 = static_cast<int>(e.detail1);
    events.push_back(r);
  }
  return events;
}

std::size_t runtimeTraceEventCapacity() { return lc::kTraceCapacity; }
const char* runtimeTraceEventTypeName(RuntimeTraceEventType type) {
  if (static_cast<unsigned>(type) > static_cast<unsigned>(RuntimeTraceEventType::kOpDispatch))
    return "unknown";
  return lc::trace_type_name(static_cast<lc::TraceType>(type));
}

const char* runtimeTraceOpKindName(RuntimeTraceOpKind op) {
  switch (op) {
    case RuntimeTraceOpKind::kUnknown:
      break;
    case RuntimeTraceOpKind::kMatMul:
      return "matmul";
    case RuntimeTraceOpKind::kVectorAdd:
      return "vector_add";
    case RuntimeTraceOpKind::kMatrixSub:
      return "matrix_sub";
    case RuntimeTraceOpKind::kMatrixDiv:
      return "matrix_div";
    case RuntimeTraceOpKind::kConv2dNchw:
      return "conv2d_nchw";
    case RuntimeTraceOpKind::kAttentionForward:
      return "attention_forward";
  }
  return "unknown";
}

int encodeRuntimeTraceDispatchDetail(Device requested_device, Device selected_device,
                                     bool fallback) {
  return static_cast<int>(requested_device) | static_cast<int>(selected_device) << 4 |
         (fallback ? 1 : 0) << 8;
}

bool decodeRuntimeTraceDispatchDetail(int encoded, Device* requested_device,
                                      Device* selected_device, bool* fallback) {
  const int requested = encoded & 0xf;
  const int selected = encoded >> 4 & 0xf;
  if (requested_device == nullptr || selected_device == nullptr || fallback == nullptr ||
      encoded < 0 || encoded > 0x1ff || requested > 2 || selected > 2)
    return false;
  *requested_device = static_cast<Device>(requested);
  *selected_device = static_cast<Device>(selected);
  *fallback = (encoded >> 8 & 1) != 0;
  return true;
}

void traceOpDispatch(RuntimeTraceOpKind op, Device requested_device, Device selected_device,
                     bool fallback, std::size_t workload_hint) {
  (void)guard([&] {
    lc::TraceEvent event;
    event.type = lc::TraceType::kOpDispatch;
    event.op = runtimeTraceOpKindName(op);
    event.requested = device_of(requested_device).kind;
    event.selected = device_of(selected_device).kind;
    event.fallback = fallback;
    event.size_bytes = workload_hint;
    event.detail0 = static_cast<int64_t>(op);
    event.detail1 = encodeRuntimeTraceDispatchDetail(requested_device, selected_device, fallback);
    lc::trace(event);
  });
}

const char* getErrorString(Status status) {
  if (static_cast<unsigned>(status) > static_cast<unsigned>(Status::kUnknown))
    return lc::error_code_name(lc::ErrorCode::kUnknown);
  return lc::error_code_name(static_cast<lc::ErrorCode>(status));
}
const char* lastErrorMessage() { return lc::last_error(); }

}  // namespace lightning_core::runtime
